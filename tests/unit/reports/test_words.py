from datetime import UTC, datetime, timedelta

import pytest

from pipeline.reports import words

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(("value", "text"), [(0.00123, "1.2e-3"), (0.001, "1e-3"), (0.05, "5e-2"), (1.0, "1e0")])
def test_learning_rate_is_short(value: float, text: str) -> None:
    assert words.rate(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(12.34, "12.3 s"), (59.96, "1:00"), (60, "1:00"), (245, "4:05"), (3599.7, "1:00:00"), (3723, "1:02:03")],
)
def test_duration_takes_the_unit_that_fits(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(999, "999 B"), (812_000, "812 kB"), (999_600, "1.0 MB"), (2_100_000_000, "2.1 GB")]
)
def test_size_takes_the_unit_that_fits(count: int, text: str) -> None:
    assert words.size(count) == text


@pytest.mark.parametrize(
    ("ago", "text"),
    [
        (timedelta(minutes=5), "5 min"),
        (timedelta(hours=3), "3 h"),
        (timedelta(days=12), "12 days"),
        (timedelta(seconds=-3), "0 min"),
    ],
)
def test_age_takes_the_unit_that_fits(ago: timedelta, text: str) -> None:
    assert words.age(NOW - ago, NOW) == text


def test_missing_score_is_a_dash() -> None:
    assert (words.score(None), words.score(0.9134)) == ("-", "0.913")
    assert (words.score(-0.62, "spearman"), words.score(-0.62, "rmse")) == ("-0.620", "0.620")
    assert words.interval(0.8531, 1.0) == ".853-1.000"
    assert words.interval(-0.0321, 0.9, "pearson") == "-.032 to .900"
    assert words.interval(-0.75, -0.5, "rmse") == ".500-.750"


def test_interval_leaves_out_the_zero_but_not_the_one() -> None:
    assert words.interval(-2.758, 0.0, "rmse") == ".000-2.758"
    assert words.interval(0.853, 1.0) == ".853-1.000"
    assert words.interval(-0.041, 0.127) == "-.041 to .127"
    assert words.interval(-1.0, -0.5) == "-1.000 to -.500"

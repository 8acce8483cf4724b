import pytest

from pipeline.reports import plots
from pipeline.reports.comparison import (
    ComparisonRow,
    comparison_markdown,
    comparison_records,
    comparison_table,
    costs,
    mean_and_spread,
)
from pipeline.reports.results import TrialResult


def row(job: str, method: str, test: tuple[float, ...], **changes: object) -> ComparisonRow:
    values = {
        "job": job,
        "method": method,
        "width": None,
        "learning_rate": 1e-3,
        "metric": "accuracy",
        "validation": test,
        "test": test,
        "low": min(test) - 0.02,
        "high": max(test) + 0.02,
        "baseline": 0.5,
        "num_trained": 1000,
        "share": 0.01,
        "epoch_s": 12.0,
        "best_s": 24.0,
        "peak_bytes": 10**9,
        "bundle_bytes": 10**6,
    }
    return ComparisonRow(**{**values, **changes})  # type: ignore[arg-type]


ROWS = [
    row("b/x", "probe", (0.6, 0.62)),
    row("b/x", "full", (0.9, 0.9), num_trained=10**6),
    row("a/y", "lora", (0.7,), width=8),
]


def test_scores_are_told_with_their_spread() -> None:
    assert mean_and_spread([0.87, 0.88, 0.89]) == "0.880 ± 0.010"
    assert mean_and_spread([0.5]) == "0.500"


def test_the_best_method_of_a_job_is_first_and_jobs_keep_their_order() -> None:
    lines = comparison_markdown(ROWS).splitlines()
    assert [line.split(" | ")[:2] for line in lines[2:]] == [["| b/x", "full"], ["| b/x", "probe"], ["| a/y", "lora"]]
    assert "| - |" in lines[2] and "| 8 |" in lines[4] and "0.610 ± 0.014" in lines[3]
    assert [column.title for column in comparison_table(ROWS).columns][:2] == ["job", "method"]


def test_methods_that_cannot_be_told_apart_from_the_best_are_marked() -> None:
    rows = [
        row("a/x", "houlsby", (0.80, 0.82), low=0.79, high=0.84),
        row("a/x", "full", (0.83,), low=0.81, high=0.85),
        row("a/x", "probe", (0.70,), low=0.66, high=0.80),
        row("b/x", "probe", (0.5,)),
    ]
    marks = {}
    for line in comparison_markdown(rows).splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        marks[cells[0], cells[1]] = cells[7], cells[8]
    assert marks == {
        ("a/x", "full"): (".810-.850", "best"),
        ("a/x", "houlsby"): (".790-.840", "not told apart from the best"),
        ("a/x", "probe"): (".660-.800", ""),
        ("b/x", "probe"): (".480-.520", ""),
    }


def test_records_hold_every_seed() -> None:
    records = comparison_records(ROWS)
    assert records[0]["test"] == (0.6, 0.62) and records[0]["test_mean"] == pytest.approx(0.61)


def test_costs_are_medians_over_the_epochs_of_all_seeds_and_the_largest_peak(
    results_of_two_seeds: list[TrialResult],
) -> None:
    assert costs(results_of_two_seeds) == {"epoch_s": 10.5, "best_s": 17.0, "peak_bytes": 9}


@pytest.fixture
def results_of_two_seeds() -> list[TrialResult]:
    first = TrialResult(trial=None, train_s={1: 10.0, 2: 11.0}, peak_bytes=7, best_epoch=2)  # type: ignore[arg-type]
    second = TrialResult(trial=None, train_s={1: 13.0, 2: 9.0}, peak_bytes=9, best_epoch=1)  # type: ignore[arg-type]
    return [first, second]


def test_the_picture_has_a_panel_a_job_and_a_point_a_method() -> None:
    figure = plots.comparison_figure(ROWS)
    assert [axes.get_title() for axes in figure.axes] == ["b/x", "a/y"]
    assert [len(axes.containers) for axes in figure.axes] == [2, 1]
    assert {axes.get_xscale() for axes in figure.axes} == {"log"}

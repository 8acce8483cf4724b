"""Correlations against scipy's, with weights and ties, and what is constant."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr  # type: ignore[import-untyped]

from pipeline.core.tasks import metrics
from pipeline.core.tasks.correlation import PEARSON, SPEARMAN, Correlation

ROWS = np.array([[1.0, 2.0], [2.0, 1.0], [3.0, 4.0], [3.0, 5.0], [5.0, 5.0]])


def test_values_are_those_that_are_written_in_textbooks() -> None:
    assert metrics.value_of(PEARSON, ROWS) == pytest.approx(0.7794, abs=1e-4)
    assert metrics.value_of(SPEARMAN, ROWS) == pytest.approx(0.8158, abs=1e-4)
    straight = np.array([[1.0, 3.0], [2.0, 5.0], [4.0, 9.0]])
    assert metrics.value_of(PEARSON, straight) == metrics.value_of(SPEARMAN, straight) == pytest.approx(1)


@pytest.mark.parametrize(("metric", "theirs"), [(PEARSON, pearsonr), (SPEARMAN, spearmanr)])
def test_values_are_scipys_and_a_weight_is_so_many_equal_rows(metric: Correlation, theirs: object) -> None:
    rng = np.random.default_rng(0)
    rows = np.stack([rng.normal(size=80).round(1), rng.normal(size=80).round(1)], axis=1) + 1e6
    times = rng.integers(0, 4, 80)
    repeated = np.repeat(rows, times, axis=0)
    (found,) = metric.on(rows)(times[None].astype(np.float64))
    assert callable(theirs)
    assert found == pytest.approx(theirs(repeated[:, 0], repeated[:, 1]).statistic, abs=1e-8)
    assert found == pytest.approx(metrics.value_of(metric, repeated), abs=1e-8)


@pytest.mark.parametrize("metric", [PEARSON, SPEARMAN])
def test_a_side_that_is_constant_tells_nothing(metric: Correlation) -> None:
    for rows in ([[1.0, 0.1], [2.0, 0.1], [3.0, 0.1]], [[2.5, 1.0], [2.5, 2.0]], [[1.0, 1.0]]):
        assert metrics.value_of(metric, np.array(rows)) == 0.0
    (found,) = metric.on(ROWS)(np.array([[0.0, 0.0, 1.0, 1.0, 0.0]]))
    assert found == 0.0  # both drawn rows have a true value of 3


@pytest.mark.parametrize(("metric", "tolerance"), [(PEARSON, 1e-9), (SPEARMAN, 4e-3)])
def test_a_row_with_another_answer_changes_the_value_by_so_much(metric: Correlation, tolerance: float) -> None:
    rng = np.random.default_rng(1)
    gold = rng.normal(size=100)
    rows = np.stack([gold, gold + rng.normal(size=100)], axis=1)
    others = np.stack([gold, gold + rng.normal(size=100)], axis=1)
    others[:50] = rows[:50]
    swapped = metric.swapped(rows, others, np.ones(100))
    assert swapped[:50] == pytest.approx(metrics.value_of(metric, rows), abs=1e-9)
    for i in range(50, 100):
        one = rows.copy()
        one[i] = others[i]
        assert swapped[i] == pytest.approx(metrics.value_of(metric, one), abs=tolerance)


def test_an_interval_reaches_from_minus_one_to_one_and_is_never_narrower_than_the_rule_of_three() -> None:
    straight = np.arange(50.0)
    low, high = metrics.interval(np.stack([straight, straight], axis=1), SPEARMAN)
    assert [low, high] == pytest.approx([0.9262, 1.0], abs=1e-4)  # 1 - 3.689 / 50
    low, high = metrics.interval(np.stack([straight, -straight], axis=1), PEARSON)
    assert [low, high] == pytest.approx([-1.0, -0.9262], abs=1e-4)


def test_the_root_of_squared_errors_is_negative_and_may_be_below_minus_one() -> None:
    counts = metrics.value_counts([4.0, 0.0, 16.0, 16.0])
    assert metrics.value_of(metrics.minus_root_of, counts) == -3.0
    low, high = metrics.interval(counts, metrics.minus_root_of)
    assert low < -3.5 and -2.5 < high <= 0

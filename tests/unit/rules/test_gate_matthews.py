"""The gate on Matthews' correlation: rows are resampled, and an error weighs more than its share of the rows."""

from collections.abc import Sequence

import pytest

from pipeline.config import GateConfig, TaskConfig
from pipeline.core.data.rows import Row
from pipeline.core.tasks.kinds import restore
from pipeline.core.tasks.metrics import label_counts, matthews_of
from pipeline.rules.evidence import Evidence, SliceEvidence
from pipeline.rules.gate import Decision, decide
from pipeline.rules.power import power_of

GOLD = ["a"] * 700 + ["b"] * 300


def said(wrong: int) -> list[str]:
    """Answers of which so many of each label are wrong."""
    return ["b"] * wrong + ["a"] * (700 - wrong) + ["a"] * wrong + ["b"] * (300 - wrong)


def decided(champion: Sequence[str], challenger: Sequence[str], rows: int = 1000) -> Decision:
    past = SliceEvidence(
        name="past",
        champion=label_counts(GOLD, champion)[-rows:],
        challenger=label_counts(GOLD, challenger)[-rows:],
        statistic=matthews_of,
    )
    return decide(Evidence(past=[past]), GateConfig())


def test_an_equal_challenger_passes_and_a_worse_one_does_not() -> None:
    (check,) = (one for one in decided(said(30), said(30)).checks if one.name == "past")
    assert check.passed and check.champion == check.challenger == pytest.approx(0.857143, abs=1e-6)
    worse = decided(said(20), said(50))
    assert not worse.promote and worse.checks[0].difference == pytest.approx(-0.142857, abs=1e-6)


def test_of_identical_answers_the_bound_is_the_rule_of_three_in_units_of_the_correlation() -> None:
    # 3 / n leave the accuracy an error of 0.3 points; each takes 1 / (1 - 0.7^2 - 0.3^2) = 2.38 times as much here.
    (check,) = (one for one in decided(said(30), said(30)).checks if one.name == "past")
    assert check.low == pytest.approx(-0.003 * 2.381, rel=0.01)


def test_rows_of_one_label_show_nothing_of_a_correlation() -> None:
    decision = decided(said(0), said(0), rows=300)
    assert decision.decided_by == "evidence" and "no rows that carry the metric" in decision.reason


def test_how_large_a_loss_the_rows_can_show_is_said_in_units_of_the_correlation() -> None:
    task = restore(TaskConfig(name="cola", kind="classification", metric="matthews"), ["a", "b"])
    plain = restore(TaskConfig(name="cola", kind="classification"), ["a", "b"])
    rows = [Row({"text": str(i), "label": label}, f"x:{i}", str(i), str(i)) for i, label in enumerate(GOLD)]
    shown, of_accuracy = (power_of(one, rows, GateConfig()) for one in (task, plain))
    assert shown.loss == pytest.approx(of_accuracy.loss / (1 - 0.49 - 0.09))
    assert power_of(task, rows[:300], GateConfig()).carrying == (0,)

"""The gate on metrics that few rows may carry: F1 of entities, and macro F1 of labels."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.config import GateConfig
from pipeline.core.tasks import metrics
from pipeline.core.tasks.correlation import Correlation
from pipeline.rules.evidence import Evidence, SliceEvidence
from pipeline.rules.gate import decide
from tests.unit.rules.decided import checks, numbers, on_past


def spans(seed: int, rows: int = 300) -> metrics.Counts:
    """Counts of `f1_of`: up to three entities a row, of which most are found."""
    rng = np.random.default_rng(seed)
    gold = np.random.default_rng(0).integers(0, 4, rows)
    found = rng.binomial(gold, 0.8)
    return np.stack([found, found + rng.integers(0, 2, rows), gold], axis=1).astype(np.float64)


def drawn_by_row(one: SliceEvidence, resamples: int) -> NDArray[np.float64]:
    """The plain paired bootstrap, row by row."""
    assert one.champion is not None and not isinstance(one.statistic, Correlation)
    rng = np.random.default_rng(1)
    rows_RN = rng.integers(0, len(one.champion), (resamples, len(one.champion)))
    return one.statistic(one.challenger[rows_RN].sum(1)) - one.statistic(one.champion[rows_RN].sum(1))


def test_f1_is_that_of_the_sums_and_its_bounds_those_of_the_plain_bootstrap() -> None:
    one = SliceEvidence(name="a", champion=spans(1), challenger=spans(2), statistic=metrics.f1_of)
    check = on_past(one, config=GateConfig(margin=0.5, resamples=10_000))
    champion, challenger = spans(1).sum(0), spans(2).sum(0)
    assert check.champion == pytest.approx(2 * champion[0] / (champion[1] + champion[2]))
    assert check.challenger == pytest.approx(2 * challenger[0] / (challenger[1] + challenger[2]))
    wanted = np.quantile(drawn_by_row(one, 10_000), [0.05, 0.95])
    assert numbers(check)[1:] == pytest.approx(tuple(wanted), abs=0.002)
    assert wanted[1] - wanted[0] > 0.03


def test_a_challenger_that_finds_fewer_entities_is_stopped() -> None:
    worse = spans(1) * [0.8, 1, 1]
    one = SliceEvidence(name="a", champion=spans(1), challenger=worse, statistic=metrics.f1_of)
    assert decide(Evidence(past=[one]), GateConfig()).decided_by == "slice a"
    assert decide(Evidence(past=[dataclasses.replace(one, challenger=spans(1))]), GateConfig()).promote


def labelled(
    name: str, gold: list[str], champion: list[str], challenger: list[str], labels: str = "abc"
) -> SliceEvidence:
    """Macro F1."""
    return SliceEvidence(
        name=name,
        champion=metrics.label_counts(gold, champion, labels),
        challenger=metrics.label_counts(gold, challenger, labels),
        statistic=metrics.macro_f1_of,
        labels=tuple(labels),
    )


def test_the_labels_of_both_sides_may_differ() -> None:
    gold = list("aabbc" * 40)
    champion, challenger = list("aabba" * 40), list("aabbd" * 40)
    one = labelled("a", gold, champion, challenger)
    assert one.champion is not None and one.champion.shape[1] < one.challenger.shape[1]
    check = on_past(one)
    assert check.champion == pytest.approx(metrics.macro_f1(gold, champion))
    assert check.challenger == pytest.approx(2 / 3)  # of the labels that rows have: a "d" that is said is a lost "c"


def test_entities_in_few_rows_show_no_more_than_those_rows_can() -> None:
    def slices(carrying: int) -> list[SliceEvidence]:
        counts = np.zeros((500, 3))
        counts[:carrying] = 1
        return [SliceEvidence(name=n, champion=counts, challenger=counts, statistic=metrics.f1_of) for n in "abcde"]

    few = decide(Evidence(past=slices(10)), GateConfig())
    assert (few.promote, few.decided_by) == (False, "past")
    assert few.reason.endswith("50 rows carry the metric, 50 fewer than the 100 on which it can be shown to be as good")
    more = decide(Evidence(past=slices(29)), GateConfig())
    assert more.reason.endswith("the margin of 2, for which 5 more rows that carry the metric are needed at least")
    assert decide(Evidence(past=slices(30)), GateConfig()).promote


def test_a_slice_in_which_next_to_nothing_carries_the_metric_does_not_decide() -> None:
    counts = np.ones((500, 3))
    bare = counts * (np.arange(500) < 2)[:, None]
    past = [SliceEvidence(name="a", champion=counts, challenger=counts, statistic=metrics.f1_of)]
    past.append(SliceEvidence(name="b", champion=bare, challenger=bare * [0, 0, 1], statistic=metrics.f1_of))
    new = dataclasses.replace(past[1], name="c", challenger=bare)
    none = dataclasses.replace(new, champion=bare * 0, challenger=bare * 0)
    assert decide(Evidence(past=past, new=new), GateConfig()).promote
    assert decide(Evidence(past=past, new=none), GateConfig()).promote  # though its F1 is 0: it has nothing to find
    assert not decide(Evidence(past=past, new=none), GateConfig(gain=0.0)).promote


RARE = list("a" * 300 + "b" * 295 + "c" * 5)
COMMON = ["b" if label == "c" else label for label in RARE]
"""What forgets "c" altogether: 30 points of macro F1, five rows."""


def test_a_label_of_few_rows_stops_the_challenger_or_is_left_out() -> None:
    past, new = labelled("may", RARE, RARE, COMMON), labelled("june", RARE, RARE, RARE)
    stopped = decide(Evidence(past=[past], new=new), GateConfig())
    said = "label 'c': the slices have 5 rows of it, 29 fewer than the 34 that are needed"
    assert (stopped.promote, stopped.decided_by, stopped.reason) == (False, "evidence", said)
    left_out = decide(Evidence(past=[past], new=new), GateConfig(rare_labels="leave_out"))
    assert left_out.promote
    assert left_out.reason.startswith("slice of the past (without 'c'): worse by 0.4 points")
    assert decide(Evidence(past=[past]), GateConfig(min_rows=10, min_rows_label=5)).decided_by == "slice may"
    assert decide(Evidence(past=[past]), GateConfig(min_rows=10, min_rows_label=6)).reason.endswith(
        "than the 6 that are needed"
    )


def test_a_label_of_the_task_that_no_slice_has_stops_the_challenger() -> None:
    gold = list("ab" * 100)
    decision = decide(Evidence(past=[labelled("a", gold, gold, gold)]), GateConfig())
    assert decision.reason == "label 'c': the slices have 0 rows of it, 34 fewer than the 34 that are needed"
    nothing = Evidence(past=[labelled("a", list("ab" * 5), list("ab" * 5), list("ab" * 5))])
    said = "label 'c': the slices have 0 rows of it, 34 fewer than the 34 that are needed; "
    said += "label 'a': the slices have 5 rows of it, 29 fewer than the 34 that are needed"
    assert decide(nothing, GateConfig()).reason.startswith(said)  # of each, not that none has
    config = GateConfig(min_rows=10, rare_labels="leave_out")
    assert decide(nothing, config).reason == "no label of the past has rows enough to compare the two on"


def test_a_label_that_a_slice_lacks_is_said_and_compared_on_the_others() -> None:
    whole, part = list("abc" * 100), list("ab" * 150)
    past = [labelled("may", whole, whole, whole), labelled("june", part, part, ["c", *part[1:]])]
    decision = decide(Evidence(past=past), GateConfig())
    assert decision.promote
    assert checks(decision)["slice june"].reason.startswith("slice june (lacks 'c'): worse by 0.2 points")
    assert checks(decision)["past"].reason.startswith("2 slices of the past: worse by")


def test_a_label_that_is_new_with_the_new_slice_is_counted_there() -> None:
    old, grown = list("ab" * 150), list("abc" * 100)
    past, new = labelled("may", old, old, old), labelled("june", grown, list("abb" * 100), grown)
    assert decide(Evidence(past=[past], new=new), GateConfig()).promote
    few = labelled("june", RARE, COMMON, RARE)
    assert decide(Evidence(past=[past], new=few), GateConfig()).reason.startswith("label 'c': the slices have 5 rows")
    decision = decide(Evidence(past=[past], new=few), GateConfig(rare_labels="leave_out"))
    assert decision.promote
    assert decision.reason.startswith("slice of the past (without 'c'): equal")


def test_the_rows_of_a_label_that_are_missing_are_told() -> None:
    gold = list("a" * 300 + "b" * 300 + "c" * 40)
    decision = decide(Evidence(past=[labelled("may", gold, gold, gold)]), GateConfig())
    assert decision.reason.endswith("within the margin of 2, for which 10 more rows of label 'c' are needed at least")
    more = [*gold, *"c" * 10]
    assert decide(Evidence(past=[labelled("may", more, more, more)]), GateConfig()).promote


def test_the_slices_may_know_labels_of_their_own() -> None:
    past = [labelled("may", list("abc" * 100), list("abc" * 100), list("abc" * 100))]
    past.append(labelled("june", list("abd" * 100), list("abd" * 100), list("abd" * 100), labels="dab"))
    assert decide(Evidence(past=past), GateConfig()).promote


def test_of_a_past_whose_labels_are_all_left_out_nothing_is_claimed() -> None:
    """All of it is answered with a label that is new."""
    old = list("a" * 33 + "b" * 33 + "c" * 33)
    labels = ["a", "b", "c", "new"]

    def counted(name: str, gold: list[str], before: list[str], after: list[str]) -> SliceEvidence:
        sides = [metrics.label_counts(gold, said, labels) for said in (before, after)]
        return SliceEvidence(
            name=name, champion=sides[0], challenger=sides[1], statistic=metrics.macro_f1_of, labels=tuple(labels)
        )

    past = counted("may", old, old, ["new"] * 96 + ["c"] * 3)
    new = counted("june", ["new"] * 60 + ["a"] * 40, ["a"] * 100, ["new"] * 60 + ["a"] * 40)
    for growth in ("keep", "auto"):
        config = GateConfig(rare_labels="leave_out", growth=growth)
        decision = decide(Evidence(past=[past], new=new, grown=("new",)), config)
        assert (decision.promote, decision.decided_by) == (False, "evidence"), decision.reason

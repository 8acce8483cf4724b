"""Every rule of the gate on evidence small enough to count, and what it does without evidence."""

import dataclasses
import math
import re

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, chi2  # type: ignore[import-untyped]

from pipeline.config import GateConfig
from pipeline.core.tasks import metrics
from pipeline.rules import paired
from pipeline.rules.evidence import Evidence, SliceEvidence
from pipeline.rules.gate import Decision, decide
from tests.unit.rules.decided import LOOSE, checks, numbers, on_past, scored


def first(one: SliceEvidence) -> SliceEvidence:
    return dataclasses.replace(one, champion=None)


def spoilt(counts: metrics.Counts | None, value: float) -> metrics.Counts:
    """The same counts with one of row 7 changed."""
    assert counts is not None
    changed = counts.copy()
    changed[7, 0] = value
    return changed


def test_a_check_has_both_scores_their_difference_and_the_rows() -> None:
    check = on_past(scored("a", rows=200, won=3, lost=7))
    assert [check.champion, check.challenger] == pytest.approx([167 / 200, 163 / 200])
    assert numbers(check)[0] == pytest.approx(-4 / 200)
    assert check.rows == 200


def test_the_bounds_are_the_quantiles_of_the_resampled_difference_or_the_exact_ones_of_a_count() -> None:
    # 10 of 100 rows lost: -100 times the difference is binomial (100, 0.1), of which 5 % are at most 5. More than that
    # is lost in truth by 5 % of those that lose 10: the upper bound of a Poisson count of 10 is 16.96 (Garwood 1936).
    _, low, high = numbers(on_past(scored("a", rows=100, lost=10), config=GateConfig(margin=0.5, resamples=20_000)))
    assert [low, high] == pytest.approx([-chi2.ppf(0.95, 22) / 200, -0.05])


def test_a_higher_confidence_asks_for_more() -> None:
    config = GateConfig(margin=0.5, confidence=0.97, resamples=50_000)
    _, low, high = numbers(on_past(scored("a", rows=100, lost=10), config=config))
    assert [low, high] == pytest.approx([-chi2.ppf(0.97, 22) / 200, -0.05])


@pytest.mark.parametrize("rows", [150, 200, 350, 1000])
def test_of_those_that_lose_the_margin_and_win_nothing_one_in_twenty_passes_at_most(rows: int) -> None:
    passing = [
        lost for lost in range(30) if decide(Evidence(past=[scored("a", rows=rows, lost=lost)]), GateConfig()).promote
    ]
    assert binom.pmf(passing, rows, GateConfig().margin).sum() <= 0.05


def test_an_equal_challenger_passes_and_the_reason_says_on_what() -> None:
    past = [scored(f"2024-0{i}", won=15, lost=15) for i in range(1, 6)]
    decision = decide(Evidence(past=past, new=scored("2024-06", won=15, lost=15)), GateConfig())
    assert decision.promote
    assert decision.decided_by == "past"
    assert decision.reason.startswith("5 slices of the past: equal (95 %: -0.")
    assert "), within the margin of 2; new slice 2024-06: equal (95 %: -" in decision.reason
    assert decision.reason.endswith(", not shown to be worse")
    assert all(check.passed for check in decision.checks)
    assert [check.name for check in decision.checks] == [
        *(f"slice 2024-0{i}" for i in range(1, 6)),
        "past",
        "new",
        "learnt",
    ]


def test_a_new_slice_far_below_the_past_is_stopped_unless_as_much_was_gained_on_it_as_is_left() -> None:
    past = [scored("may", won=15, lost=15)]

    def decided(gap: float | None, won: int = 5) -> Decision:
        return decide(Evidence(past=past, new=scored("june", won=won, lost=5, right=0.5)), GateConfig(gap=gap))

    assert decided(0.1).decided_by == "learnt"
    assert re.fullmatch(
        r"new slice june: \d+(\.\d)? points below the slices of the past, more than 10, and nothing gained on it: "
        r"are its labels right\?",
        decided(0.1).reason,
    )
    assert decided(0.9).promote
    assert decided(None).promote
    noisy = decided(0.1, won=60)  # of 500 rows, 30 % of which have wrong labels, something is learnt too
    assert noisy.decided_by == "learnt"
    assert noisy.reason.endswith(
        "21 points below the slices of the past, more than 10, and only 11 gained on it: are its labels right?"
    )
    assert decided(0.1, won=160).promote  # a hard period, from which much is learnt


def test_what_may_be_worse_by_more_than_the_margin_is_stopped() -> None:
    decision = decide(Evidence(past=[scored("a", won=10, lost=15)]), GateConfig())
    assert not decision.promote
    assert decision.decided_by == "past"
    assert decision.reason.startswith("slice of the past: worse by 1 point (95 %: -2.")
    assert decision.reason.endswith("it is not shown to be within the margin of 2")


def test_the_margin_is_that_of_the_config() -> None:
    evidence = Evidence(past=[scored("a", won=10, lost=15)])
    assert decide(evidence, GateConfig(margin=0.03)).promote
    assert not decide(evidence, GateConfig(margin=0.015)).promote


def test_a_lower_bound_of_exactly_the_margin_does_not_pass() -> None:
    evidence = Evidence(past=[scored("a", rows=100, lost=10)])
    low = -numbers(on_past(*evidence.past))[1]
    assert not decide(evidence, GateConfig(margin=low)).promote
    assert decide(evidence, GateConfig(margin=low + 1e-6)).promote


@pytest.mark.parametrize(("rows", "promoted"), [(149, False), (150, True)])
def test_identical_answers_show_what_their_rows_can_show(rows: int, promoted: bool) -> None:
    decision = decide(Evidence(past=[scored("a", rows=rows)]), GateConfig())
    assert decision.promote is promoted  # the rule of three: 3 of 149 rows are more than 2 %
    assert numbers(checks(decision)["past"]) == pytest.approx((0, math.log(0.05) / rows, -math.log(0.05) / rows))


def test_identical_answers_on_several_slices_count_together() -> None:
    assert on_past(*(scored(name, rows=150) for name in "abc")).low == pytest.approx(math.log(0.05) / 450)
    mixed = on_past(scored("a", rows=100), scored("b", rows=900))
    assert mixed.low == pytest.approx(math.log(0.05) / 200)  # a row of the smaller slice weighs a 200th


def test_each_slice_has_the_same_weight_whatever_its_rows() -> None:
    big, small = scored("big", rows=10_000), scored("small", rows=200, lost=6)
    decision = decide(Evidence(past=[big, small]), GateConfig())
    check = checks(decision)["past"]
    assert numbers(check)[0] == pytest.approx(-0.015)  # of all rows together it would be -0.0006, which passes
    assert check.low == pytest.approx(-chi2.ppf(0.95, 14) / 2 / 400)  # a row of the smaller slice weighs a 400th
    assert check.rows == 10_200
    assert (decision.promote, decision.decided_by) == (False, "past")


def test_the_slices_are_resampled_independently() -> None:
    alone = numbers(on_past(scored("a", won=50, lost=50)))
    together = numbers(on_past(*(scored(name, won=50, lost=50) for name in "abcd")))
    assert together[2] - together[1] == pytest.approx((alone[2] - alone[1]) / 2, rel=0.1)


def test_a_slice_that_is_worse_for_certain_vetoes_and_is_named() -> None:
    past = [scored(f"2024-0{i}", won=40, lost=10) for i in (1, 2, 4, 5)]
    past.insert(2, scored("2024-03", won=5, lost=45))
    decision = decide(Evidence(past=past, new=scored("2024-06", won=50)), GateConfig())
    assert not decision.promote
    assert decision.decided_by == "slice 2024-03"
    assert decision.reason.startswith("slice 2024-03: worse by 8 points (95 %: -10.")
    assert decision.reason.endswith("more than the margin of 2")
    assert [check.name for check in decision.checks if not check.passed] == ["slice 2024-03"]


def test_of_several_vetoes_the_worst_decides() -> None:
    past = [scored("a", lost=50), scored("b", lost=90), scored("c", lost=60)]
    assert decide(Evidence(past=past), GateConfig()).decided_by == "slice b"


def test_a_slice_that_only_looks_worse_has_no_veto() -> None:
    past = [scored(f"{i}", won=30, lost=10) for i in range(4)]
    past.append(scored("4", rows=100, won=2, lost=5))
    decision = decide(Evidence(past=past), GateConfig())
    assert decision.promote
    check = checks(decision)["slice 4"]
    assert numbers(check)[0] < -0.02 < numbers(check)[2]
    assert check.reason.endswith("no veto")


def test_what_is_worse_on_the_new_slice_is_stopped_though_the_past_is_as_it_was() -> None:
    decision = decide(Evidence(past=[scored("a")], new=scored("b", won=5, lost=25)), GateConfig())
    assert (decision.promote, decision.decided_by) == (False, "new")
    assert decision.reason.startswith("new slice b: worse by 4 points (95 %: -6.0 to -2.")
    assert decision.reason.endswith("), shown to be worse")


def test_what_only_looks_worse_on_the_new_slice_passes_where_no_gain_is_asked() -> None:
    assert decide(Evidence(past=[scored("a")], new=scored("b", won=10, lost=15)), GateConfig()).promote


@pytest.mark.parametrize(
    ("gain", "won", "promoted", "said"),
    [
        (0.0, 12, False, "not shown to be better at all"),
        (0.0, 30, True, "shown to be better at all"),
        (0.02, 30, False, "not shown to be better by more than 2"),
        (0.02, 50, True, "shown to be better by more than 2"),
    ],
)
def test_a_gain_that_is_asked_has_to_be_shown(gain: float, won: int, promoted: bool, said: str) -> None:
    evidence = Evidence(past=[scored("a")], new=scored("b", won=won, lost=10))
    decision = decide(evidence, GateConfig(gain=gain))
    assert (decision.promote, decision.decided_by) == (promoted, "new")
    assert decision.reason.endswith(f", {said}")


def test_without_a_new_slice_the_past_alone_decides() -> None:
    decision = decide(Evidence(past=[scored("a")]), GateConfig())
    assert (decision.promote, decision.decided_by) == (True, "past")
    assert "new" not in checks(decision)


@pytest.mark.parametrize(
    ("past", "new", "floor", "said"),
    [
        ((0.8, 0.8), 0.8, 0.8, None),
        ((0.9, 0.7), 0.8, 0.8, None),
        ((0.8, 0.8), 0.7, 0.75, "0.700 on the new slice, below the floor of 0.75"),
        ((0.8, 0.6), 0.8, 0.75, "0.700 on the slices of the past, below the floor of 0.75"),
    ],
)
def test_a_floor_holds_on_the_new_slice_and_on_the_mean_of_the_past(
    past: tuple[float, float], new: float, floor: float, said: str | None
) -> None:
    slices = [scored(f"{i}", right=right) for i, right in enumerate(past)]
    evidence = Evidence(past=slices, new=scored("new", right=new))
    decision = decide(evidence, GateConfig(floor=floor))
    assert decision.promote is (said is None)
    if said:
        assert (decision.decided_by, decision.reason) == ("floor", said)
    one_less = Evidence(past=[first(one) for one in slices], new=first(scored("new", right=new)), first=True)
    assert decide(one_less, GateConfig(floor=floor)).promote is decision.promote


def test_the_first_champion_needs_no_more_than_the_floor() -> None:
    assert decide(Evidence(past=[first(SHORT)], first=True), GateConfig()).promote
    decision = decide(Evidence(past=[first(scored("a", right=0.3))], first=True), GateConfig())
    assert (decision.promote, decision.decided_by) == (True, "first")
    assert decision.reason == "the first champion: 0.300 on 500 rows, and nothing to compare"
    assert decide(Evidence(past=[], new=first(scored("a")), first=True), GateConfig(gain=0.1)).promote


A, NEW, SHORT = scored("a"), scored("new", won=50), scored("short", rows=99, won=50, right=0.4)
UNPAIRED = dataclasses.replace(A, champion=spoilt(A.champion, 1.0)[1:])
NAN_NEW = dataclasses.replace(A, challenger=spoilt(A.challenger, math.nan))
NAN_OLD = dataclasses.replace(A, champion=spoilt(A.champion, math.nan))
INFINITE = dataclasses.replace(NEW, challenger=spoilt(spoilt(NEW.challenger, math.inf)[::-1], math.inf))
ONES, ONE = np.ones((100, 3)), np.hstack([np.eye(100, 1), np.ones((100, 2))])
NO_VALUE = SliceEvidence(name="a", champion=ONES, challenger=ONES, statistic=lambda sums: sums[..., 0] / 0)
SELDOM_ONE = dataclasses.replace(NO_VALUE, champion=ONE, challenger=ONE, statistic=lambda sums: 1 / sums[..., 0])
NOTHING = dataclasses.replace(NO_VALUE, champion=ONES * 0, challenger=ONES * 0, statistic=metrics.f1_of)


@pytest.mark.parametrize(
    ("evidence", "said"),
    [
        (Evidence(past=[A], new=NEW, missing=["slice b could not be read"]), "slice b could not be read"),
        (Evidence(past=[first(A)], missing=["slice b is gone"], first=True), "slice b is gone"),
        (Evidence(past=[], new=NEW), "there is no slice of the past to compare with the champion on"),
        (Evidence(past=[], first=True), "there is no slice to score the first champion on"),
        (Evidence(past=[A, A], new=NEW), "slice a: is there 2 times"),
        (Evidence(past=[A], new=A), "slice a: is there 2 times"),
        (Evidence(past=[first(A)], new=NEW), "slice a: has no results of the champion"),
        (Evidence(past=[A], first=True), "slice a: has results of a champion, where there is said to be none"),
        (Evidence(past=[UNPAIRED]), "slice a: has 499 rows of the champion and 500 of the challenger, not pairs"),
        (Evidence(past=[scored("a", rows=0)]), "slice a: has no rows"),
        (Evidence(past=[NAN_NEW], new=NEW), "slice a: the challenger's result of row 7 is not finite"),
        (Evidence(past=[NAN_OLD], new=NEW), "slice a: the champion's result of row 7 is not finite"),
        (Evidence(past=[first(NAN_NEW)], first=True), "slice a: the challenger's result of row 7 is not finite"),
        (Evidence(past=[A], new=INFINITE), "slice new: the challenger's result of row 7 is not finite, nor are 1 more"),
        (Evidence(past=[NO_VALUE], new=NEW), "slice a: its metric has no value"),
        (Evidence(past=[SELDOM_ONE], new=NEW), "slice a: its metric has no value"),
        (
            Evidence(past=[NOTHING], new=NEW),
            "the slices of the past have no rows that carry the metric, of which 100 are needed",
        ),
        (Evidence(past=[first(NO_VALUE)], first=True), "the metric of the first champion has no value"),
    ],
)
def test_evidence_that_is_not_whole_stops_the_challenger(evidence: Evidence, said: str) -> None:
    decision = decide(evidence, LOOSE)
    assert (decision.promote, decision.decided_by, decision.reason) == (False, "evidence", said)
    assert [check.passed for check in decision.checks] == [False]


def test_all_that_is_missing_is_said_at_once() -> None:
    evidence = Evidence(past=[scored("a", rows=0)], missing=["slice b is gone"])
    said = "slice b is gone; a gain is asked and there is no new slice to show it on; slice a: has no rows"
    assert decide(evidence, GateConfig(gain=0.0)).reason == said


def test_the_same_evidence_gives_the_same_decision_in_whatever_order() -> None:
    past = [scored(f"{i}", won=10 + i // 2, lost=20 - i // 2) for i in range(6)]  # two alike, but for the resamples
    new = scored("new", won=20, lost=10)
    expected = decide(Evidence(past=past, new=new), GateConfig())
    assert decide(Evidence(past=past, new=new), GateConfig()) == expected
    order = np.random.default_rng(0).permutation(500)
    shuffled = [permuted(one, order, order) for one in (*reversed(past), new)]
    assert decide(Evidence(past=shuffled[:-1], new=shuffled[-1]), GateConfig()) == expected


def permuted(one: SliceEvidence, champion: NDArray[np.int64], challenger: NDArray[np.int64]) -> SliceEvidence:
    assert one.champion is not None
    return dataclasses.replace(one, champion=one.champion[champion], challenger=one.challenger[challenger])


def test_the_rows_are_compared_in_pairs() -> None:
    paired = scored("a", won=10, lost=10)
    torn = permuted(paired, np.arange(500), np.random.default_rng(0).permutation(500))
    (difference, low, high), torn_numbers = numbers(on_past(paired)), numbers(on_past(torn))
    assert torn_numbers[0] == pytest.approx(difference)
    assert torn_numbers[2] - torn_numbers[1] > 2 * (high - low)


def test_a_bound_does_not_depend_on_how_many_resamples_are_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = Evidence(past=[scored("a", won=20, lost=10)])
    expected = decide(evidence, GateConfig())
    monkeypatch.setattr(paired, "_DRAWN_AT_ONCE", 4 * 77)
    assert decide(evidence, GateConfig()) == expected

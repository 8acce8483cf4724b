"""What is asked where labels are new, and of slices that are small."""

import dataclasses
from collections.abc import Mapping

import pytest

from pipeline.config import GateConfig
from pipeline.core.tasks.metrics import Found
from pipeline.rules.evidence import Evidence, SliceEvidence
from pipeline.rules.gate import decide
from tests.unit.rules.decided import checks, scored

GROWN = ("alarm", "weather")


def grown(past: SliceEvidence, new: SliceEvidence) -> Evidence:
    return Evidence(past=[past], new=new, grown=GROWN)


def learnt(rows: int, share: float = 0.94) -> SliceEvidence:
    """A slice of new labels: the champion answers none of them, the challenger this share."""
    return scored("june", rows=rows, won=round(rows * share), right=0)


def test_with_new_labels_the_past_may_lose_what_growth_may_cost_and_the_whole_has_to_be_better() -> None:
    past = scored("may", rows=600, won=6, lost=20, right=0.92)  # worse by 2.3 points
    decision = decide(grown(past, learnt(150)), GateConfig())
    assert (decision.promote, decision.decided_by) == (True, "whole")
    assert decision.reason.startswith("all 2 slices together: better by ")
    assert "slice of the past: worse by 2.3 points (95 %: -3." in decision.reason
    assert "within the 5 that growth may cost" in decision.reason
    kept = decide(grown(past, learnt(150)), GateConfig(growth="keep"))
    assert (kept.promote, kept.decided_by) == (False, "past")
    same_labels = decide(dataclasses.replace(grown(past, learnt(150)), grown=()), GateConfig())
    assert (same_labels.promote, same_labels.decided_by) == (False, "past")
    asked = decide(dataclasses.replace(grown(past, learnt(150)), grown=()), GateConfig(growth="exchange"))
    assert asked.promote


@pytest.mark.parametrize(("lost", "promoted"), [(15, True), (25, False), (60, False)])
def test_the_past_loses_no_more_than_growth_may_cost(lost: int, promoted: bool) -> None:
    past = scored("may", rows=500, lost=lost)
    decision = decide(grown(past, learnt(500)), GateConfig())
    assert decision.promote is promoted, decision.reason
    assert promoted or decision.decided_by in ("past", "slice may")
    assert promoted or decision.may_train_harder


def test_one_slice_of_the_past_that_loses_more_stops_an_exchange_though_the_others_gain() -> None:
    past = [scored(f"{i}", rows=200, won=20, lost=10) for i in range(4)]
    past.append(scored("4", rows=200, won=8, lost=20, right=0.85))  # 6 points, which might be chance
    decision = decide(Evidence(past=past, new=learnt(200), grown=GROWN), GateConfig())
    assert (decision.promote, decision.decided_by) == (False, "slice 4")
    assert decision.reason.endswith("more than the 5 that growth may cost")


def test_an_exchange_for_which_the_whole_is_not_better_is_none() -> None:
    past = scored("may", rows=2000, won=20, lost=60)
    new = scored("june", rows=200, won=44, lost=4, right=0.76)
    decision = decide(grown(past, new), GateConfig())
    assert (decision.promote, decision.decided_by) == (False, "whole")
    assert decision.reason.endswith("not shown to be better")


def test_where_labels_are_new_no_more_is_asked_than_otherwise_of_what_keeps_the_past() -> None:
    past, new = scored("may", rows=400), scored("june", rows=100, won=4, lost=3)
    decision = decide(grown(past, new), GateConfig())
    assert (decision.promote, decision.decided_by) == (True, "whole")
    assert "not shown to be better, and the past keeps within the margin of 2" in decision.reason


def test_a_new_slice_far_below_the_past_stops_an_exchange_whatever_was_gained_on_it() -> None:
    decision = decide(grown(scored("may", right=0.9), learnt(150, share=0.66)), GateConfig())
    assert (decision.promote, decision.decided_by) == (False, "learnt")
    assert decision.reason.endswith("points below the slices of the past, more than 10: are its labels right?")
    assert decision.may_train_harder
    few = decide(grown(scored("may", right=0.9), learnt(30, share=0.66)), GateConfig())
    assert not few.promote


def labelled(one: SliceEvidence, found: Mapping[str, tuple[Found, Found]]) -> SliceEvidence:
    return dataclasses.replace(one, found=found)


def test_the_loss_is_named_by_label_and_a_label_that_is_lost_altogether_vetoes() -> None:
    past = scored("may", rows=600, lost=8)
    found = {"play_music": ((48, 50), (42, 50)), "news": ((20, 20), (21, 21)), "radio": ((9, 9), (5, 9))}
    decision = decide(grown(labelled(past, found), learnt(150)), GateConfig())
    assert decision.promote
    most = "labels that lose most: play_music 48 -> 42 of 50 right, radio 9 -> 5 of 9 right (may be chance)"
    assert most in decision.reason
    lost = {**found, "radio": ((9, 9), (0, 9))}
    decision = decide(grown(labelled(past, lost), learnt(150)), GateConfig())
    assert (decision.promote, decision.decided_by) == (False, "labels")
    assert decision.reason == "lost altogether: radio (9 of 9 were right)"
    chance = {**found, "radio": ((4, 9), (0, 9))}  # four coins in a row
    assert decide(grown(labelled(past, chance), learnt(150)), GateConfig()).promote
    several = [labelled(scored(f"{i}", rows=300, lost=2), {"radio": ((3, 3), (0, 3))}) for i in range(2)]
    assert decide(Evidence(past=several, new=learnt(150), grown=GROWN), GateConfig()).decided_by == "labels"


def test_a_difference_beyond_doubt_needs_no_hundred_rows() -> None:
    past = scored("may", rows=400)
    sure = decide(Evidence(past=[past], new=scored("june", rows=75, won=71, right=0)), GateConfig())
    assert sure.promote and "better by 94.7 points" in sure.reason
    open_ = decide(Evidence(past=[past], new=scored("june", rows=75, won=6, lost=4)), GateConfig())
    assert (open_.promote, open_.decided_by) == (False, "new")
    said = "not shown to be better, and 25 more rows are needed to show that it is as good"
    assert open_.reason.endswith(said) and not open_.may_train_harder
    assert decide(Evidence(past=[past], new=scored("june", rows=100, won=6, lost=4)), GateConfig()).promote
    worse = decide(Evidence(past=[past], new=scored("june", rows=75, lost=15)), GateConfig())
    assert worse.reason.endswith("shown to be worse")


def test_small_slices_of_the_past_count_together() -> None:
    past = [scored(f"{i}", rows=60) for i in range(5)]
    assert decide(Evidence(past=past, new=scored("june")), GateConfig()).promote
    lossy = [*past[1:], scored("4b", rows=60, lost=30, right=0.4)]
    assert decide(Evidence(past=lossy, new=scored("june")), GateConfig()).decided_by == "slice 4b"


def test_a_past_of_few_rows_is_outweighed_by_a_new_slice_that_is_better_beyond_doubt() -> None:
    past = scored("may", rows=91, won=8, lost=9, right=0.6)  # worse by a point, which may be 9, or none
    new = scored("june", rows=300, won=60, lost=15, right=0.6)
    decision = decide(Evidence(past=[past], new=new), GateConfig())
    assert decision.promote
    said = "91 rows carry the metric, 9 fewer than the 100 on which it can be shown to be as good, and outweighed"
    assert said in decision.reason
    equal = decide(Evidence(past=[past], new=scored("june", rows=300, won=15, lost=15)), GateConfig())
    assert (equal.promote, equal.decided_by) == (False, "past")
    much = decide(Evidence(past=[scored("may", rows=91, won=8, lost=11, right=0.6)], new=new), GateConfig())
    assert (much.promote, much.decided_by) == (False, "past")
    assert much.reason.endswith("not outweighed by the new slice")
    shown = decide(Evidence(past=[scored("may", rows=91, lost=4)], new=new), GateConfig(growth="exchange"))
    assert not shown.promote  # to be worse, though by no more than growth may cost
    assert decide(Evidence(past=[scored("may", rows=91, won=12)]), GateConfig()).promote  # better beyond doubt


def test_a_past_that_cannot_show_the_margin_is_outweighed_where_the_whole_is_better() -> None:
    """As of tweets, where 170 rows carry the metric: seen to be better by 1.9 points, which may be 2.5 fewer."""
    past = scored("may", rows=200, won=8, lost=8, right=0.6)
    new = scored("june", rows=200, won=45, lost=15, right=0.6)
    decision = decide(Evidence(past=[past], new=new), GateConfig())
    assert (decision.promote, decision.decided_by) == (True, "past")
    said = (
        "its rows are too few for the margin of 2: within the 5 of an exchange, and all 2 slices together are shown to"
    )
    assert said in decision.reason
    for config in (GateConfig(growth="keep"), GateConfig(exchange_loss=0.02)):
        kept = decide(Evidence(past=[past], new=new), config)
        assert (kept.promote, kept.decided_by) == (False, "past")
        assert "it is not shown to be within the margin of 2" in kept.reason
    for other in (
        Evidence(past=[past], new=scored("june", rows=200, won=15, lost=15, right=0.6)),  # nothing is gained
        Evidence(past=[scored("may", rows=200, won=6, lost=11, right=0.6)], new=new),  # more is lost, as far as is seen
        Evidence(past=[scored("may", rows=200, won=20, lost=22, right=0.6)], new=new),  # it may be 5
        Evidence(past=[scored("may", rows=2000, won=60, lost=95, right=0.6)], new=new),  # these rows are enough
        Evidence(past=[past]),
    ):
        refused = decide(other, GateConfig())
        assert (refused.promote, refused.decided_by) == (False, "past")
        assert "it is not shown to be within the margin of 2" in refused.reason


@pytest.mark.parametrize("min_rows", [100, 1000])
def test_to_ask_for_more_rows_lets_nothing_through_that_would_be_stopped(min_rows: int) -> None:
    past, new = scored("may", won=8, lost=24), scored("june", rows=300, won=60, lost=15, right=0.6)
    assert not decide(Evidence(past=[past], new=new), GateConfig(min_rows=min_rows)).promote


def test_who_keeps_the_past_better_has_not_learnt_less() -> None:
    for share, promoted in ((0.85, False), (0.89, True)):
        for lost in (20, 8, 0):
            past = scored("may", rows=400, lost=lost, right=0.98 - lost / 400)
            decision = decide(grown(past, learnt(200, share=share)), GateConfig(exchange_loss=0.09))
            assert decision.promote is promoted, decision.reason


def test_of_next_to_no_rows_nothing_is_said_about_how_much_was_learnt() -> None:
    decision = decide(grown(scored("may", right=0.98), learnt(10, share=0.7)), GateConfig())
    assert "learnt" not in checks(decision)


def test_more_resamples_are_drawn_where_a_bound_needs_them() -> None:
    past = scored("may", rows=3000, won=20, lost=20)
    check = checks(decide(Evidence(past=[past]), GateConfig(resamples=200), 0.999))["past"]
    assert check.low is not None and -0.02 < check.low < -0.005


def test_one_of_several_attempts_has_to_show_more_and_is_stopped_as_easily() -> None:
    past = scored("may", rows=500, won=9, lost=9)
    assert decide(Evidence(past=[past]), GateConfig()).promote
    several = decide(Evidence(past=[past]), GateConfig(), 0.99375)
    assert not several.promote and "(99.38 %: -" in several.reason
    vetoed = scored("june", rows=500, won=5, lost=26)
    found = [checks(decide(Evidence(past=[vetoed]), GateConfig(), one))["slice june"] for one in (None, 0.99375)]
    assert found[0] == found[1] and not found[0].passed


def test_what_cannot_be_mended_by_training_harder_ends_a_pass() -> None:
    past = scored("may", rows=500)
    assert decide(Evidence(past=[scored("may", rows=500, lost=40)]), GateConfig()).may_train_harder
    assert not decide(Evidence(past=[past], new=scored("june", lost=40)), GateConfig()).may_train_harder
    both = Evidence(past=[scored("may", lost=40)], new=scored("june", lost=40))
    assert not decide(both, GateConfig()).may_train_harder
    assert not decide(Evidence(past=[past], missing=["slice b is gone"]), GateConfig()).may_train_harder
    assert not decide(Evidence(past=[past]), GateConfig()).may_train_harder  # it passes

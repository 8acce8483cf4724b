import itertools
import random

import pytest

from pipeline.rules.halving import TIED, Asha, Halving, Ruling, Standing

EPOCHS = 16


def at(epoch: int, score: float | None, loss: float = 1.0) -> Standing:
    """How a trial of 16 epochs stands."""
    return Standing(epoch=epoch, share=epoch / EPOCHS, score=score, loss=loss)


def halve(scores: dict[int, float | None], order: tuple[int, ...]) -> tuple[set[int], dict[int, str]]:
    """Report one rung in this order; a trial without a score fails."""
    halving = Halving(list(scores), first_rung=1 / EPOCHS, reduction=2)
    promoted: set[int] = set()
    pruned: dict[int, str] = {}
    for trial in order:
        score = scores[trial]
        ruling = halving.leave(trial, at(1, None)) if score is None else halving.report(trial, at(1, score))
        promoted |= set(ruling.promoted)
        pruned |= ruling.pruned
    return promoted, pruned


def test_the_best_half_goes_on_and_the_rest_is_told_its_place() -> None:
    promoted, pruned = halve({0: 0.1, 1: 0.9, 2: 0.5, 3: 0.7}, (0, 1, 2, 3))
    assert promoted == {1, 3}
    assert pruned == {2: "pruned at epoch 1: 3rd of 4", 0: "pruned at epoch 1: 4th of 4"}


def test_nobody_goes_on_before_the_last_one_has_reported() -> None:
    halving = Halving(range(3), first_rung=1 / EPOCHS, reduction=2)
    assert halving.report(2, at(1, 0.9)) == Ruling(action="pause")
    assert halving.report(0, at(1, 0.1)) == Ruling(action="pause")
    assert halving.report(1, at(1, 0.5)).promoted == (1, 2)


def test_the_last_one_to_report_continues_if_it_is_promoted_and_stops_if_not() -> None:
    good, bad = (
        Halving(range(2), first_rung=1 / EPOCHS, reduction=2),
        Halving(range(2), first_rung=1 / EPOCHS, reduction=2),
    )
    good.report(0, at(1, 0.1))
    bad.report(0, at(1, 0.9))
    assert good.report(1, at(1, 0.5)).action == "continue"
    assert bad.report(1, at(1, 0.5)).action == "stop"


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_order_of_arrival_decides_nothing(order: tuple[int, ...]) -> None:
    scores = {0: 0.5, 1: None, 2: 0.5, 3: 0.4}
    assert halve(scores, order) == ({0, 2}, {3: "pruned at epoch 1: 3rd of 4"})


def test_ties_go_to_the_lower_trial() -> None:
    assert halve({0: 0.5, 1: 0.5, 2: 0.5}, (2, 1, 0))[0] == {0, 1}


def test_whoever_is_pruned_in_a_tie_is_told_so() -> None:
    pruned = halve({0: 0.0, 1: 0.0, 2: 0.0, 3: 0.4}, (0, 1, 2, 3))[1]
    assert pruned == {1: f"pruned at epoch 1: 3rd of 4, {TIED}", 2: f"pruned at epoch 1: 4th of 4, {TIED}"}
    pruned = halve({0: 0.5, 1: None, 2: None, 3: 0.4}, (0, 1, 2, 3))[1]
    assert TIED not in "".join(pruned.values())


def test_an_odd_rung_keeps_the_larger_half() -> None:
    assert halve({i: float(i) for i in range(5)}, (0, 1, 2, 3, 4))[0] == {2, 3, 4}


def test_a_single_trial_always_goes_on() -> None:
    assert Halving([7], first_rung=1 / EPOCHS, reduction=2).report(7, at(1, 0.0)).action == "continue"


def test_a_trial_without_a_number_is_never_promoted() -> None:
    halving = Halving(range(2), first_rung=1 / EPOCHS, reduction=2)
    halving.report(0, at(1, None))
    ruling = halving.leave(1, at(0, None))
    assert ruling.promoted == ()
    assert ruling.pruned == {0: "pruned at epoch 1: 1st of 2"}


def test_rungs_grow_by_the_reduction() -> None:
    halving = Halving(range(9), first_rung=2 / EPOCHS, reduction=3)
    assert [halving.report(i, at(1, 0.0)).action for i in range(9)] == ["continue"] * 9
    for i in range(9):
        halving.report(i, at(2, float(i)))
    assert halving.rung == 6 / EPOCHS
    assert [halving.report(i, at(5, float(i))).action for i in (6, 7, 8)] == ["continue"] * 3
    assert [halving.report(i, at(6, float(i))).action for i in (6, 7, 8)] == ["pause", "pause", "continue"]


def test_reports_of_a_rung_that_is_decided_change_nothing() -> None:
    halving = Halving(range(2), first_rung=1 / EPOCHS, reduction=2)
    halving.report(0, at(1, 0.1))
    halving.report(1, at(1, 0.9))
    assert halving.report(1, at(1, 0.9)) == Ruling(action="continue")
    assert halving.rung == 2 / EPOCHS


def test_a_failure_completes_the_rung() -> None:
    halving = Halving(range(3), first_rung=1 / EPOCHS, reduction=2)
    halving.report(0, at(1, 0.1))
    halving.report(1, at(1, 0.9))
    ruling = halving.leave(2, at(0, None))
    assert (ruling.action, ruling.promoted, ruling.pruned) == ("stop", (0, 1), {})


def test_a_trial_that_stopped_early_keeps_its_place_in_later_rungs() -> None:
    halving = Halving(range(2), first_rung=4 / EPOCHS, reduction=2)
    assert halving.leave(0, at(2, 0.9)) == Ruling(action="stop")
    ruling = halving.report(1, at(4, 0.5))
    assert (ruling.action, ruling.pruned) == ("stop", {1: "pruned at epoch 4: 2nd of 2"})


def test_a_trial_that_stopped_early_is_not_pruned() -> None:
    halving = Halving(range(2), first_rung=4 / EPOCHS, reduction=2)
    halving.leave(0, at(2, 0.1))
    ruling = halving.report(1, at(4, 0.5))
    assert (ruling.action, ruling.promoted, ruling.pruned) == ("continue", (1,), {})


def test_a_pruned_trial_that_ends_is_not_counted_again() -> None:
    halving = Halving(range(2), first_rung=1 / EPOCHS, reduction=2)
    halving.report(0, at(1, 0.1))
    halving.report(1, at(1, 0.9))
    assert halving.leave(0, at(1, None)) == Ruling(action="stop")
    assert halving.report(1, at(2, 0.9)).action == "continue"


def test_whole_brackets_end_the_same_in_any_order() -> None:
    outcomes = {_bracket(random.Random(seed)) for seed in range(50)}
    assert len(outcomes) == 1


def _bracket(arrival: random.Random) -> tuple[tuple[int, int], ...]:
    """Run 8 trials of at most 4 epochs, one of which fails at epoch 2, and return how far each got."""
    halving = Halving(range(8), first_rung=1 / EPOCHS, reduction=2)
    epochs = dict.fromkeys(range(8), 0)
    running = set(range(8))
    paused: set[int] = set()
    while running:
        trial = arrival.choice(sorted(running))
        running.discard(trial)
        epochs[trial] += 1
        if epochs[trial] == 4 or (trial, epochs[trial]) == (6, 2):
            ruling = halving.leave(trial, at(epochs[trial], None if trial == 6 else trial / 10))
        else:
            ruling = halving.report(trial, at(epochs[trial], trial / 10))
        paused -= set(ruling.pruned)
        running |= set(ruling.promoted) & paused
        paused -= running
        if ruling.action == "continue":
            running.add(trial)
        elif ruling.action == "pause":
            paused.add(trial)
    assert not paused
    return tuple(epochs.items())


def test_places_are_ordinals() -> None:
    _, pruned = halve({i: -float(i) for i in range(24)}, tuple(range(24)))
    assert pruned[12] == "pruned at epoch 1: 13th of 24"
    assert pruned[20] == "pruned at epoch 1: 21st of 24"
    assert pruned[21] == "pruned at epoch 1: 22nd of 24"
    assert pruned[22] == "pruned at epoch 1: 23rd of 24"


def test_the_loss_breaks_ties_before_the_number_does() -> None:
    halving = Halving(range(4), first_rung=1 / EPOCHS, reduction=2)
    for trial, loss in enumerate((0.9, 0.7, 0.8, 0.6)):
        ruling = halving.report(trial, at(1, 0.0, loss))
    assert ruling.promoted == (1, 3)
    behind = "by its validation loss: it has the score of one that went on"
    assert ruling.pruned == {
        2: f"pruned at epoch 1: 3rd of 4, {behind}",
        0: f"pruned at epoch 1: 4th of 4, {behind}",
    }


def test_the_loss_never_outweighs_the_score() -> None:
    halving = Halving(range(2), first_rung=1 / EPOCHS, reduction=2)
    halving.report(0, at(1, 0.4, 0.1))
    assert halving.report(1, at(1, 0.5, 9.0)).promoted == (1,)


def test_a_loss_that_is_not_known_is_behind_any_that_is() -> None:
    halving = Halving(range(2), first_rung=1 / EPOCHS, reduction=2)
    halving.report(0, Standing(epoch=1, share=1 / EPOCHS, score=0.5))
    assert halving.report(1, at(1, 0.5, 9.0)).promoted == (1,)


def test_a_rung_is_decided_by_the_first_evaluation_that_is_no_earlier() -> None:
    halving = Halving(range(2), first_rung=0.2, reduction=2)
    assert [halving.report(i, at(3, float(i))).action for i in (0, 1)] == ["continue"] * 2
    assert [halving.report(i, at(4, float(i))).action for i in (0, 1)] == ["pause", "continue"]
    assert halving.rung == 0.4


def test_rungs_before_the_same_evaluation_are_one() -> None:
    halving = Halving(range(4), first_rung=0.1, reduction=2)
    for i in range(4):
        ruling = halving.report(i, Standing(epoch=1, share=0.5, score=float(i)))
    assert ruling.promoted == (2, 3)
    assert halving.rung == 0.8


def test_trials_of_different_length_are_compared_at_the_same_share() -> None:
    halving = Halving(range(2), first_rung=0.5, reduction=2)
    assert halving.report(0, Standing(epoch=2, share=2 / 8, score=0.9)).action == "continue"
    assert halving.report(1, Standing(epoch=2, share=2 / 4, score=0.5)).action == "pause"
    ruling = halving.report(0, Standing(epoch=4, share=4 / 8, score=0.9))
    assert (ruling.promoted, ruling.pruned) == ((0,), {1: "pruned at epoch 2: 2nd of 2"})


def test_asha_prunes_nobody_in_a_tie() -> None:
    asha = Asha(first_rung=1 / EPOCHS, reduction=2)
    assert [asha.report(i, at(1, 0.0, float(i))).action for i in range(4)] == ["continue"] * 4

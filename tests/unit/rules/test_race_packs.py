"""A race whose trials are trained in packs."""

import dataclasses

import pytest

from pipeline.config import Range
from pipeline.core.engine.events import TrialEnded
from pipeline.rules.race import place_of
from tests.unit.rules.raced import EPOCHS, SEARCH, epoch_of, listed, next_place, runner, told


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize(("most", "largest"), [(2, 2), (4, 3), (6, 6)])
def test_a_search_in_packs_ends_like_one_of_single_trials(most: int, largest: int, slots: int) -> None:
    alone, packed = runner(), runner(most=most, slots=slots)
    assert packed.run() == alone.run()
    assert set(packed.tested) == set(alone.tested)
    assert {len(pack) for pack in alone.packs} == {1}
    assert max(len(pack) for pack in packed.packs) == largest


def test_packs_are_formed_anew_of_those_that_go_on() -> None:
    run = runner(jobs="a", slots=1, most=4)
    run.run()
    assert [len(pack) for pack in run.packs] == [3, 3, 3, 2, 1]  # two at the start, two rungs, the test
    best = sorted(run.seen, key=lambda place: -run.seen[place]["method.dropout"])
    assert (set(run.packs[2]), set(run.packs[3])) == ({*best[:3]}, {*best[:2]})


def test_trials_that_cannot_share_a_batch_are_in_packs_of_their_own() -> None:
    space = {"engine.batch_size": Range(choice=[8, 16]), "method.dropout": Range(uniform=[0.0, 0.9])}
    run = runner(jobs="a", search=dataclasses.replace(SEARCH, space=space), most=6)
    assert run.run() == runner(jobs="a", search=dataclasses.replace(SEARCH, space=space)).run()
    for pack in run.packs:
        assert len({run.seen[place]["engine.batch_size"] for place in pack}) == 1
    assert max(map(len, run.packs)) == 3


def test_where_only_some_of_a_pack_go_on_they_are_suggested_again() -> None:
    asha = dataclasses.replace(SEARCH, scheduler="asha", trials=4)
    run = runner(jobs="a", search=asha, slots=1, most=4)
    outcome = run.run()
    first, *again, _ = run.packs
    assert len(first) == 4 and again and all(set(pack) < set(first) for pack in again)
    assert any(epochs == EPOCHS for epochs, _ in outcome.values())


def test_a_pack_whose_process_dies_for_good_is_tried_again_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    race, _ = listed(monkeypatch, "a", 3, most=3)
    pack = [place_of(one) for one in race.suggest() or []]
    assert len(pack) == 3
    race.lose(pack, "its process ended 3 times")
    assert [next_place(race) for _ in pack] == pack
    assert race.suggest() is None
    race.lose([pack[1]], "its process ended 3 times")
    for place in (pack[0], pack[2]):
        race.end(place, epoch_of(4, 0.5))
    ended = {end.trial.index: end.status for end in told(race) if isinstance(end, TrialEnded)}
    assert ended == {1: "failed", 0: "done", 2: "done"}

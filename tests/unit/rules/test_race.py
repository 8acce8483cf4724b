import dataclasses
import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from pipeline.config import Range, SearchConfig
from pipeline.core.engine.events import SweepEvent, TrialEnded, TrialPaused, TrialReported, TrialStarted
from pipeline.rules.lanes import select
from pipeline.rules.race import TIME_IS_UP, Place, Race, place_of, score_of
from pipeline.rules.search import Params
from tests.played import evaluated, played_job

EPOCHS = 4
SEARCH = SearchConfig(trials=6, space={"method.dropout": Range(uniform=[0.0, 0.9])})

Step = Callable[[Mapping[str, Any], int], dict[str, Any]]
"""A candidate and an epoch -> what the actor would report."""


def step(candidate: Mapping[str, Any], epoch: int) -> dict[str, Any]:
    """The dropout is the score from the first epoch on."""
    return epoch_of(epoch, candidate["params"]["method.dropout"])


def epoch_of(epoch: int, score: float, *, best: bool = True, **given: Any) -> dict[str, Any]:
    """What a trainer says of an epoch."""
    report = evaluated(epoch, score, best=best), ()
    result = {"epoch": epoch, "score": score, "went_on": False, "report": report, "bundle": Path(f"bundle-{epoch}")}
    return result | ({"done": True, "reason": "all epochs done"} if epoch == EPOCHS else {}) | given


class Runner:
    """Gives the packs of a race slots, and lets them report in an order that a generator draws."""

    def __init__(self, race: Race, *, step: Step, slots: int, seed: int) -> None:
        self.race, self.step, self.slots, self.random = race, step, slots, random.Random(seed)
        self.running: list[list[dict[str, Any]]] = []
        self.packs: list[list[Place]] = []
        """All that were handed out."""
        self.tested: list[Place] = []
        self.seen: dict[Place, Params] = {}
        self.most_running = 0

    def run(self) -> dict[Place, tuple[int, str]]:
        """Return how many epochs each trial had, and why it ended early."""
        while self._fill():
            self.most_running = max(self.most_running, len(self.running))
            self._advance(self.running.pop(self.random.randrange(len(self.running))))
        assert self.race.finished
        self.race.close()
        ended = [event for event in self.race.take_events() if isinstance(event, TrialEnded)]
        assert max(Counter(end.trial.key for end in ended).values()) == 1
        return {
            Place(end.trial.job, end.trial.index): (end.epochs, end.reason if end.status == "pruned" else "")
            for end in ended
        }

    def _fill(self) -> bool:
        """Give out the free slots; False if nothing runs then."""
        while len(self.running) < self.slots:
            pack = self.race.suggest()
            if pack is None:
                break
            self.packs.append([place_of(candidate) for candidate in pack])
            for candidate in pack:
                self.seen[place_of(candidate)] = candidate["params"]
                self.race.start(place_of(candidate))
            self.running.append(pack)
        return bool(self.running)

    def _advance(self, pack: list[dict[str, Any]]) -> None:
        places = [place_of(candidate) for candidate in pack]
        if "bundle" in pack[0]:
            self.tested += places
            results = {place.index: {"failed": "no test here", "done": True} for place in places}
        else:
            results = {candidate["index"]: self.step(candidate, candidate["told"] + 1) for candidate in pack}
        if going_on := self.race.take_in(places, results):
            self.running.append([self.race.candidate(place) for place in going_on])


def runner(
    *, jobs: str = "ab", slots: int = 2, seed: int = 0, step: Step = step, search: SearchConfig = SEARCH, most: int = 1
) -> Runner:
    race = Race([played_job(name) for name in jobs], search, lambda: 0.0, lambda waiting: most)
    return Runner(race, step=step, slots=slots, seed=seed)


def test_halving_trains_the_best_to_the_end_and_prunes_the_rest() -> None:
    outcome = runner(jobs="a").run()
    assert sorted(epochs for epochs, _ in outcome.values()) == [1, 1, 1, 2, 4, 4]
    assert sorted(why for _, why in outcome.values()) == [
        "",
        "",
        "pruned at epoch 1: 4th of 6",
        "pruned at epoch 1: 5th of 6",
        "pruned at epoch 1: 6th of 6",
        "pruned at epoch 2: 3rd of 3",
    ]


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
    assert len(run.packs[0]) == 4 and 1 <= len(run.packs[1]) < 4
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


@pytest.mark.parametrize("algorithm", ["random", "grid", "optuna"])
def test_every_searcher_ends_with_a_test_of_each_job(algorithm: Literal["random", "grid", "optuna"]) -> None:
    search = dataclasses.replace(SEARCH, algorithm=algorithm, trials=5, cohort=2, grid_points=5)
    runs = [runner(search=search, seed=seed) for seed in range(5)]
    outcomes = [run.run() for run in runs]
    assert all(len(outcome) == 10 for outcome in outcomes)
    assert all(outcome == outcomes[0] for outcome in outcomes)
    for run in runs:
        assert sorted(place.job for place in run.tested) == ["a", "b"]
        for place in run.tested:
            scores = {p: params["method.dropout"] for p, params in run.seen.items() if p.job == place.job}
            assert place == max(scores, key=lambda p: scores[p])


def test_each_cohort_is_halved_by_itself() -> None:
    search = dataclasses.replace(SEARCH, algorithm="optuna", trials=4, cohort=2)
    outcome = runner(search=search, jobs="a").run()
    assert sorted(epochs for place, (epochs, _) in outcome.items() if place.index < 2) == [1, 4]
    assert sorted(epochs for place, (epochs, _) in outcome.items() if place.index >= 2) == [1, 4]


def test_slots_stay_filled_while_trials_wait_at_their_rungs() -> None:
    run = runner(jobs="abc", slots=4)
    run.run()
    assert run.most_running == 4


def test_a_failed_trial_is_out_of_the_race_whenever_it_fails() -> None:
    def failing(candidate: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        if candidate["index"] == 2 and epoch == 1:
            return {"failed": "the loss is not a number", "done": True}
        return step(candidate, epoch)

    outcomes = [runner(step=failing, seed=seed).run() for seed in range(5)]
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert outcomes[0][Place("a", 2)] == (0, "")
    assert sum(epochs == 4 for epochs, _ in outcomes[0].values()) == 4


def test_a_job_without_a_score_has_no_test() -> None:
    def failing(candidate: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        return {"failed": "no", "done": True} if candidate["job"] == "b" else step(candidate, epoch)

    run = runner(step=failing)
    run.run()
    assert [place.job for place in run.tested] == ["a"]
    assert run.race.outcome().missing == {
        "a": "the winner of a could not be tested (no test here)",
        "b": "b has no trial with a score (no)",
    }


def test_a_failed_trial_does_not_win_with_its_earlier_epochs() -> None:
    def failing(candidate: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        return {"failed": "no", "done": True} if epoch == 2 else step(candidate, epoch)

    run = runner(step=failing, jobs="a", search=dataclasses.replace(SEARCH, trials=1))
    assert run.run() == {Place("a", 0): (1, "")}
    assert run.tested == []


def test_early_stopping_ends_a_trial_between_rungs() -> None:
    def stopping(candidate: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        if epoch == 4:
            return {"done": True, "score": candidate["params"]["method.dropout"], "reason": "early stopping"}
        return step(candidate, epoch)

    outcome = runner(step=stopping, jobs="a").run()
    assert sorted(epochs for epochs, _ in outcome.values()) == [1, 1, 1, 2, 3, 3]


def test_without_a_scheduler_every_trial_trains_to_its_end() -> None:
    search = dataclasses.replace(SEARCH, scheduler="none", trials=3)
    assert set(runner(search=search).run().values()) == {(4, "")}


def test_asha_judges_each_job_by_itself_and_all_cohorts_of_it_together() -> None:
    def shifted(candidate: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        score = candidate["params"]["method.dropout"] + (10 if candidate["job"] == "a" else 0)
        return epoch_of(epoch, score)

    search = dataclasses.replace(SEARCH, scheduler="asha", trials=8)
    outcome = runner(search=search, step=shifted, slots=1).run()
    for job in "ab":
        ended = [(epochs, why) for place, (epochs, why) in outcome.items() if place.job == job]
        assert any(epochs == 4 for epochs, _ in ended)
        assert any(why == "pruned at epoch 1: behind those before it" for _, why in ended)

    def worse(candidate: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        return epoch_of(epoch, -float(candidate["index"]))

    one_by_one = dataclasses.replace(search, algorithm="optuna", cohort=1, trials=3)
    assert [epochs for epochs, _ in runner(search=one_by_one, step=worse, jobs="a").run().values()] == [4, 1, 1]


def test_asha_does_not_prune_a_trial_where_it_went_on_before_the_sweep_was_resumed() -> None:
    def trained_before(candidate: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        return step(candidate, epoch) | {"went_on": epoch < 2}

    search = dataclasses.replace(SEARCH, scheduler="asha", trials=8)
    outcome = runner(search=search, step=trained_before, jobs="a", slots=1).run()
    assert {epochs for epochs, _ in outcome.values()} == {2, 4}


def test_the_time_budget_ends_running_trials_after_their_epoch_and_waiting_ones_at_once() -> None:
    clock = SimpleNamespace(now=0.0)

    def timed(candidate: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        clock.now += 1
        return step(candidate, epoch)

    race = Race([played_job("a")], dataclasses.replace(SEARCH, time_budget_s=3.5), lambda: clock.now)
    run = Runner(race, step=timed, slots=2, seed=0)
    outcome = run.run()
    assert clock.now == 5  # two were running when the time was up
    assert sorted(outcome.values()) == [(0, TIME_IS_UP)] + [(1, TIME_IS_UP)] * 5
    assert Place("a", 5) not in run.seen
    assert len(run.tested) == 1


def test_the_clock_starts_when_the_first_trial_runs() -> None:
    clock = SimpleNamespace(now=100.0)
    race = Race([played_job("a")], dataclasses.replace(SEARCH, time_budget_s=5), lambda: clock.now)
    place = next_place(race)
    clock.now = 200.0
    assert not race.cut(place)
    race.start(place)
    clock.now = 204.0
    race.start(place)
    assert not race.cut(place)
    clock.now = 205.5
    assert race.cut(place)


class Listed:
    """Proposes the cohorts that it is given, and keeps what it learns."""

    def __init__(self, cohorts: Sequence[int]) -> None:
        self.cohorts = list(cohorts)
        self.learnt: list[list[float | None]] = []

    def propose(self) -> list[Params] | None:
        return [{} for _ in range(self.cohorts.pop(0))] if self.cohorts else None

    def learn(self, scores: Sequence[float | None]) -> None:
        self.learnt.append(list(scores))


def listed(monkeypatch: pytest.MonkeyPatch, jobs: str, *cohorts: int, most: int = 1) -> tuple[Race, list[Listed]]:
    """A race without pruning whose jobs have cohorts of these sizes."""
    made: list[Listed] = []

    def proposer_of(search: SearchConfig, job: str, seed: int) -> Listed:
        made.append(Listed(cohorts))
        return made[-1]

    monkeypatch.setattr("pipeline.rules.race.proposer_of", proposer_of)
    search = SearchConfig(scheduler="none")
    return Race([played_job(name) for name in jobs], search, lambda: 0.0, lambda waiting: most), made


def next_place(race: Race) -> Place:
    (candidate,) = race.suggest() or []
    return place_of(candidate)


def report(race: Race, place: Place, result: dict[str, Any]) -> list[Place]:
    """Take in what a trial says that is trained alone."""
    return race.take_in([place], {place.index: result})


def test_jobs_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    race, _ = listed(monkeypatch, "abc", 2)
    assert [next_place(race) for _ in range(6)] == [Place(job, index) for index in (0, 1) for job in "abc"]
    assert race.suggest() is None
    assert not race.finished


def test_the_next_cohort_waits_for_all_scores_of_the_last_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    race, (proposer,) = listed(monkeypatch, "a", 3, 1)
    places = [next_place(race) for _ in range(3)]
    race.end(places[2], epoch_of(4, 0.2))
    report(race, places[0], epoch_of(1, 0.1))
    race.end(places[0], {"score": 0.1, "done": True, "reason": "early stopping"})
    assert race.suggest() is None
    race.lose([places[1]], "its process ended 3 times")
    assert proposer.learnt == []
    assert next_place(race) == Place("a", 3)
    assert proposer.learnt == [[0.1, None, 0.2]]


def test_the_winner_is_tested_once_all_trials_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    race, _ = listed(monkeypatch, "a", 2)
    first, second = next_place(race), next_place(race)
    report(race, second, epoch_of(3, 0.7))
    race.end(second, epoch_of(4, 0.9))
    assert race.suggest() is None
    race.end(first, epoch_of(4, 0.5))
    assert race.suggest() == [{"job": "a", "index": 1, "params": {}, "bundle": Path("bundle-4")}]
    assert race.suggest() is None
    assert not race.finished
    race.lose([second], "its process ended 3 times")
    assert race.suggest() is None
    assert race.finished
    assert race.outcome().missing == {"a": "the winner of a could not be tested (its process ended 3 times)"}


def test_a_search_without_trials_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    race, _ = listed(monkeypatch, "a")
    assert race.suggest() is None
    assert race.finished


def told(race: Race) -> list[SweepEvent]:
    return list(race.take_events())


def test_events_are_told_once_and_in_order() -> None:
    race = Race([played_job("a")], dataclasses.replace(SEARCH, trials=2), lambda: 0.0)
    place = next_place(race)
    race.start(place)
    assert report(race, place, epoch_of(1, 0.5)) == []
    assert [type(event) for event in told(race)] == [TrialStarted, TrialReported, TrialPaused]
    assert told(race) == []


def test_the_end_sums_up_the_epochs_and_counts_the_last_one_once(monkeypatch: pytest.MonkeyPatch) -> None:
    race, _ = listed(monkeypatch, "a", 1)
    place = next_place(race)
    for epoch, score in enumerate((0.5, 0.7), start=1):
        report(race, place, epoch_of(epoch, score))
    assert race.candidate(place) == {"job": "a", "index": 0, "params": {}, "told": 2, "best": 0.7}
    report(race, place, epoch_of(3, 0.7, best=False))
    race.end(place, epoch_of(3, 0.7, best=False, reason="early stopping"))
    *reports, ended = told(race)
    assert isinstance(ended, TrialEnded)
    assert len(reports) == 3
    assert (ended.status, ended.reason) == ("done", "early stopping")
    assert (ended.epochs, ended.best_epoch, ended.best_primary) == (3, 2, 0.7)
    assert (ended.bundle, ended.train_s) == (Path("bundle-3"), 6.0)


def test_a_trial_that_nothing_is_known_of_begins_at_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    race, _ = listed(monkeypatch, "a", 1)
    assert race.suggest() == [{"job": "a", "index": 0, "params": {}, "told": 0, "best": -math.inf}]


def test_what_stops_one_trial_stops_all(monkeypatch: pytest.MonkeyPatch) -> None:
    race, _ = listed(monkeypatch, "a", 1)
    race.end(next_place(race), {"stop": "Nothing can be written any more", "done": True})
    assert race.stopped == "Nothing can be written any more"
    assert told(race) == []


def test_the_best_score_wins_and_the_lower_trial_among_equals() -> None:
    assert select({3: 0.5, 1: 0.9, 0: None, 2: 0.9}) == 1
    assert select({0: -1.0}) == 0
    assert select({0: None}) is None
    assert select({}) is None


def test_what_is_no_number_is_no_score() -> None:
    assert score_of({"score": 0.5}) == 0.5
    assert score_of({"score": float("nan")}) is None
    assert score_of({"score": float("-inf")}) is None
    assert score_of({"failed": "no", "score": 0.5}) is None
    assert score_of({}) is None

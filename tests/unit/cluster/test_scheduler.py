import dataclasses
import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search import Searcher

from pipeline.cluster.narrator import Narrator
from pipeline.cluster.scheduler import Matrix
from pipeline.cluster.searcher import PACK, RESULTS, Candidates, places_of
from pipeline.config import Range, SearchConfig
from pipeline.core.engine.events import SweepEvent, TrialEnded
from pipeline.rules.halving import Asha, Standing
from pipeline.rules.race import TIME_IS_UP, Place, Race
from tests.played import evaluated, played_job

EPOCHS = 4
SEARCH = SearchConfig(trials=6, reduction=2, space={"method.dropout": Range(uniform=[0.0, 0.9])})


class Cache:
    """As much of Tune's actor cache as the scheduler touches."""

    def __init__(self) -> None:
        self._max_num_objects: Counter[Any] = Counter()

    def increase_max(self, key: Any, by: int) -> None:
        self._max_num_objects[key] += by


class Controller:
    """A stand-in for Tune's: trials get slots, and report in an order that a generator draws."""

    def __init__(self, race: Race, *, slots: int, seed: int, died: Place | None = None) -> None:
        self.told: list[SweepEvent] = []
        self.candidates, self.scheduler = Candidates(race), Matrix(race)
        self.narrator, self.died = Narrator(race, self.told.append), died
        self.race, self.slots, self.random = race, slots, random.Random(seed)
        self._actor_cache, self._resetting_trials = Cache(), set[TuneTrial]()
        self._tune_controller = self
        self.trials: list[TuneTrial] = []
        self.tested: list[Place] = []
        self.most_running = 0

    def get_trials(self) -> list[TuneTrial]:
        return list(self.trials)

    def stop_trial(self, trial: TuneTrial) -> None:
        self.scheduler.on_trial_remove(self, trial)
        trial.status = TuneTrial.TERMINATED

    def run(self) -> dict[Place, tuple[int, str, str]]:
        """Return how many epochs each trial had, and how and why it ended."""
        while self._fill() or self._running():
            self.most_running = max(self.most_running, len(self._running()))
            if self._running():
                self._advance(self.random.choice(self._running()))
        self.race.close()
        self.narrator.tell()
        ended = [event for event in self.told if isinstance(event, TrialEnded)]
        return {Place(end.trial.job, end.trial.index): (end.epochs, end.status, end.reason) for end in ended}

    def _fill(self) -> bool:
        """Give out the free slots; False if the searcher has finished."""
        while len(self._running()) < self.slots:
            trial = self.scheduler.choose_trial_to_run(self)
            if trial is not None:
                self.narrator.on_trial_start(0, [], trial)
                trial.status = TuneTrial.RUNNING
                continue
            suggested = self.candidates.suggest(f"t{len(self.trials)}")
            if suggested == Searcher.FINISHED:
                return False
            if not isinstance(suggested, dict):
                assert self._running(), "everything waits for something else"
                return True
            self.trials.append(TuneTrial("stub", config=suggested, trial_id=f"t{len(self.trials)}", stub=True))
            self.scheduler.on_trial_add(self, self.trials[-1])
        return True

    def _running(self) -> list[TuneTrial]:
        return [trial for trial in self.trials if trial.status == TuneTrial.RUNNING]

    def _advance(self, trial: TuneTrial) -> None:
        """Let a trial report, as TuneController._process_trial_result does."""
        places = places_of(trial)
        if self.died in places:
            trial.status = TuneTrial.ERROR
            self.scheduler.on_trial_error(self, trial)
            self.narrator.on_trial_error(0, [], trial)
            return
        pack = trial.config[PACK]
        if "bundle" in pack[0]:
            self.tested += places
            results: list[Any] = [(places[0].index, {"failed": "no test here", "done": True})]
        else:
            results = [(one["index"], step(one, one["told"] + 1)) for one in pack]
        done = all("done" in one for _, one in results)
        result = {RESULTS: results, "done": done}
        decision = TrialScheduler.STOP if done else self.scheduler.on_trial_result(self, trial, result)
        if decision == TrialScheduler.STOP:
            self.scheduler.on_trial_complete(self, trial, result)
            trial.status = TuneTrial.TERMINATED


def step(config: Mapping[str, Any], epoch: int) -> dict[str, Any]:
    """The dropout is the score from the first epoch on."""
    score = config["params"]["method.dropout"]
    report, bundle = (evaluated(epoch, score), ()), Path(f"bundle-{epoch}")
    result = {"epoch": epoch, "score": score, "went_on": False, "report": report, "bundle": bundle}
    return result | ({"done": True, "reason": "all epochs done"} if epoch == EPOCHS else {})


def controller(
    *,
    slots: int = 2,
    seed: int = 0,
    died: Place | None = None,
    search: SearchConfig = SEARCH,
    clock: Callable[[], float] = lambda: 0.0,
    most: int = 1,
) -> Controller:
    race = Race([played_job(job) for job in "ab"], search, clock, lambda waiting: most)
    return Controller(race, slots=slots, seed=seed, died=died)


def test_the_race_is_run_to_its_end_whatever_the_timing() -> None:
    first = controller()
    outcome = first.run()
    assert sorted(epochs for epochs, _, _ in outcome.values()) == [1] * 6 + [2] * 2 + [4] * 4
    assert sorted(place.job for place in first.tested) == ["a", "b"]
    for seed in range(20):
        assert controller(seed=seed, slots=1 + seed % 5, most=1 + seed % 4).run() == outcome


def test_slots_stay_filled_while_trials_wait_at_their_rungs() -> None:
    run = controller(slots=4)
    run.run()
    assert run.most_running == 4


def test_idle_actors_are_kept() -> None:
    run = controller()
    run.run()
    assert min(run._actor_cache._max_num_objects.values()) > len(run.trials)


def test_a_trial_that_died_for_good_is_out_of_the_race(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TuneTrial, "error_file", "")
    outcome = controller(died=Place("a", 2)).run()
    assert outcome == controller(died=Place("a", 2), most=6).run()  # where it takes its pack along at first
    assert len(outcome) == 12
    assert outcome[Place("a", 2)] == (0, "failed", "its process ended 0 times")


def test_trials_that_wait_are_ended_when_the_time_is_up() -> None:
    clock = itertools.count()
    search = dataclasses.replace(SEARCH, time_budget_s=50)
    run = controller(search=search, clock=lambda: next(clock))
    outcome = run.run()
    assert len(outcome) == 12
    assert (TIME_IS_UP in {why for _, _, why in outcome.values()}) and len(run.tested) == 2
    assert all(trial.status == TuneTrial.TERMINATED for trial in run.trials)
    assert not run.scheduler._trials, "those that have ended are looked through no more"


def test_a_trial_whose_actor_died_idle_is_spared() -> None:
    run = controller(slots=1)
    config = run.candidates.suggest("t0")
    assert isinstance(config, dict)
    assert len(config[PACK]) == 1
    trial = TuneTrial("stub", config=config, trial_id="t0", stub=True)
    trial.run_metadata.num_failures = 1
    run.trials.append(trial)
    run._resetting_trials.add(trial)
    run._set_trial_status = lambda trial, status: setattr(trial, "status", status)  # type: ignore[attr-defined]
    run.scheduler.on_trial_add(run, trial)
    assert (trial.status, trial.run_metadata.num_failures) == (TuneTrial.PAUSED, 0)
    assert not run._resetting_trials
    assert run.scheduler.choose_trial_to_run(run) is trial


@pytest.mark.filterwarnings("ignore:invalid value")  # Tune's own
@pytest.mark.parametrize(("first_rung", "reduction"), [(1, 2), (2, 3)])
def test_our_asha_prunes_what_tunes_prunes(first_rung: int, reduction: int) -> None:
    most = first_rung * 10**6
    arrival, ours = random.Random(0), Asha(first_rung=first_rung / most, reduction=reduction)
    theirs = ASHAScheduler(
        time_attr="epoch",
        metric="score",
        mode="max",
        max_t=most,
        grace_period=first_rung,
        reduction_factor=reduction,
    )
    stubs = {str(number): TuneTrial("stub", trial_id=str(number), stub=True) for number in range(40)}
    for stub in stubs.values():
        theirs.on_trial_add(None, stub)
    epochs, ended = dict.fromkeys(stubs, 0), 0
    while epochs:
        number = arrival.choice(sorted(epochs))
        epochs[number] += 1
        score = arrival.choice([None, *(arrival.random() for _ in range(9))])
        ruling = ours.report(int(number), Standing(epoch=epochs[number], share=epochs[number] / most, score=score))
        result = {"epoch": epochs[number], "score": -math.inf if score is None else score}
        assert theirs.on_trial_result(None, stubs[number], result) == ruling.action.upper()
        ended += ruling.action == "stop"
        if ruling.action == "stop" or epochs[number] == 30:
            del epochs[number]
    assert 10 < ended < 40

import random
from collections import Counter
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from pipeline.cluster.scheduler import TIME_IS_UP, Deadline, Matrix
from pipeline.cluster.searcher import Candidates, Place, is_test, place_of
from pipeline.config import Range, SearchConfig
from pipeline.rules.search import proposer_of

EPOCHS = 4
RATE = Range(uniform=[0.0, 1.0])

Step = Callable[[Mapping[str, Any], int], dict[str, Any]]
"""A trial's config and an epoch -> what the actor would report."""


class Cache:
    """As much of Tune's actor cache as the scheduler touches."""

    def __init__(self) -> None:
        self._max_num_objects: Counter[Any] = Counter()

    def increase_max(self, key: Any, by: int) -> None:
        self._max_num_objects[key] += by


class Controller:
    """A stand-in for Tune's: trials get slots, and report in an order that a generator draws."""

    def __init__(self, candidates: Candidates, scheduler: Matrix, *, step: Step, slots: int, seed: int) -> None:
        self.candidates, self.scheduler, self.step = candidates, scheduler, step
        self.slots, self.random = slots, random.Random(seed)
        self._actor_cache, self._resetting_trials = Cache(), set[TuneTrial]()
        self._tune_controller = self
        self.trials: list[TuneTrial] = []
        self.tested: list[Place] = []
        self.most_running = 0

    def get_trials(self) -> list[TuneTrial]:
        return list(self.trials)

    def pause_trial(self, trial: TuneTrial, should_checkpoint: bool) -> None:
        assert not should_checkpoint
        trial.status = TuneTrial.PAUSED

    def stop_trial(self, trial: TuneTrial) -> None:
        self.scheduler.on_trial_remove(self, trial)
        self.candidates.on_trial_complete(trial.trial_id)
        trial.status = TuneTrial.TERMINATED

    def run(self) -> dict[Place, tuple[int, str]]:
        """Return how many epochs each trial had, and why it ended early."""
        while self._fill() or self._running():
            self.most_running = max(self.most_running, len(self._running()))
            if self._running():
                self._advance(self.random.choice(self._running()))
        assert all(trial.status == TuneTrial.TERMINATED for trial in self.trials)
        ours = [trial for trial in self.trials if not is_test(trial)]
        return {place_of(t): (t.config["told"], self.scheduler.pruned.get(place_of(t), "")) for t in ours}

    def _fill(self) -> bool:
        """Give out the free slots; False if the searcher has finished."""
        while len(self._running()) < self.slots:
            trial = self.scheduler.choose_trial_to_run(self)
            if trial is not None:
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
        if is_test(trial):
            self.tested.append(place_of(trial))
            result: dict[str, Any] = {"done": True}
        else:
            result = self.step(trial.config, trial.config["told"] + 1)
        if result.get("done"):
            if "epoch" in result:
                trial.config["told"] = result["epoch"]
            decision = TrialScheduler.STOP
        else:
            decision = self.scheduler.on_trial_result(self, trial, result)
            if decision != TrialScheduler.STOP:
                self.candidates.on_trial_result(trial.trial_id, result)
        if decision == TrialScheduler.STOP:
            self.scheduler.on_trial_complete(self, trial, result)
            self.candidates.on_trial_complete(trial.trial_id, result)
            trial.status = TuneTrial.TERMINATED


def step(config: Mapping[str, Any], epoch: int) -> dict[str, Any]:
    """The rate is the score from the first epoch on."""
    score = config["params"]["rate"]
    result = {"epoch": epoch, "score": score, "bundle": f"bundle-{epoch}", "went_on": False}
    return result | ({"done": True} if epoch == EPOCHS else {})


def controller(
    *, jobs: str = "ab", slots: int = 2, seed: int = 0, step: Step = step, search: SearchConfig | None = None
) -> Controller:
    search = search or SearchConfig(trials=6, space={"rate": RATE})
    deadline = Deadline(search.time_budget_s)
    candidates = Candidates({job: proposer_of(search, job, 0) for job in jobs}, over=deadline.over)
    return Controller(candidates, Matrix(search, deadline), step=step, slots=slots, seed=seed)


def test_halving_trains_the_best_to_the_end_and_prunes_the_rest() -> None:
    outcome = controller(jobs="a").run()
    assert sorted(epochs for epochs, _ in outcome.values()) == [1, 1, 1, 2, 4, 4]
    assert sorted(why for _, why in outcome.values()) == [
        "",
        "",
        "pruned at epoch 1: 4th of 6",
        "pruned at epoch 1: 5th of 6",
        "pruned at epoch 1: 6th of 6",
        "pruned at epoch 2: 3rd of 3",
    ]


def test_neither_timing_nor_slots_change_the_outcome() -> None:
    first = controller().run()
    for seed in range(20):
        assert controller(seed=seed, slots=1 + seed % 5).run() == first


@pytest.mark.parametrize("algorithm", ["random", "grid", "optuna"])
def test_every_searcher_ends_with_a_test_of_each_job(algorithm: Literal["random", "grid", "optuna"]) -> None:
    search = SearchConfig(algorithm=algorithm, trials=5, cohort=2, grid_points=5, space={"rate": RATE})
    runs = [controller(search=search, seed=seed) for seed in range(5)]
    outcomes = [run.run() for run in runs]
    assert all(len(outcome) == 10 for outcome in outcomes)
    assert all(outcome == outcomes[0] for outcome in outcomes)
    for run in runs:
        assert sorted(place.job for place in run.tested) == ["a", "b"]
        for place in run.tested:
            rates = {
                Place(t.config["job"], t.config["index"]): t.config["params"]["rate"]
                for t in run.trials
                if t.config["job"] == place.job
            }
            assert place == max(rates, key=lambda p: rates[p])


def test_each_cohort_is_halved_by_itself() -> None:
    search = SearchConfig(algorithm="optuna", trials=4, cohort=2, space={"rate": RATE})
    outcome = controller(search=search, jobs="a").run()
    assert sorted(epochs for place, (epochs, _) in outcome.items() if place.index < 2) == [1, 4]
    assert sorted(epochs for place, (epochs, _) in outcome.items() if place.index >= 2) == [1, 4]


def test_slots_stay_filled_while_trials_wait_at_their_rungs() -> None:
    run = controller(jobs="abc", slots=4)
    run.run()
    assert run.most_running == 4


def test_idle_actors_are_kept() -> None:
    run = controller()
    run.run()
    assert min(run._actor_cache._max_num_objects.values()) > len(run.trials)


def test_a_failed_trial_is_out_of_the_race_whenever_it_fails() -> None:
    def failing(config: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        if config["index"] == 2 and epoch == 1:
            return {"failed": "the loss is not a number", "done": True}
        return step(config, epoch)

    outcomes = [controller(step=failing, seed=seed).run() for seed in range(5)]
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert outcomes[0][Place("a", 2)] == (0, "")
    assert sum(epochs == 4 for epochs, _ in outcomes[0].values()) == 4


def test_a_job_without_a_score_has_no_test() -> None:
    def failing(config: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        return {"failed": "no", "done": True} if config["job"] == "b" else step(config, epoch)

    run = controller(step=failing)
    run.run()
    assert [place.job for place in run.tested] == ["a"]


def test_early_stopping_ends_a_trial_between_rungs() -> None:
    def stopping(config: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        if epoch == 4:
            return {"done": True, "score": config["params"]["rate"], "reason": "early stopping"}
        return step(config, epoch)

    outcome = controller(step=stopping, jobs="a").run()
    assert sorted(epochs for epochs, _ in outcome.values()) == [1, 1, 1, 2, 3, 3]


def test_without_a_scheduler_every_trial_trains_to_its_end() -> None:
    search = SearchConfig(scheduler="none", trials=3, space={"rate": RATE})
    assert set(controller(search=search).run().values()) == {(4, "")}


def test_asha_judges_each_job_by_itself() -> None:
    def shifted(config: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        result = step(config, epoch)
        return result | {"score": result["score"] + (10 if config["job"] == "a" else 0)}

    search = SearchConfig(scheduler="asha", trials=8, space={"rate": RATE})
    outcome = controller(search=search, step=shifted, slots=1).run()
    for job in "ab":
        ended = [(epochs, why) for place, (epochs, why) in outcome.items() if place.job == job]
        assert any(epochs == 4 for epochs, _ in ended)
        assert any(why == "pruned at epoch 1: behind those before it" for _, why in ended)


def test_asha_does_not_prune_a_trial_where_it_went_on_before_the_sweep_was_resumed() -> None:
    def trained_before(config: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        return step(config, epoch) | {"went_on": epoch < 2}

    search = SearchConfig(scheduler="asha", trials=8, reduction=2, space={"rate": RATE})
    outcome = controller(search=search, step=trained_before, jobs="a", slots=1).run()
    assert {epochs for epochs, _ in outcome.values()} == {2, 4}


def test_the_time_budget_ends_running_trials_after_their_epoch_and_waiting_ones_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("pipeline.cluster.scheduler.time.monotonic", lambda: clock.now)

    def timed(config: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        clock.now += 1
        return step(config, epoch)

    search = SearchConfig(trials=6, time_budget_s=3.5, space={"rate": RATE})
    run = controller(search=search, step=timed, jobs="a", slots=2)
    outcome = run.run()
    assert clock.now == 5  # two were running when the time was up
    assert sorted(why for _, why in outcome.values()) == [TIME_IS_UP] * 5
    assert [place for place, _ in run.candidates.never_started()] == [Place("a", 5)]
    assert len(run.tested) == 1


def test_the_clock_starts_when_the_first_trial_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("pipeline.cluster.scheduler.time.monotonic", lambda: clock.now)
    deadline = Deadline(5.0)
    clock.now = 100.0
    assert not deadline.over()
    deadline.start()
    clock.now = 104.0
    deadline.start()
    assert not deadline.over()
    clock.now = 105.5
    assert deadline.over()


def test_a_trial_whose_actor_died_idle_is_spared() -> None:
    run = controller(jobs="a", slots=1)
    config = run.candidates.suggest("t0")
    assert isinstance(config, dict)
    trial = TuneTrial("stub", config=config, trial_id="t0", stub=True)
    trial.run_metadata.num_failures = 1
    run.trials.append(trial)
    run._resetting_trials.add(trial)
    run._set_trial_status = lambda trial, status: setattr(trial, "status", status)  # type: ignore[attr-defined]
    run.scheduler.on_trial_add(run, trial)
    assert (trial.status, trial.run_metadata.num_failures) == (TuneTrial.PAUSED, 0)
    assert not run._resetting_trials
    assert run.scheduler.choose_trial_to_run(run) is trial


def test_a_trial_that_cannot_be_taken_up_again_frees_its_rung() -> None:
    search = SearchConfig(trials=2, space={"rate": RATE})
    run = controller(search=search, jobs="a", slots=2)
    run._fill()
    first, second = run.trials
    assert run.scheduler.on_trial_result(run, first, step(first.config, 1)) == "NOOP"
    second.max_failures, second.run_metadata.num_failures = 1, 1
    run.scheduler.on_trial_error(run, second)
    assert run.scheduler.choose_trial_to_run(run) is None
    second.run_metadata.num_failures = 2
    run.scheduler.on_trial_error(run, second)
    assert run.scheduler.choose_trial_to_run(run) is first

"""Sweeps on a real Ray, with sessions that have no model: real folders, real processes, real faults.

The classes of this file travel to the workers by value, so that these need not find it.
"""

import dataclasses
import functools
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray import cloudpickle

from pipeline.cluster import connection, weights
from pipeline.cluster import experiment as sweep
from pipeline.config import ClusterConfig, Range, SearchConfig
from pipeline.core.engine.events import (
    Diverged,
    EpochSaved,
    Finished,
    JobTested,
    SessionEvent,
    SweepEvent,
    TrialEnded,
    TrialReported,
    TrialStarted,
)
from pipeline.core.engine.trials import Job, Trial
from pipeline.core.engine.workers import ALONE, Workers
from pipeline.errors import SweepError, TrainingDiverged
from pipeline.rules.race import Outcome
from tests import played
from tests.played import evaluated, in_turn, played_job

pytestmark = pytest.mark.ray

TWO_SLOTS = ClusterConfig(num_cpus=2, object_store_bytes=100 * 2**20)
ONE_SLOT = dataclasses.replace(TWO_SLOTS, cpus_per_trial=2)
SCORES = {16: 0.5, 32: 0.9, 48: 0.7, 64: 0.3}
"""Width -> score after many epochs. A grid numbers the trials in this order, so trial 1 wins."""
GRID = SearchConfig(algorithm="grid", space={"method.width": Range(choice=list(SCORES))})
Faults = Mapping[str, tuple[int, str]]
"""Trial's key -> the epoch in which something goes wrong, and what."""


class PlayedSession:
    """Writes a line an epoch into its folder; each worker has a file of its own."""

    def __init__(self, trial: Trial, folder: Path, faults: Faults, epoch_s: float, workers: Workers) -> None:
        self.trial, self.folder, self.faults, self.epoch_s, self.workers = trial, folder, faults, epoch_s, workers
        self.known = len(lines(folder, workers.rank))
        folder.mkdir(parents=True, exist_ok=True)

    def events(self, start: int = 0) -> Iterator[SessionEvent]:
        last, primary = self.trial.settings.engine.epochs, 0.0
        for epoch in range(1, last + 1):
            if epoch > len(lines(self.folder, self.workers.rank)):
                self._train(epoch)
            primary = SCORES[self.trial.settings.method.width] * (1 - 0.5**epoch)
            if epoch > start:
                bundle, went_on = self.folder / f"bundle-{epoch}", epoch < self.known
                yield EpochSaved(evaluated=evaluated(epoch, primary), losses=(), bundle=bundle, went_on=went_on)
        yield Finished(epochs=last, best_epoch=last, best_primary=primary, reason="all epochs done")

    def close(self) -> None:
        pass

    def _train(self, epoch: int) -> None:
        time.sleep(self.epoch_s)
        when, fault = self.faults.get(self.trial.key, (0, ""))
        if when == epoch and fault == "nan":
            raise TrainingDiverged("the loss is not a number at step 17")
        if when == epoch and fault == "memory":
            raise MemoryError
        if when == epoch and fault == "changed":
            raise SweepError("The shared checkpoint was changed.")
        last = self.workers.rank == self.workers.size - 1
        if when == epoch and fault == "kill" and last and not (self.folder / "killed").exists():
            (self.folder / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        with file_of(self.folder, self.workers.rank).open("a") as stream:
            stream.write(f"{os.getpid()}\n")


class Player:
    """Opens such sessions; its test gives back what the trial scored."""

    def __init__(self, faults: Faults, epoch_s: float) -> None:
        self.faults, self.epoch_s = faults, epoch_s

    def session(self, job: Job, trial: Trial, folder: Path, workers: Workers = ALONE) -> PlayedSession:
        return PlayedSession(trial, folder, self.faults, self.epoch_s, workers)

    def together(
        self, sessions: Sequence[PlayedSession], starts: Sequence[int]
    ) -> Iterator[tuple[int, SessionEvent | Diverged]]:
        return in_turn(sessions, starts)

    def test(self, job: Job, trial: Trial, bundle: Path, workers: Workers = ALONE) -> JobTested:
        score = SCORES[trial.settings.method.width]
        return JobTested(
            trial=trial,
            bundle=bundle,
            validation=score,
            scores={"accuracy": score},
            primary=score,
            low=0.0,
            high=1.0,
            baseline=0.5,
            predictions=(),
            num_truncated=0,
            num_trained=1,
        )

    def close(self) -> None:
        pass


def file_of(folder: Path, rank: int) -> Path:
    return folder / f"epochs-{rank}"


def lines(folder: Path, rank: int = 0) -> list[str]:
    """The process of each epoch that a worker trained in a trial's folder."""
    file = file_of(folder, rank)
    return file.read_text().split() if file.exists() else []


class Sweep:
    """One run of the jobs a and b, and what it told."""

    def __init__(self, folder: Path, *, faults: Faults | None = None, epoch_s: float = 0.0) -> None:
        self.folder, self.faults, self.epoch_s = folder, faults or {}, epoch_s
        self.told: list[SweepEvent] = []
        self.interrupt_after: int | None = None

    def run(self, search: SearchConfig = GRID, *, jobs: str = "ab", cluster: ClusterConfig = TWO_SLOTS) -> Outcome:
        bench = functools.partial(Player, self.faults, self.epoch_s)
        matrix = [played_job(name) for name in jobs]
        return sweep.run_on(bench, matrix, search=search, cluster=cluster, folder=self.folder, sink=self.sink)

    def sink(self, event: SweepEvent) -> None:
        self.told.append(event)
        if self.interrupt_after is not None and len(self.of(TrialReported)) == self.interrupt_after:
            os.kill(os.getpid(), signal.SIGINT)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.told if isinstance(event, kind)]

    @property
    def outcome(self) -> dict[str, tuple[Any, ...]]:
        """How each trial ended; each must end once."""
        ended: list[TrialEnded] = self.of(TrialEnded)
        assert len({end.trial.key for end in ended}) == len(ended)
        return {end.trial.key: (end.status, end.reason, end.epochs, end.best_epoch, end.best_primary) for end in ended}

    @property
    def processes(self) -> set[str]:
        """Those that trained."""
        return {line for folder in (self.folder / "trials").iterdir() for line in lines(folder)}


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    import sys

    modules = sys.modules[__name__], played
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    with connection.connected(TWO_SLOTS):
        yield
    for module in modules:
        cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, cluster: None) -> Sweep:
    one = Sweep(tmp_path_factory.mktemp("undisturbed"), faults={"b-03": (1, "nan")})
    outcome = one.run()
    assert not outcome.missing
    assert [(won.trial.key, won.primary) for won in outcome.winners] == [("a-01", 0.9), ("b-01", 0.9)]
    return one


def test_halving_ends_as_its_scores_say_and_a_failed_trial_is_told_and_survived(undisturbed: Sweep) -> None:
    full = 0.9 * (1 - 0.5**4)
    assert undisturbed.outcome == {
        "a-00": ("pruned", "pruned at epoch 1: 3rd of 4", 1, 1, 0.25),
        "a-01": ("done", "all epochs done", 4, 4, full),
        "a-02": ("pruned", "pruned at epoch 3: 2nd of 2", 3, 3, 0.7 * 0.875),
        "a-03": ("pruned", "pruned at epoch 1: 4th of 4", 1, 1, 0.15),
        "b-00": ("pruned", "pruned at epoch 1: 3rd of 4", 1, 1, 0.25),
        "b-01": ("done", "all epochs done", 4, 4, full),
        "b-02": ("pruned", "pruned at epoch 3: 2nd of 2", 3, 3, 0.7 * 0.875),
        "b-03": ("failed", "the loss is not a number at step 17", 0, 0, None),
    }


def test_trials_are_swapped_into_the_same_processes(undisturbed: Sweep) -> None:
    assert len(undisturbed.processes) <= 2
    assert len(undisturbed.of(JobTested)) == 2
    assert len(undisturbed.of(TrialStarted)) > 8  # eight, and those that were taken up after a rung


@pytest.mark.faults
def test_packs_end_as_single_trials_also_when_their_process_is_killed(undisturbed: Sweep, tmp_path: Path) -> None:
    packed = Sweep(tmp_path, faults={"b-03": (1, "nan"), "a-01": (2, "kill")})
    packed.run(cluster=dataclasses.replace(TWO_SLOTS, pack=3))
    assert packed.outcome == undisturbed.outcome
    assert (tmp_path / "trials" / "a-01" / "killed").exists()
    trained = {folder.name: len(lines(folder)) for folder in (tmp_path / "trials").iterdir()}
    assert trained == {key: ended[2] for key, ended in undisturbed.outcome.items()}, "an epoch was trained twice"


@pytest.mark.faults
def test_trials_of_several_workers_end_as_those_of_one_also_when_a_worker_is_killed(
    undisturbed: Sweep, tmp_path: Path
) -> None:
    several = Sweep(tmp_path, faults={"b-03": (1, "nan"), "a-01": (2, "kill")})
    several.run(cluster=dataclasses.replace(TWO_SLOTS, num_workers=2))
    assert several.outcome == undisturbed.outcome
    folder = tmp_path / "trials" / "a-01"
    assert (folder / "killed").exists()
    assert [len(lines(folder, rank)) for rank in (0, 1)] == [4, 4]  # no epoch was trained twice
    assert len({*lines(folder, 0), *lines(folder, 1)}) >= 4  # two workers, and others after the kill
    assert len(several.processes) < 8  # of all trials: a group stays for those that come next
    wait_until_freed(cpus=2)


def wait_until_freed(cpus: int) -> None:
    """Placement groups and workers of an ended sweep are gone."""
    deadline = time.monotonic() + 30
    while ray.available_resources().get("CPU", 0) < cpus:
        assert time.monotonic() < deadline
        time.sleep(0.5)


@pytest.mark.faults
def test_a_sweep_whose_process_is_killed_and_that_is_interrupted_ends_like_one_that_was_not(
    undisturbed: Sweep, tmp_path: Path
) -> None:
    before = signal.getsignal(signal.SIGINT)
    faults = {**undisturbed.faults, "a-01": (2, "kill")}
    cut = Sweep(tmp_path, faults=faults, epoch_s=0.1)
    cut.interrupt_after = 7
    with pytest.raises(KeyboardInterrupt):
        cut.run()
    assert len(cut.of(TrialReported)) == 7
    assert signal.getsignal(signal.SIGINT) is before

    resumed = Sweep(tmp_path, faults=faults)
    resumed.run(cluster=ONE_SLOT)
    assert resumed.outcome == undisturbed.outcome
    assert len(resumed.of(TrialReported)) == len(undisturbed.of(TrialReported))
    assert (tmp_path / "trials" / "a-01" / "killed").exists()
    # No epoch was trained twice.
    trained = {folder.name: len(lines(folder)) for folder in (tmp_path / "trials").iterdir()}
    assert trained == {key: ended[2] for key, ended in undisturbed.outcome.items()}


class StoppedTwice(Sweep):
    """Interrupted twice, the second time while an event is told, which takes half a minute."""

    stopped = False

    def sink(self, event: SweepEvent) -> None:
        super().sink(event)
        if isinstance(event, TrialReported):
            os.kill(os.getpid(), signal.SIGINT)
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(30)
            except KeyboardInterrupt:
                self.stopped = True
                raise


@pytest.mark.faults
def test_a_second_interrupt_stops_the_sweep_wherever_it_is(tmp_path: Path) -> None:
    cut = StoppedTwice(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        cut.run(cluster=ONE_SLOT)
    assert cut.stopped
    assert len(cut.of(TrialReported)) == 1


def test_asha_with_optuna_and_a_job_that_fails_altogether(tmp_path: Path) -> None:
    search = SearchConfig(
        algorithm="optuna",
        scheduler="asha",
        trials=4,
        cohort=2,
        space={"method.width": Range(choice=list(SCORES)), "engine.warmup": Range(uniform=[0.0, 0.2])},
    )
    one = Sweep(tmp_path, faults={f"b-{index:02d}": (1, "memory") for index in range(4)})
    outcome = one.run(search, cluster=ONE_SLOT)
    less = "lower engine.batch_size, or run fewer trials at once (cluster.slots)"
    assert outcome.missing == {"b": f"b has no trial with a score (out of memory: {less})"}
    assert [tested.trial.job for tested in outcome.winners] == ["a"]
    assert one.of(JobTested) == outcome.winners
    assert len(one.outcome) == 8
    started = [event.trial.key for event in one.of(TrialStarted) if event.trial.job == "a"]
    assert set(started[:2]) == {"a-00", "a-01"}  # the second cohort waits for the first


@pytest.mark.faults
@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_process_that_finds_its_copy_of_the_checkpoint_changed_ends_the_sweep(
    num_workers: int, tmp_path: Path
) -> None:
    one = Sweep(tmp_path, faults={"a-01": (2, "changed")})
    with pytest.raises(SweepError, match=r"^The shared checkpoint was changed\.$"):
        one.run(cluster=dataclasses.replace(ONE_SLOT, cpus_per_trial=2 // num_workers, num_workers=num_workers))
    assert "a-01" not in one.outcome
    assert not one.of(JobTested)
    wait_until_freed(cpus=2)


def test_the_time_budget_ends_a_sweep_with_the_best_so_far(tmp_path: Path) -> None:
    search = SearchConfig(
        algorithm="grid",
        scheduler="none",
        time_budget_s=0.8,
        space={"method.width": Range(choice=list(SCORES))},
    )
    one = Sweep(tmp_path, epoch_s=0.3)
    started_s = time.monotonic()
    winners = one.run(search, jobs="a", cluster=ONE_SLOT).winners
    assert len(one.outcome) == 4
    assert {end[:2] for end in one.outcome.values()} == {("pruned", "time budget")}
    assert len(winners) == 1
    assert sum(end[2] for end in one.outcome.values()) < 16
    assert time.monotonic() - started_s < 60


def test_a_write_into_the_shared_checkpoint_is_found_out() -> None:
    shared = weights.share({"a": torch.zeros(2**18), "b": torch.arange(8)})  # small objects are not shared
    weights.verify(shared)
    ray.get(shared.tensors)["a"][17] = 1e-6  # mapped, not copied: this changes it for everybody
    with pytest.raises(SweepError, match="shared checkpoint was changed"):
        weights.verify(shared)

"""A search in the test's own process, with a tiny BERT or with sessions that have no model."""

import bdb
import dataclasses
import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.config import ClusterConfig, Range, SearchConfig
from pipeline.core.adapters.checkpoint import Checkpoint, load_checkpoint
from pipeline.core.engine.base import SharedBase
from pipeline.core.engine.events import (
    Diverged,
    EpochSaved,
    Finished,
    JobTested,
    SessionEvent,
    SweepEvent,
    TrialEnded,
    TrialReported,
)
from pipeline.core.engine.trials import Job, Trial
from pipeline.errors import SweepError, TrainingDiverged
from pipeline.rules.race import TIME_IS_UP, Outcome
from pipeline.steps.here import run, run_on
from tests.conftest import TinyBert
from tests.played import evaluated, in_turn, played_job
from tests.processes import SWEEP, elsewhere
from tests.tiny import outcome, tiny_checkpoint, tiny_job

HERE = ClusterConfig(name="here")
SEARCHES = {
    f"{algorithm} {scheduler}": SearchConfig(
        algorithm=algorithm,  # type: ignore[arg-type]
        scheduler=scheduler,  # type: ignore[arg-type]
        trials=4,
        cohort=2,
        grid_points=2,
        space={"engine.learning_rate": Range(log_uniform=[1e-3, 1e-1]), "method.width": Range(choice=[4, 8])},
    )
    for algorithm, scheduler in [
        ("random", "halving"),
        ("grid", "halving"),
        ("optuna", "halving"),
        ("optuna", "none"),
        ("random", "asha"),
    ]
}


@pytest.fixture
def checkpoint(tiny_bert: TinyBert, tmp_path: Path) -> Checkpoint:
    return tiny_checkpoint(*tiny_bert(), tmp_path / "checkpoint")


@pytest.fixture
def jobs(checkpoint: Checkpoint) -> list[Job]:
    return [tiny_job(name, checkpoint) for name in ("films", "books")]


def searched(
    jobs: list[Job], checkpoint: Checkpoint, search: SearchConfig, folder: Path, *, cut_after: int | None = None
) -> list[SweepEvent]:
    """Run a search to its end, or interrupt it while an epoch is told."""
    told: list[SweepEvent] = []

    def sink(event: SweepEvent) -> None:
        told.append(event)
        if cut_after is not None and sum(isinstance(one, TrialReported) for one in told) == cut_after:
            os.kill(os.getpid(), signal.SIGINT)

    run(jobs, load_checkpoint(checkpoint), search=search, cluster=HERE, folder=folder, sink=sink)
    return told


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)
def test_the_same_seed_gives_the_same_weights_and_so_does_a_search_that_was_interrupted(
    search: SearchConfig, jobs: list[Job], checkpoint: Checkpoint, tmp_path: Path
) -> None:
    threads, handler = torch.get_num_threads(), signal.getsignal(signal.SIGINT)
    whole = searched(jobs[:1], checkpoint, search, tmp_path / "whole")
    assert len(outcome(whole)) == 4
    assert [event.trial.job for event in whole if isinstance(event, JobTested)] == ["films/d"]
    with pytest.raises(KeyboardInterrupt):
        searched(jobs[:1], checkpoint, search, tmp_path / "cut", cut_after=5)
    assert outcome(searched(jobs[:1], checkpoint, search, tmp_path / "cut")) == outcome(whole)
    assert (torch.get_num_threads(), signal.getsignal(signal.SIGINT)) == (threads, handler)


def test_a_checkpoint_that_was_changed_fails_the_search(
    jobs: list[Job], checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(base: SharedBase) -> None:
        next(iter(base._tensors.values())).view(-1)[3] += 1e-6

    monkeypatch.setattr(SharedBase, "close", careless)
    with pytest.raises(SweepError, match="The shared checkpoint was changed while the trials ran"):
        searched(jobs[:1], checkpoint, dataclasses.replace(SEARCHES["random halving"], trials=1), tmp_path / "sweep")


SCORES = {16: 0.5, 32: 0.9, 48: 0.7, 64: 0.3}
"""Width -> score. A grid numbers the trials in this order, so trial 1 wins."""
GRID = SearchConfig(algorithm="grid", space={"method.width": Range(choice=list(SCORES))})
Before = Callable[[Trial, int], None]
"""Called before an epoch of a trial; may raise."""


class Played:
    """A session whose epochs take no time."""

    def __init__(self, trial: Trial, folder: Path, before: Before) -> None:
        self.trial, self.folder, self.before = trial, folder, before

    def events(self, start: int = 0) -> Iterator[SessionEvent]:
        for epoch in range(start + 1, 5):
            self.before(self.trial, epoch)
            told = evaluated(epoch, SCORES[self.trial.settings.method.width])
            yield EpochSaved(evaluated=told, losses=(), bundle=self.folder / f"bundle-{epoch}", went_on=False)
        yield Finished(epochs=4, best_epoch=4, best_primary=0.5, reason="all epochs done")

    def close(self) -> None:
        pass


class Player:
    """Opens such sessions."""

    def __init__(self, before: Before) -> None:
        self.before = before

    def session(self, job: Job, trial: Trial, folder: Path) -> Played:
        return Played(trial, folder, self.before)

    def together(
        self, sessions: Sequence[Played], starts: Sequence[int]
    ) -> Iterator[tuple[int, SessionEvent | Diverged]]:
        return in_turn(sessions, starts)

    def test(self, job: Job, trial: Trial, bundle: Path) -> JobTested:
        values: dict[str, Any] = dict.fromkeys(("validation", "primary", "low", "high", "baseline"), 0.5)
        counts: dict[str, Any] = {"num_truncated": 0, "num_trained": 1}
        return JobTested(trial=trial, bundle=bundle, scores={}, predictions=(), **values, **counts)

    def close(self) -> None:
        pass


def play(
    before: Before, told: list[SweepEvent], *, jobs: str = "ab", search: SearchConfig = GRID, pack: int = 1
) -> Outcome:
    matrix, cluster = [played_job(name) for name in jobs], dataclasses.replace(HERE, pack=pack)
    bench, folder = lambda: Player(before), Path("nowhere")
    return run_on(bench, matrix, search=search, cluster=cluster, folder=folder, sink=told.append)


def ends(told: list[SweepEvent]) -> dict[str, tuple[str, str, int]]:
    ended = [event for event in told if isinstance(event, TrialEnded)]
    return {end.trial.key: (end.status, end.reason, end.epochs) for end in ended}


@pytest.mark.parametrize("pack", [1, 3])
def test_a_trial_that_fails_fails_alone_and_a_job_that_fails_altogether_is_told(pack: int) -> None:
    def before(trial: Trial, epoch: int) -> None:
        if trial.job == "b" or trial.key == "a-03":
            raise TrainingDiverged("the loss is not a number at step 17")

    told: list[SweepEvent] = []
    outcome = play(before, told, pack=pack)
    assert [won.trial.key for won in outcome.winners] == ["a-01"]
    assert outcome.missing == {"b": "b has no trial with a score (the loss is not a number at step 17)"}
    assert ends(told) == {
        "a-00": ("pruned", "pruned at epoch 1: 3rd of 4", 1),
        "a-01": ("done", "all epochs done", 4),
        "a-02": ("pruned", "pruned at epoch 3: 2nd of 2", 3),
        "a-03": ("failed", "the loss is not a number at step 17", 0),
        **{f"b-0{index}": ("failed", "the loss is not a number at step 17", 0) for index in range(4)},
    }
    assert sum(isinstance(event, JobTested) for event in told) == 1


def test_the_time_budget_ends_a_search_with_the_best_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("pipeline.steps.here.time.monotonic", lambda: now[0])

    def before(trial: Trial, epoch: int) -> None:
        now[0] += 1

    told: list[SweepEvent] = []
    outcome = play(before, told, jobs="a", search=dataclasses.replace(GRID, scheduler="none", time_budget_s=5.5))
    assert now[0] == 6
    assert ends(told) == {
        "a-00": ("done", "all epochs done", 4),
        "a-01": ("pruned", TIME_IS_UP, 2),
        "a-02": ("pruned", TIME_IS_UP, 0),
        "a-03": ("pruned", TIME_IS_UP, 0),
    }
    assert [won.trial.key for won in outcome.winners] == ["a-01"]


def test_where_nothing_can_be_written_the_search_ends() -> None:
    def before(trial: Trial, epoch: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(SweepError, match=r"Nothing can be written any more \(No space left on device: "):
        play(before, [])


def test_leaving_the_debugger_ends_the_search_like_ctrl_c() -> None:
    def before(trial: Trial, epoch: int) -> None:
        raise bdb.BdbQuit

    told: list[SweepEvent] = []
    with pytest.raises(KeyboardInterrupt):
        play(before, told)
    assert ends(told) == {}


def test_ctrl_c_in_a_trial_ends_the_search_at_once() -> None:
    def before(trial: Trial, epoch: int) -> None:
        if epoch == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("trained on")

    told: list[SweepEvent] = []
    with pytest.raises(KeyboardInterrupt):
        play(before, told)
    assert len(told) > 4


def test_an_event_that_is_being_told_is_told_to_its_end_unless_ctrl_c_comes_twice() -> None:
    told: list[object] = []

    def sink(event: SweepEvent, times: int) -> None:
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
        told.append(event)

    for times in (1, 2):
        matrix, told[:] = [played_job("a")], []
        with pytest.raises(KeyboardInterrupt):
            run_on(
                lambda: Player(lambda trial, epoch: None),
                matrix,
                search=GRID,
                cluster=HERE,
                folder=Path("nowhere"),
                sink=functools.partial(sink, times=times),
            )
        assert len(told) == 2 - times


def imported() -> set[str]:
    return set(sys.modules)


def test_whatever_a_sweep_in_this_process_imports_ray_is_not_in_it() -> None:
    found = elsewhere(imported)
    assert {*SWEEP, "pipeline.tracking.store"} <= found
    assert not {"ray", "pipeline.cluster"} & found

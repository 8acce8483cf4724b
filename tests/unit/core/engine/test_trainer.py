import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.core.engine.events import Diverged, EpochSaved, Finished, JobTested, SessionEvent
from pipeline.core.engine.trainer import Trainer, TrialFolder
from pipeline.core.engine.trials import Job, Trial
from pipeline.errors import SweepError, TrainingDiverged
from tests.played import evaluated, in_turn, played_job

JOB = played_job("ner/news", epochs=3)


class Played:
    """A session whose scores are given; an exception among them is raised."""

    def __init__(self, scores: list[float | Exception], log: list[str], folder: Path, *, fails: bool) -> None:
        self.scores, self.log, self.folder, self.fails = scores, log, folder, fails

    def events(self, start: int = 0) -> Iterator[SessionEvent]:
        if self.fails:
            raise RuntimeError("the shapes differ")
        best = -math.inf
        for epoch, score in enumerate(self.scores, start=1):
            if isinstance(score, Exception):
                raise score
            report = evaluated(epoch, score, best=score > best)
            best = max(best, score)
            if epoch > start:
                bundle = self.folder / f"bundle-{epoch}"
                yield EpochSaved(evaluated=report, losses=(), bundle=bundle, went_on=epoch < 2)
        reason: Any = "all epochs done" if len(self.scores) == 3 else "early stopping"
        yield Finished(epochs=len(self.scores), best_epoch=1, best_primary=best, reason=reason)

    def close(self) -> None:
        self.log.append(f"close {self.folder.name}")


class Player:
    """A bench that plays one list of scores in every trial."""

    def __init__(self, stage: "Stage") -> None:
        self.stage, self.log = stage, stage.log
        self.log.append("bench")

    def session(self, job: Job, trial: Trial, folder: Path) -> Played:
        width = trial.settings.method.width
        self.log.append(f"open {folder.name} width {width}")
        return Played(self.stage.scores, self.log, folder, fails=width == self.stage.faulty)

    def together(
        self, sessions: Sequence[Played], starts: Sequence[int]
    ) -> Iterator[tuple[int, SessionEvent | Diverged]]:
        self.log.append(f"{len(sessions)} together")
        for number, event in in_turn(sessions, starts):
            if len(sessions) > self.stage.most:
                raise MemoryError
            yield number, event

    def test(self, job: Job, trial: Trial, bundle: Path) -> JobTested:
        raise MemoryError

    def close(self) -> None:
        self.log.append("dropped")


class Stage:
    """A trainer of such sessions."""

    def __init__(self, scores: list[float | Exception], num_threads: int = 1) -> None:
        self.log: list[str] = []
        self.scores = scores
        self.most = math.inf
        """Trials that there is memory for."""
        self.faulty = 0
        """Width of trials that fail."""
        self.fetched: list[str] = []
        self.trainer = Trainer(
            lambda: Player(self),
            self._job_of,
            lambda key: TrialFolder(Path("copy") / key),
            root=Path("t"),
            num_threads=num_threads,
            fatal=(ZeroDivisionError,),
        )
        self.take_up(0)

    def take_up(self, *indices: int, **given: Any) -> None:
        known: dict[str, Any] = {"job": "ner/news", "told": 0, "best": -math.inf, **given}
        self.trainer.take_up([{**known, "index": index, "params": {"method.width": 16 + index}} for index in indices])

    def step(self) -> dict[str, Any]:
        """The result of the one trial."""
        stepped = self.trainer.step()
        (result,) = stepped["results"].values()
        assert stepped["done"] == result.get("done", False)
        return dict(result)

    def _job_of(self, name: str) -> Job:
        self.fetched.append(name)
        return JOB


def test_a_step_is_an_epoch_and_the_last_one_ends_the_trial() -> None:
    stage = Stage([0.5, 0.9, 0.7])
    results = [stage.step() for _ in range(3)]
    assert [result["epoch"] for result in results] == [1, 2, 3]
    assert [result["score"] for result in results] == [0.5, 0.9, 0.9]
    assert [result.get("done", False) for result in results] == [False, False, True]
    assert results[2]["reason"] == "all epochs done"
    assert [result["went_on"] for result in results] == [True, False, False]
    assert results[1]["bundle"] == Path("t/ner.news-00/bundle-2")


def test_early_stopping_ends_the_trial_without_an_epoch() -> None:
    stage = Stage([0.5, 0.4])
    stage.step()
    stage.step()
    assert stage.step() == {"score": 0.5, "done": True, "reason": "early stopping"}


def test_an_actor_that_takes_a_trial_up_says_nothing_twice() -> None:
    stage = Stage([0.9, 0.5, 0.7])
    stage.take_up(0, told=1, best=0.9)
    result = stage.step()
    assert (result["epoch"], result["score"]) == (2, 0.9)


def test_an_actor_keeps_base_and_data_from_trial_to_trial() -> None:
    stage = Stage([0.5, 0.6, 0.7])
    stage.step()
    stage.take_up(1)
    stage.step()
    stage.trainer.close()
    assert stage.log == [
        "bench",
        "open ner.news-00 width 16",
        "close ner.news-00",
        "open ner.news-01 width 17",
        "close ner.news-01",
        "dropped",
    ]
    assert stage.fetched == ["ner/news"]


LESS = "lower engine.batch_size, or run fewer trials at once (cluster.slots)"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TrainingDiverged("the loss is not a number at step 17"), "the loss is not a number at step 17"),
        (RuntimeError("the shapes\ndiffer"), "RuntimeError: the shapes"),
        (MemoryError(), f"out of memory: {LESS}"),
        (
            RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"),
            f"out of memory when 2.00 GiB more were needed: {LESS}",
        ),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 2000 bytes. Error code 12"),
            f"out of memory when 2000 bytes more were needed: {LESS}",
        ),
    ],
)
def test_a_failure_ends_the_trial_and_the_next_one_gets_a_fresh_base(error: Exception, reason: str) -> None:
    stage = Stage([0.5, error])
    stage.step()
    assert stage.step() == {"failed": reason, "done": True}
    stage.take_up(1)
    assert stage.step()["epoch"] == 1
    assert stage.log == ["bench", "open ner.news-00 width 16", "dropped", "bench", "open ner.news-01 width 17"]


def test_what_is_fatal_is_raised_and_the_base_dropped() -> None:
    stage = Stage([0.5, ZeroDivisionError()])
    stage.step()
    with pytest.raises(ZeroDivisionError):
        stage.step()
    assert stage.log[-1] == "dropped"


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError(28, "No space left on device"), "(No space left on device: t)"),
        (OSError(30, "Read-only", "/x/y"), "(Read-only: /x/y)"),
        (SweepError("The shared checkpoint was changed"), "The shared checkpoint was changed"),
    ],
)
def test_where_no_trial_can_go_on_the_step_says_so(error: Exception, why: str) -> None:
    result = Stage([error]).step()
    assert result.keys() == {"stop", "done"}
    assert why in result["stop"]


def test_a_failing_test_is_told_like_a_failing_trial() -> None:
    stage = Stage([])
    stage.trainer.take_up([{"job": "ner/news", "index": 2, "params": {}, "bundle": Path("b")}])
    assert stage.step() == {"failed": f"out of memory: {LESS}", "done": True}


def test_a_pack_is_trained_together_and_those_that_end_leave_it() -> None:
    stage = Stage([0.5, 0.4])
    stage.take_up(0, 1, 2)
    for epoch in (1, 2):
        stepped = stage.trainer.step()
        assert [result["epoch"] for result in stepped["results"].values()] == [epoch] * 3 and not stepped["done"]
    ended = {"score": 0.5, "done": True, "reason": "early stopping"}
    assert stage.trainer.step() == {"results": {0: ended, 1: ended, 2: ended}, "done": True}
    assert stage.log.count("3 together") == 1


def test_a_pack_that_has_no_memory_is_halved_and_no_later_one_is_as_large() -> None:
    stage = Stage([0.5, 0.6, 0.7])
    stage.take_up(0, 1, 2, 3, 4)
    stage.trainer.step()
    stage.most = 2
    stepped = stage.trainer.step()
    assert {number: result["epoch"] for number, result in stepped["results"].items()} == dict.fromkeys(range(5), 2)
    assert [line for line in stage.log if "together" in line] == [
        "5 together",
        "3 together",
        "2 together",
        "2 together",
    ]
    assert [result["epoch"] for result in stage.trainer.step()["results"].values()] == [3] * 5
    stage.take_up(5, 6, 7)
    stage.trainer.step()
    assert stage.log.count("2 together") == 3 and stage.log.count("3 together") == 1


def test_what_fails_in_a_pack_without_saying_which_is_found_by_halving() -> None:
    stage = Stage([0.5, 0.6, 0.7])
    stage.faulty = 18
    stage.take_up(0, 1, 2)
    stepped = stage.trainer.step()
    assert {number: result.get("failed", result.get("epoch")) for number, result in stepped["results"].items()} == {
        0: 1,
        1: 1,
        2: "RuntimeError: the shapes differ",
    }
    assert [result["epoch"] for result in stage.trainer.step()["results"].values()] == [2, 2]


@pytest.mark.usefixtures("one_thread")  # which puts back what there was
@pytest.mark.parametrize("num_threads", [1, 3])
def test_a_trial_computes_on_its_own_cores(num_threads: int) -> None:
    Stage([], num_threads)
    assert torch.get_num_threads() == num_threads


def test_a_process_keeps_the_jobs_that_it_was_given_last_and_no_more() -> None:
    stage = Stage([0.5, 0.4, 0.3])
    for number in [*range(6), 5, 2, 1]:
        stage.take_up(0, job=f"task/{number}")
        stage.step()
    assert stage.fetched == [*(f"task/{number}" for number in range(6)), "task/1"]
    assert list(stage.trainer._jobs) == ["task/4", "task/5", "task/2", "task/1"]

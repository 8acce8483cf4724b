import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.cluster.depot import Depot
from pipeline.cluster.trainable import Losses, Supplies, Trainee
from pipeline.config import EngineConfig, MethodConfig
from pipeline.core.engine.events import Evaluated, Finished, JobTested
from pipeline.core.engine.trials import Job, Settings, Trial
from pipeline.errors import TrainingDiverged

JOB = Job.__new__(Job)
for _name, _value in {
    "name": "ner/news",
    "seed": 0,
    "settings": Settings(method=MethodConfig(name="pfeiffer"), engine=EngineConfig(epochs=3)),
}.items():
    object.__setattr__(JOB, _name, _value)  # no rows: nothing here reads them


class Played:
    """A session whose scores are given; an exception among them is raised."""

    def __init__(self, scores: list[float | Exception], log: list[str], folder: Path) -> None:
        self.scores, self.log, self.folder = scores, log, folder
        self.finished: Finished | None = None
        self.on_save: Callable[[], None] = lambda: None
        self.bundle: Path | None = None
        self.known = 2

    def epochs(self, start: int = 0) -> Iterator[tuple[Evaluated, Losses]]:
        best = -math.inf
        for epoch, score in enumerate(self.scores, start=1):
            if isinstance(score, Exception):
                raise score
            self.bundle = self.folder / f"bundle-{epoch}"
            evaluated = Evaluated(
                epoch=epoch,
                step=epoch,
                primary=score,
                metrics={},
                best=score > best,
                train_loss=1.0,
                train_s=1.0,
                eval_s=1.0,
                rows_per_s=1.0,
                peak_bytes=2**29,
            )
            best = max(best, score)
            if epoch > start:
                yield evaluated, ()
        reason: Any = "all epochs done" if len(self.scores) == 3 else "early stopping"
        self.finished = Finished(epochs=len(self.scores), best_epoch=1, best_primary=best, reason=reason)

    def close(self) -> None:
        self.log.append(f"close {self.folder.name}")


class Player:
    """A bench that plays one list of scores in every trial."""

    def __init__(self, scores: list[float | Exception], log: list[str]) -> None:
        self.scores, self.log = scores, log
        log.append("bench")

    def session(self, job: Job, trial: Trial, folder: Path) -> Played:
        self.log.append(f"open {folder.name} width {trial.settings.method.width}")
        return Played(self.scores, self.log, folder)

    def test(self, job: Job, trial: Trial, bundle: Path) -> JobTested:
        raise MemoryError


class Stage:
    """A trainee, as Tune would use it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, scores: list[float | Exception], num_threads: int = 1) -> None:
        self.log: list[str] = []
        self.scores = scores
        self.fetched = 0
        monkeypatch.setattr("pipeline.cluster.trainable.ray.get", self._fetch)
        supplies = Supplies(
            bench=lambda: Player(self.scores, self.log),
            jobs={"ner/news": JOB},
            depot=Depot(Path("t"), shared=False),
            num_threads=num_threads,
        )
        self.trainee = Trainee.__new__(Trainee)
        self.trainee._logdir = "logs"
        self.trainee.setup(self.config(0), supplies)

    def config(self, index: int, **given: Any) -> dict[str, Any]:
        params = {"method.width": 16 + index}
        return {"job": "ner/news", "index": index, "params": params, "told": 0, "best": -math.inf, **given}

    def _fetch(self, reference: Any) -> Any:
        self.fetched += 1
        return reference


def test_a_step_is_an_epoch_and_the_last_one_ends_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, [0.5, 0.9, 0.7])
    results = [stage.trainee.step() for _ in range(3)]
    assert [result["epoch"] for result in results] == [1, 2, 3]
    assert [result["score"] for result in results] == [0.5, 0.9, 0.9]
    assert [result.get("done", False) for result in results] == [False, False, True]
    assert results[2]["reason"] == "all epochs done"
    assert [result["went_on"] for result in results] == [True, False, False]
    assert results[1]["bundle"] == Path("t/ner.news-00/bundle-2")


def test_early_stopping_ends_the_trial_without_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, [0.5, 0.4])
    stage.trainee.step()
    stage.trainee.step()
    assert stage.trainee.step() == {"score": 0.5, "done": True, "reason": "early stopping"}


def test_an_actor_that_takes_a_trial_up_says_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, [0.9, 0.5, 0.7])
    stage.trainee.reset_config(stage.config(0, told=1, best=0.9))
    result = stage.trainee.step()
    assert (result["epoch"], result["score"]) == (2, 0.9)


def test_an_actor_keeps_base_and_data_from_trial_to_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, [0.5, 0.6, 0.7])
    stage.trainee.step()
    assert stage.trainee.reset_config(stage.config(1))
    stage.trainee.step()
    stage.trainee.cleanup()
    assert stage.log == [
        "bench",
        "open ner.news-00 width 16",
        "close ner.news-00",
        "open ner.news-01 width 17",
        "close ner.news-01",
    ]
    assert stage.fetched == 1


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
def test_a_failure_ends_the_trial_and_the_next_one_gets_a_fresh_base(
    monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    stage = Stage(monkeypatch, [0.5, error])
    stage.trainee.step()
    assert stage.trainee.step() == {"failed": reason, "done": True}
    stage.trainee.reset_config(stage.config(1))
    assert stage.trainee.step()["epoch"] == 1
    assert stage.log == ["bench", "open ner.news-00 width 16", "bench", "open ner.news-01 width 17"]


def test_a_failing_test_is_told_like_a_failing_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, [])
    stage.trainee.reset_config({"job": "ner/news", "index": 2, "params": {}, "bundle": Path("b")})
    assert stage.trainee.step() == {"failed": f"out of memory: {LESS}", "done": True}


@pytest.mark.usefixtures("one_thread")  # which puts back what there was
@pytest.mark.parametrize("num_threads", [1, 3])
def test_a_trial_computes_on_its_own_cores(monkeypatch: pytest.MonkeyPatch, num_threads: int) -> None:
    Stage(monkeypatch, [], num_threads)
    assert torch.get_num_threads() == num_threads

"""The actor: keeps the checkpoint and the jobs' data resident; a trial is a session that is swapped in."""

import dataclasses
import errno
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, final

import ray
from ray import tune
from ray.train import TrainingFailedError

from pipeline.cluster.depot import Depot, Folder
from pipeline.cluster.parallel import WorkerGroup
from pipeline.core.engine.events import Evaluated, Finished, JobTested
from pipeline.core.engine.trials import Job, Trial, trial_of
from pipeline.errors import PipelineError, SweepError

log = logging.getLogger(__name__)

Losses = tuple[tuple[int, float, float], ...]

_STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""What the system says when a disk is full or may not be written to."""


class OpenSession(Protocol):
    """A trial in training: `pipeline.core.engine.session.Session`, or a stand-in."""

    on_save: Callable[[], None]
    """Called when the folder has changed within an epoch."""
    known: int
    """Epochs that the folder had when it was opened; read after the first epoch."""

    @property
    def finished(self) -> Finished | None:
        """The end, when there is no epoch left."""

    @property
    def bundle(self) -> Path | None:
        """The best adapter so far."""

    def epochs(self, start: int = 0) -> Iterator[tuple[Evaluated, Losses]]:
        """Train an epoch at a time, or replay those that the folder has; the first `start` are known."""

    def close(self) -> None:
        """Give the base back as it was."""


class Bench(Protocol):
    """What trains and tests: `weights.SharedBase`, resident in the process, `parallel.WorkerGroup`, or a stand-in."""

    def session(self, job: Job, trial: Trial, folder: Path) -> OpenSession:
        """Open a trial; what its folder holds is taken up again."""

    def test(self, job: Job, trial: Trial, bundle: Path) -> JobTested:
        """Score a bundle on the test rows."""


@dataclass(frozen=True, kw_only=True)
class Supplies:
    """What every actor needs to begin: small, or a reference into the object store."""

    bench: Callable[[], Bench]
    """Makes what trains and tests; called once in each process."""
    jobs: Mapping[str, "ray.ObjectRef[Job]"]
    depot: Depot
    """Where the trials' folders are."""
    num_threads: int


@final
class Trainee(tune.Trainable):  # type: ignore[misc]
    """One trial of Tune after another on the same base; `step` is an epoch.

    Nothing that goes wrong in a trial ends the process: the step reports the failure, and the next trial
    finds the base as it was. A process that is killed costs the trial the steps since its last snapshot. Where
    nothing can be written, or the checkpoint was changed, the step says so, and the sweep stops.
    """

    def setup(self, config: dict[str, Any], supplies: Supplies | None = None) -> None:
        import torch

        assert supplies is not None
        torch.set_num_threads(supplies.num_threads)
        self._supplies = supplies
        self._bench: Bench | None = None
        self._jobs: dict[str, Job] = {}
        self._session: OpenSession | None = None
        self._folder: Folder | None = None
        self._epochs: Iterator[tuple[Evaluated, Losses]] = iter(())
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._close()
        self._candidate = new_config
        return True

    def step(self) -> dict[str, Any]:
        try:
            return self._test() if "bundle" in self._candidate else self._epoch()
        except TrainingFailedError:  # a worker has died: as bad as the death of this process, and survived likewise
            self._session = None
            self._drop_bench()
            raise
        except Exception as error:
            log.warning("Trial %d of %s failed", self._candidate["index"], self._candidate["job"], exc_info=True)
            self._session = None
            self._drop_bench()  # whatever state the failure left the base in, nobody finds it
            if isinstance(error, OSError) and error.errno in _STORAGE:
                where = error.filename or self._supplies.depot.root
                return {"stop": f"Nothing can be written any more ({error.strerror}: {where})", "done": True}
            if isinstance(error, SweepError):
                return {"stop": str(error), "done": True}
            return {"failed": _reason(error), "done": True}

    def cleanup(self) -> None:
        self._close()
        self._drop_bench()

    def _epoch(self) -> dict[str, Any]:
        """Train the trial's next epoch, or say that there is none."""
        if self._session is None:
            self._session = self._open()
            self._epochs = self._session.epochs(start=self._candidate["told"])
            self._best: float = self._candidate["best"]
        report = next(self._epochs, None)
        assert self._folder is not None
        self._folder.push()
        if report is None:  # early stopping; the folder may also hold all epochs of a trial whose end was not told
            return {"score": self._best, **self._end(self._session)}
        evaluated = report[0]
        self._best = evaluated.primary if evaluated.best else self._best
        result = {
            "epoch": evaluated.epoch,
            "score": self._best,
            "went_on": evaluated.epoch < self._session.known,
            "report": report,
            "bundle": self._folder.at_home(self._session.bundle),
        }
        if evaluated.epoch == self._trial.settings.engine.epochs and next(self._epochs, None) is None:
            result |= self._end(self._session)
        return result

    def _end(self, session: OpenSession) -> dict[str, Any]:
        assert session.finished is not None
        return {"done": True, "reason": session.finished.reason}

    def _open(self) -> OpenSession:
        job = self._job()
        self._trial = trial_of(job, self._candidate["index"], self._candidate["params"])
        self._folder = self._supplies.depot.folder(self._trial.key, self._scratch)
        session = self._resident().session(job, self._trial, self._folder.path)
        session.on_save = self._folder.push
        return session

    def _test(self) -> dict[str, Any]:
        """Score the winner on the test rows."""
        job = self._job()
        trial = trial_of(job, self._candidate["index"], self._candidate["params"])
        bundle: Path = self._candidate["bundle"]
        self._folder = self._supplies.depot.folder(trial.key, self._scratch)
        tested = self._resident().test(job, trial, self._folder.path / bundle.name)
        return {"tested": dataclasses.replace(tested, bundle=bundle), "done": True}

    @property
    def _scratch(self) -> Path:
        """Where files may lie on a node that is not the command's."""
        return Path(self.logdir) / "folders"

    def _resident(self) -> Bench:
        if self._bench is None:
            self._bench = self._supplies.bench()
        return self._bench

    def _drop_bench(self) -> None:
        if isinstance(self._bench, WorkerGroup):
            self._bench.close()
        self._bench = None

    def _job(self) -> Job:
        name = self._candidate["job"]
        if name not in self._jobs:
            self._jobs[name] = ray.get(self._supplies.jobs[name])
        return self._jobs[name]

    def _close(self) -> None:
        if self._session is not None:
            try:
                self._session.close()
            except Exception:  # a worker has died since the last step; Tune cannot stand an error between two trials
                log.warning("A trial was not closed; the next one begins afresh", exc_info=True)
                self._drop_bench()
        if self._folder is not None:
            self._folder.close()
        self._session = self._folder = None


def _reason(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0]
    if isinstance(error, PipelineError):
        return text
    # A torch without memory says so in a RuntimeError, of a GPU or of this node; Python itself raises MemoryError.
    if isinstance(error, MemoryError) or re.search("out of memory|DefaultCPUAllocator", text):
        asked = re.search(r"allocate (\d[\d.]* \w+)", text)
        what = f"out of memory when {asked[1]} more were needed" if asked else "out of memory"
        return f"{what}: lower engine.batch_size, or run fewer trials at once (cluster.slots)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

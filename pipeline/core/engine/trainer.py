"""What trains one trial after another on the same base, an epoch at a time, in whatever process it is put.

Nothing that goes wrong in a trial ends the process: the step reports the failure, and the next trial finds the base as
it was. Where nothing can be written, or the checkpoint was changed, the step says so, and the search stops.
"""

import dataclasses
import errno
import gc
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, final

import torch

from pipeline.core.engine.events import EpochSaved, Finished, JobTested, SessionEvent, SnapshotSaved
from pipeline.core.engine.trials import Job, Trial, trial_of
from pipeline.errors import PipelineError, SweepError

log = logging.getLogger(__name__)

_STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""What the system says when a disk is full or may not be written to."""


_JOBS = 4
"""Jobs whose rows a process keeps: those that it was given last."""


class OpenSession(Protocol):
    """A trial in training: `pipeline.core.engine.session.Session`, or a stand-in."""

    def events(self, start: int = 0) -> Iterator[SessionEvent]:
        """Train to the end, or tell what the folder has; the first `start` epochs are known."""

    def close(self) -> None:
        """Give the base back as it was."""


class Bench(Protocol):
    """What trains and tests: `pipeline.core.engine.base.SharedBase`, a group of workers, or a stand-in."""

    def session(self, job: Job, trial: Trial, folder: Path) -> OpenSession:
        """Open a trial; what its folder holds is taken up again."""

    def test(self, job: Job, trial: Trial, bundle: Path) -> JobTested:
        """Score a bundle on the test rows."""

    def close(self) -> None:
        """Give back what it holds."""


class TrialFolder:
    """A trial's folder, in which the command works too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        """Where its files are in this process."""

    def push(self) -> None:
        """Let the command have what has changed; which it has."""

    def close(self) -> None:
        """Drop what is a copy; which this is not."""


def follow(events: Iterator[SessionEvent], folder: TrialFolder | None) -> EpochSaved | Finished:
    """Let a session train until it has an epoch, or none is left.

    Args:
        events: The session's.
        folder: Lets the command have at once what is saved; None where another worker writes.
    """
    for event in events:
        if folder is not None and isinstance(event, SnapshotSaved | EpochSaved | Finished):
            folder.push()
        if isinstance(event, EpochSaved | Finished):
            return event
    raise AssertionError("a session ends with Finished")


@final
class Trainer:
    """Takes up candidates of `pipeline.rules.race`, and answers with plain results; a step is an epoch, or a test."""

    def __init__(
        self,
        bench: Callable[[], Bench],
        job_of: Callable[[str], Job],
        folder_of: Callable[[str], TrialFolder],
        *,
        root: Path,
        num_threads: int,
        fatal: tuple[type[Exception], ...] = (),
    ) -> None:
        """Prepare the process.

        Args:
            bench: Makes what trains and tests; called before the first trial, and after one that failed.
            job_of: Fetches a job by its name; called again where others came in between.
            folder_of: Opens the folder of the trial with that key.
            root: Where the command has these folders.
            num_threads: Threads on which torch computes.
            fatal: What `step` raises, instead of reporting that a trial has failed.
        """
        torch.set_num_threads(num_threads)
        self._make_bench, self._job_of, self._folder_of = bench, job_of, folder_of
        self._root, self._fatal = root, fatal
        self._bench: Bench | None = None
        self._jobs: dict[str, Job] = {}
        self._session: OpenSession | None = None
        self._folder: TrialFolder | None = None
        self._events: Iterator[SessionEvent] = iter(())
        self._candidate: Mapping[str, Any] = {}

    def take_up(self, candidate: Mapping[str, Any]) -> None:
        """Put the present trial away, if there is one, and let the next steps be the candidate's."""
        self._put_away()
        self._candidate = candidate

    def step(self) -> dict[str, Any]:
        """Train the trial's next epoch, or test.

        Returns:
            Of an epoch: `epoch`, `score` (the best so far), `went_on` (whether the folder has later epochs), `report`
            (`Evaluated` and some losses) and `bundle`; with the last one, or alone where early stopping ended the
            trial before, `done` and `reason`. Of a test: `tested`. Of a failure: `failed`, or `stop` where no trial
            can go on.
        """
        try:
            return self._test() if "bundle" in self._candidate else self._epoch()
        except Exception as error:
            self._session = None
            self._drop_bench()  # whatever state the failure left the base in, nobody finds it
            if isinstance(error, self._fatal):
                raise
            log.warning("Trial %d of %s failed", self._candidate["index"], self._candidate["job"], exc_info=True)
            if isinstance(error, OSError) and error.errno in _STORAGE:
                where = error.filename or self._root
                return {"stop": f"Nothing can be written any more ({error.strerror}: {where})", "done": True}
            if isinstance(error, SweepError):
                return {"stop": str(error), "done": True}
            return {"failed": _reason(error), "done": True}

    def close(self) -> None:
        """Put the trial away and drop what is resident."""
        self._put_away()
        self._drop_bench()

    def _epoch(self) -> dict[str, Any]:
        """Train the trial's next epoch, or say that there is none."""
        if self._session is None:
            job = self._job()
            self._trial = trial_of(job, self._candidate["index"], self._candidate["params"])
            self._folder = self._folder_of(self._trial.key)
            self._session = self._resident().session(job, self._trial, self._folder.path)
            self._events = self._session.events(start=self._candidate["told"])
            self._best: float = self._candidate["best"]
        told = follow(self._events, self._folder)
        if isinstance(told, Finished):  # early; the folder may also hold all epochs of a trial whose end was not told
            return {"score": self._best, "done": True, "reason": told.reason}
        evaluated, bundle = told.evaluated, told.bundle
        self._best = evaluated.primary if evaluated.best else self._best
        result = {
            "epoch": evaluated.epoch,
            "score": self._best,
            "went_on": told.went_on,
            "report": (evaluated, told.losses),
            "bundle": bundle and self._root / self._trial.key / bundle.name,
        }
        if evaluated.epoch == self._trial.settings.engine.epochs:
            end = follow(self._events, self._folder)
            assert isinstance(end, Finished)
            result |= {"done": True, "reason": end.reason}
        return result

    def _test(self) -> dict[str, Any]:
        """Score the winner on the test rows."""
        job = self._job()
        trial = trial_of(job, self._candidate["index"], self._candidate["params"])
        bundle: Path = self._candidate["bundle"]
        self._folder = self._folder_of(trial.key)
        tested = self._resident().test(job, trial, self._folder.path / bundle.name)
        return {"tested": dataclasses.replace(tested, bundle=bundle), "done": True}

    def _resident(self) -> Bench:
        if self._bench is None:
            self._bench = self._make_bench()
            gc.freeze()  # what is loaded by now stays, and need not be looked through for garbage at every trial
        return self._bench

    def _drop_bench(self) -> None:
        if self._bench is not None:
            self._bench.close()
            gc.unfreeze()
        self._bench = None

    def _job(self) -> Job:
        """The candidate's job; the last few stay, since all jobs of a large sweep would fill the memory."""
        name = self._candidate["job"]
        job = self._jobs.pop(name, None) or self._job_of(name)
        self._jobs[name] = job  # as the last one
        for old in list(self._jobs)[:-_JOBS]:
            del self._jobs[old]
        return job

    def _put_away(self) -> None:
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

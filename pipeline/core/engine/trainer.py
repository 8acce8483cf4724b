"""What trains one pack of trials after another on the same base, an epoch at a time, in whatever process it is put.

Nothing that goes wrong in a trial ends the process: the step reports the failure, and the next trial finds the base as
it was. Where nothing can be written, or the checkpoint was changed, the step says so, and the search stops.
"""

import dataclasses
import errno
import gc
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, final

import torch

from pipeline.core.engine.events import Diverged, EpochSaved, Finished, JobTested, SessionEvent, SnapshotSaved
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

    def together(self, sessions: Sequence[Any], starts: Sequence[int]) -> Iterator[tuple[int, SessionEvent | Diverged]]:
        """Train several open trials of a job at once; each event comes with the number of its session."""

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


@final
class _Member:
    """A trial of a pack."""

    def __init__(self, candidate: Mapping[str, Any]) -> None:
        self.candidate = candidate
        self.index: int = candidate["index"]
        self.told: int = candidate.get("told", 0)
        """Epochs that are known of it."""
        self.best: float = candidate.get("best", -math.inf)
        self.trial: Trial | None = None
        self.session: OpenSession | None = None
        self.folder: TrialFolder | None = None

    def ends_with(self, told: object) -> bool:
        """Whether nothing but the end comes after an event."""
        if not isinstance(told, EpochSaved):
            return isinstance(told, Finished | Diverged)
        return self.trial is not None and told.evaluated.epoch == self.trial.settings.engine.epochs

    def close(self) -> None:
        """Give back what the trial has open."""
        session, folder = self.session, self.folder
        self.session = self.folder = None
        if folder is not None:
            folder.close()
        if session is not None:
            session.close()


@final
class _Part:
    """Trials that are trained together."""

    def __init__(self, members: Sequence[_Member]) -> None:
        self.members = list(members)
        """Those that have not ended."""
        self.job: str = self.members[0].candidate["job"]
        self.is_test = "bundle" in self.members[0].candidate
        self.events: Iterator[tuple[int, SessionEvent | Diverged]] | None = None
        self._begun = self.members
        self._told: dict[int, list[EpochSaved | Finished | Diverged]] = {}

    def begin(self, bench: Bench) -> None:
        """Let the sessions, which are open, train."""
        self._begun = list(self.members)
        self._told = {member.index: [] for member in self._begun}
        sessions = [member.session for member in self._begun if member.session is not None]
        starts = [member.told for member in self._begun]
        if len(sessions) == 1:
            self.events = _alone(sessions[0], starts[0])
        else:
            self.events = bench.together(sessions, starts)

    def next_round(self) -> list[EpochSaved | Finished | Diverged]:
        """Train until each member that has not ended has an epoch more, or its end."""
        assert self.events is not None
        while not all(self._is_told(member) for member in self.members):
            number, event = next(self.events)
            member = self._begun[number]
            if member.folder is not None and isinstance(event, SnapshotSaved | EpochSaved | Finished):
                member.folder.push()
            if isinstance(event, EpochSaved | Finished | Diverged):
                self._told[member.index].append(event)
        return [self._told[member.index].pop(0) for member in self.members]

    def _is_told(self, member: _Member) -> bool:
        """Whether the next epoch of a member is there; with its last one the end, too."""
        told = self._told[member.index]
        return bool(told) and (isinstance(told[-1], Finished | Diverged) or not member.ends_with(told[0]))

    def drop(self) -> None:
        """Forget what is open: the base is gone."""
        self.events = None
        for member in self._begun:
            member.session = None
            if member.folder is not None:
                member.folder.close()
            member.folder = None

    def close(self) -> None:
        """Give back what is open."""
        self.events = None
        for member in self._begun:
            member.close()


def _alone(session: OpenSession, start: int) -> Iterator[tuple[int, SessionEvent | Diverged]]:
    return ((0, event) for event in session.events(start))


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
    """Takes up packs of `pipeline.rules.race`, and answers with plain results; a step is an epoch, or a test.

    What goes wrong in a pack need not be the fault of all: it is halved, and each half goes on from what its trials
    have saved, until what fails is alone. A process that had no memory for a pack makes smaller ones from then on.
    """

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
        self._parts: list[_Part] = []
        """What is trained together: the whole pack, or in turn the parts of it."""
        self._most = math.inf
        """How many trials this process had memory for."""

    def take_up(self, pack: Sequence[Mapping[str, Any]]) -> None:
        """Put the present trials away, if there are some, and let the next steps be those of a pack."""
        self._put_away()
        num_parts = math.ceil(len(pack) / self._most) or 1
        self._parts = [_Part([_Member(one) for one in pack[number::num_parts]]) for number in range(num_parts)]

    def step(self) -> dict[str, Any]:
        """Train the next epoch of all trials of the pack that have not ended, or test.

        Returns:
            `results`, by the numbers of the trials, and `done` where all have ended. A result is of an epoch: `epoch`,
            `score` (the best so far), `went_on` (whether the folder has later epochs), `report` (`Evaluated` and some
            losses) and `bundle`; with the last one, or alone where early stopping ended the trial before, `done` and
            `reason`. Of a test: `tested`. Of a failure: `failed`, or `stop` where no trial can go on.
        """
        results: dict[int, dict[str, Any]] = {}
        left, self._parts = self._parts, []
        while left:
            part = left.pop(0)
            self._parts.append(part)
            if not part.members:
                continue
            try:
                results |= self._test(part) if part.is_test else self._epoch(part)
            except Exception as error:
                for one in (*self._parts, *left):
                    one.drop()  # its sessions are on the base that goes
                self._drop_bench()  # whatever state the failure left the base in, nobody finds it
                if isinstance(error, self._fatal):
                    raise
                names = ", ".join(str(member.index) for member in part.members)
                log.warning("Trial %s of %s failed", names, part.job, exc_info=True)
                if (stop := self._why_stop(error)) is not None:
                    numbers = [member.index for one in (*self._parts, *left) for member in one.members]
                    return {"results": {number: {"stop": stop, "done": True} for number in numbers}, "done": True}
                if len(part.members) > 1:
                    half = math.ceil(len(part.members) / 2)
                    if is_memory(error):
                        self._most = half
                    left[:0] = [_Part(part.members[:half]), _Part(part.members[half:])]
                    self._parts.remove(part)
                else:
                    results[part.members[0].index] = {"failed": _reason(error), "done": True}
                    part.members = []
        return {"results": results, "done": not any(part.members for part in self._parts)}

    def close(self) -> None:
        """Put the trials away and drop what is resident."""
        self._put_away()
        self._drop_bench()

    def _epoch(self, part: _Part) -> dict[int, dict[str, Any]]:
        """Train the next epoch of each trial, or say that there is none; those that have ended leave the part."""
        if part.events is None:
            self._open(part)
        each = zip(part.members, part.next_round(), strict=True)
        results = {member.index: self._result(member, told) for member, told in each}
        part.members = [member for member in part.members if "done" not in results[member.index]]
        return results

    def _open(self, part: _Part) -> None:
        job, bench = self._job(part.job), self._resident()
        for member in part.members:
            member.trial = trial_of(job, member.index, member.candidate["params"])
            member.folder = self._folder_of(member.trial.key)
            member.session = bench.session(job, member.trial, member.folder.path)
        part.begin(bench)

    def _result(self, member: _Member, told: EpochSaved | Finished | Diverged) -> dict[str, Any]:
        if isinstance(told, Diverged):
            return {"failed": told.reason, "done": True}
        if isinstance(told, Finished):  # early; the folder may also hold all epochs of a trial whose end was not told
            return {"score": member.best, "done": True, "reason": told.reason}
        assert member.trial is not None
        evaluated, bundle = told.evaluated, told.bundle
        member.told, member.best = evaluated.epoch, evaluated.primary if evaluated.best else member.best
        result = {
            "epoch": evaluated.epoch,
            "score": member.best,
            "went_on": told.went_on,
            "report": (evaluated, told.losses),
            "bundle": bundle and self._root / member.trial.key / bundle.name,
        }
        if member.ends_with(told):
            result |= {"done": True, "reason": "all epochs done"}
        return result

    def _test(self, part: _Part) -> dict[int, dict[str, Any]]:
        """Score the winner on the test rows."""
        (member,) = part.members
        job = self._job(part.job)
        trial = trial_of(job, member.index, member.candidate["params"])
        bundle: Path = member.candidate["bundle"]
        member.folder = self._folder_of(trial.key)
        tested = self._resident().test(job, trial, member.folder.path / bundle.name)
        part.members = []
        return {member.index: {"tested": dataclasses.replace(tested, bundle=bundle), "done": True}}

    def _why_stop(self, error: Exception) -> str | None:
        """Say why no trial can go on, if that is so."""
        if isinstance(error, OSError) and error.errno in _STORAGE:
            return f"Nothing can be written any more ({error.strerror}: {error.filename or self._root})"
        return str(error) if isinstance(error, SweepError) else None

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

    def _job(self, name: str) -> Job:
        """A job; the last few stay, since all jobs of a large sweep would fill the memory."""
        job = self._jobs.pop(name, None) or self._job_of(name)
        self._jobs[name] = job  # as the last one
        for old in list(self._jobs)[:-_JOBS]:
            del self._jobs[old]
        return job

    def _put_away(self) -> None:
        try:
            for part in self._parts:
                part.close()
        except Exception:  # a worker has died since the last step; Tune cannot stand an error between two trials
            log.warning("A trial was not closed; the next one begins afresh", exc_info=True)
            self._drop_bench()
        self._parts = []


def is_memory(error: Exception) -> bool:
    """Whether memory was wanting: a torch without it says so in a RuntimeError, of a GPU or of this node; Python itself
    raises MemoryError."""
    return isinstance(error, MemoryError) or bool(re.search("out of memory|DefaultCPUAllocator", str(error)))


def _reason(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0]
    if isinstance(error, PipelineError):
        return text
    if is_memory(error):
        asked = re.search(r"allocate (\d[\d.]* \w+)", text)
        what = f"out of memory when {asked[1]} more were needed" if asked else "out of memory"
        return f"{what}: lower engine.batch_size, or run fewer trials at once (cluster.slots)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

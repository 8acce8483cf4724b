"""The frozen base of one process: it carries trials, one pack after another, and none may change it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, final

import torch
from torch import Tensor

from pipeline.core.adapters.checkpoint import Checkpoint, build_base
from pipeline.core.adapters.sites import Sites
from pipeline.core.engine.events import Diverged, Evaluated, JobTested, SessionEvent, StepDone
from pipeline.core.engine.prefix import Prefix
from pipeline.core.engine.session import Session, test, train_together
from pipeline.core.engine.shelf import own_shelf
from pipeline.core.engine.trials import Job, Trial
from pipeline.core.engine.workers import ALONE, Workers
from pipeline.errors import SweepError, TrainingDiverged

CHANGED = (
    "The shared checkpoint was changed while the trials ran, so no result can be trusted. "
    "Something trained the frozen weights in place. Mend that, and start a new sweep: resumed, this one "
    "would go on from what it has."
)


@final
class SharedBase:
    """The base model around tensors that others have too, and which stay as they are; on a GPU a copy of them."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        tensors: Mapping[str, Tensor],
        pad_token_id: int,
        device: Literal["cpu", "cuda"],
        prefix_bytes: int = 0,
    ) -> None:
        """Build it around what `load_tensors` returned, perhaps through shared memory.

        Args:
            prefix_bytes: What may be kept on this node of what lies below adapters; 0: nothing is.
        """
        self._checkpoint, self._pad_token_id, self._tensors = checkpoint, pad_token_id, tensors
        self._shelf = own_shelf(prefix_bytes)
        self._base = build_base(checkpoint, tensors).to(device)
        self._sites = Sites(self._base)
        built: dict[str, Tensor] = {
            **dict(self._base.named_parameters(remove_duplicate=False)),
            **dict(self._base.named_buffers(remove_duplicate=False)),
        }
        self._copies = {name: built[name] for name, one in tensors.items() if not _same_memory(built[name], one)}

    def session(self, job: Job, trial: Trial, folder: Path, workers: Workers = ALONE) -> "WatchedSession":
        """Open a trial on the base; what its folder holds is taken up again."""
        checkpoint, pad_token_id = self._as_in(job), self._pad_token_id
        prefix = Prefix(self._shelf, checkpoint, pad_token_id) if self._shelf else None
        session = Session(
            self._base, checkpoint, pad_token_id, job, trial, folder, workers, sites=self._sites, prefix=prefix
        )
        return WatchedSession(self, session)

    def together(
        self, sessions: Sequence["WatchedSession"], starts: Sequence[int]
    ) -> Iterator[tuple[int, SessionEvent | Diverged]]:
        """Train as `train_together` does.

        Raises:
            SweepError: A copy was changed; nothing is written, or told, of what was trained meanwhile.
        """
        verified = False
        for number, event in train_together([one.session for one in sessions], starts):
            if isinstance(event, StepDone):
                verified = False
            elif isinstance(event, Evaluated) and not verified:  # once for all that have ended the same epoch
                self.verify(sessions[number].session.workers)
                verified = True
            yield number, event

    def test(self, job: Job, trial: Trial, bundle: Path, workers: Workers = ALONE) -> JobTested:
        """Score a bundle on the test rows.

        Raises:
            SweepError: The copy of a worker was changed.
        """
        tested = test(self._base, self._as_in(job), self._pad_token_id, job, trial, bundle, workers)
        self.verify(workers)
        return tested

    def close(self) -> None:
        """Do nothing: it goes when nobody uses it."""

    def _as_in(self, job: Job) -> Checkpoint:
        """The checkpoint with the job's own pooling, if it has one."""
        return self._checkpoint if job.pooling is None else self._checkpoint.pooled(job.pooling)

    def verify(self, workers: Workers) -> None:
        """Compare the copies of all workers with the shared tensors, one tensor at a time.

        Raises:
            SweepError: They differ.
        """
        intact = all(torch.equal(one, self._tensors[name].to(one.device)) for name, one in self._copies.items())
        if not all(workers.gather({workers.rank: intact}).values()):
            raise SweepError(CHANGED)


@final
class WatchedSession:
    """A session of which nothing is written, or told, once the copy of a worker was changed."""

    def __init__(self, base: SharedBase, session: Session) -> None:
        self.base, self.session = base, session

    def events(self, start: int = 0) -> Iterator[SessionEvent]:
        """Train as `Session.events` does.

        Raises:
            SweepError: A copy was changed.
            TrainingDiverged: The loss is infinite or not a number.
        """
        for _, event in self.base.together([self], [start]):
            if isinstance(event, Diverged):
                raise TrainingDiverged(event.reason)
            yield event

    def close(self) -> None:
        """Give the base back as it was."""
        self.session.close()


def _same_memory(one: Tensor, other: Tensor) -> bool:
    """Whether both are the same memory."""
    return one.device == other.device and one.data_ptr() == other.data_ptr()

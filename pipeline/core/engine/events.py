"""What happens during training, as frozen records; callers decide what to log, report or save.

The loop yields the first three (`Event`), a session two more (`SessionEvent`). A sweep, which runs many trials, tells
its sinks the rest (`SweepEvent`).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.core.engine.trials import Trial

TrialStatus = Literal["done", "pruned", "failed"]
Losses = tuple[tuple[int, float, float], ...]
"""(step, loss, learning rate) of some of an epoch's steps, at most 50."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepDone:
    """One optimiser step."""

    epoch: int
    """Epoch that the step belongs to, from 1."""
    step: int
    """Steps since the start of training, from 1."""
    loss: float
    """Mean loss over the targets of the batch."""
    learning_rate: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """One epoch is over and the validation rows were scored."""

    epoch: int
    step: int
    primary: float
    """The metric that trials are selected by."""
    metrics: Mapping[str, float]
    """All metrics of the task by their own names, without prefix."""
    best: bool
    """Whether no earlier epoch was as good: had a higher score, or the same and no higher loss."""
    loss: float = math.inf
    """Mean loss over the targets of the validation rows; infinite where it is no number, or was not recorded yet."""
    train_loss: float
    """Mean loss over the epoch's targets."""
    train_s: float
    """Of candidates that are trained together each has its share of what all took, so that sums are the machine's."""
    eval_s: float
    """Likewise."""
    rows_per_s: float
    """Training rows over `train_s`."""
    peak_bytes: int
    """Most memory since the training was opened (`pipeline.core.engine.machine`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """No epoch is left, or early stopping ended the training."""

    epochs: int
    best_epoch: int
    best_primary: float
    reason: Literal["all epochs done", "early stopping"]


Event = StepDone | Evaluated | Finished


@dataclass(frozen=True, kw_only=True, slots=True)
class Diverged:
    """One of several candidates that are trained together cannot go on: its loss is infinite or not a number."""

    reason: str
    """In words, with the step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SnapshotSaved:
    """The trial's folder holds a new snapshot, within an epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochSaved:
    """The trial's folder holds an epoch, which was trained now or before the folder was opened."""

    evaluated: Evaluated
    losses: Losses
    bundle: Path | None
    """The best adapter so far."""
    went_on: bool
    """Whether the folder held a later epoch when it was opened."""


SessionEvent = Event | SnapshotSaved | EpochSaved


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialStarted:
    """A trial got a slot, for the first time or again after a pause."""

    trial: Trial


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialReported:
    """A trial ended an epoch."""

    trial: Trial
    evaluated: Evaluated
    losses: Losses


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialPaused:
    """A trial waits at a rung for the others of its job."""

    trial: Trial


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialEnded:
    """A trial will not train any further."""

    trial: Trial
    status: TrialStatus
    reason: str
    """Why, in words: `all epochs done`, `pruned at epoch 2: 4th of 6`, `the loss is not a number at step 17`."""
    epochs: int
    best_epoch: int
    best_primary: float | None
    """None if it never was evaluated."""
    bundle: Path | None
    """Folder with the best adapter so far; None if there is none."""
    train_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class JobTested:
    """The winner of a job was scored on the test rows, once."""

    trial: Trial
    bundle: Path
    validation: float
    scores: Mapping[str, float]
    """All test metrics by their own names."""
    primary: float
    low: float
    high: float
    """95 % interval of `primary`."""
    baseline: float
    """Majority or random answer, same metric, same rows; or the untrained checkpoint's own, where that is better."""
    chance: float | None = None
    """The majority or random answer, where `baseline` is the checkpoint's own."""
    predictions: tuple[Mapping[str, Any], ...]
    """One record a test row: where it came from, its digest, its fields, the answer."""
    num_truncated: int
    num_trained: int
    """Trained parameters, adapter and head."""

    @property
    def answers(self) -> dict[str, Any]:
        """Digest of a test row -> what was answered."""
        return {record["digest"]: record["predicted"] for record in self.predictions}


SweepEvent = TrialStarted | TrialReported | TrialPaused | TrialEnded | JobTested
Sink = Callable[[SweepEvent], None]

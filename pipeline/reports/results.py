"""The events of a sweep, gathered into what tables and figures show."""

from dataclasses import dataclass, field
from statistics import median
from typing import Literal, final

from pipeline.core.engine.events import (
    JobTested,
    SweepEvent,
    TrialEnded,
    TrialPaused,
    TrialReported,
    TrialStarted,
    TrialStatus,
)
from pipeline.core.engine.trials import Trial


@dataclass(kw_only=True, slots=True)
class TrialResult:
    """Where one trial stands."""

    trial: Trial
    status: Literal["running", "paused"] | TrialStatus = "running"
    reason: str = ""
    """Why it ended, in words."""
    curve: dict[int, float] = field(default_factory=dict)
    """Epoch -> primary metric on the validation rows."""
    seconds: float = 0.0
    """Training and evaluation."""
    train_s: dict[int, float] = field(default_factory=dict)
    """Epoch -> seconds of training."""
    peak_bytes: int = 0
    """Most memory that its process had."""
    best_primary: float | None = None
    best_epoch: int = 0

    @property
    def epoch_s(self) -> float:
        """Seconds of training in an epoch: the median, without the first, in which what is kept is computed."""
        later = [seconds for epoch, seconds in self.train_s.items() if epoch > 1]
        return median(later or self.train_s.values() or [0.0])

    @property
    def is_over(self) -> bool:
        """Whether it will not train any further."""
        return self.status in ("done", "pruned", "failed")


@final
class SweepResults:
    """Sink that remembers."""

    def __init__(self) -> None:
        self.trials: dict[str, dict[int, TrialResult]] = {}
        """Job -> trial number -> result."""
        self.winners: dict[str, JobTested] = {}
        """Job -> its winner, once it is tested."""

    def __call__(self, event: SweepEvent) -> None:
        """Take in an event."""
        if isinstance(event, JobTested):
            self.winners[event.trial.job] = event
            return
        trials = self.trials.setdefault(event.trial.job, {})
        result = trials.setdefault(event.trial.index, TrialResult(trial=event.trial))
        match event:
            case TrialStarted():
                result.status = "running"
            case TrialPaused():
                result.status = "paused"
            case TrialReported(evaluated=evaluated):
                if evaluated.epoch not in result.curve:
                    result.seconds += evaluated.train_s + evaluated.eval_s
                result.curve[evaluated.epoch] = evaluated.primary
                result.train_s[evaluated.epoch] = evaluated.train_s
                result.peak_bytes = max(result.peak_bytes, evaluated.peak_bytes)
                if evaluated.best:
                    result.best_primary, result.best_epoch = evaluated.primary, evaluated.epoch
            case TrialEnded():
                result.status, result.reason = event.status, event.reason
                result.best_primary, result.best_epoch = event.best_primary, event.best_epoch

    def of(self, job: str) -> list[TrialResult]:
        """The trials of a job in their order."""
        return [result for _, result in sorted(self.trials.get(job, {}).items())]

    def seconds(self, job: str) -> float:
        """Training and evaluation time of all trials of a job."""
        return sum(result.seconds for result in self.of(job))

    def best(self, job: str) -> float | None:
        """The best validation score of a job so far."""
        return max((r.best_primary for r in self.of(job) if r.best_primary is not None), default=None)

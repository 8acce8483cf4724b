"""Trials of one job as they stand in the middle of a sweep."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import EngineConfig, MethodConfig
from pipeline.core.engine.events import Evaluated, JobTested, SweepEvent, TrialEnded, TrialReported
from pipeline.core.engine.trials import Settings, Trial
from pipeline.reports.results import SweepResults
from pipeline.reports.tables import LeaderboardRow


@dataclass(frozen=True, kw_only=True)
class Teller:
    """Makes events and tells them to the results."""

    results: SweepResults = field(default_factory=SweepResults)
    job: str = "sentiment/films"

    def trial(self, index: int = 0) -> Trial:
        rate, width = 0.001 * (index + 1), 16 if index % 2 else 24
        settings = Settings(method=MethodConfig(name="pfeiffer", width=width), engine=EngineConfig(learning_rate=rate))
        return Trial(job=self.job, index=index, params={}, settings=settings, seed=0)

    def tell(self, event: SweepEvent) -> SweepEvent:
        self.results(event)
        return event

    def epoch(self, epoch: int, score: float, index: int = 0, *, best: bool = True) -> SweepEvent:
        evaluated = Evaluated(
            epoch=epoch,
            step=epoch * 10,
            primary=score,
            metrics={"accuracy": score},
            best=best,
            train_loss=0.5,
            train_s=3.0,
            eval_s=1.0,
            rows_per_s=50.0,
            peak_bytes=2**29,
        )
        return self.tell(TrialReported(trial=self.trial(index), evaluated=evaluated, losses=()))

    def end(self, index: int = 0, **changes: Any) -> SweepEvent:
        event = TrialEnded(
            trial=self.trial(index),
            status="done",
            reason="all epochs done",
            epochs=4,
            best_epoch=4,
            best_primary=0.913,
            bundle=None,
            train_s=12.3,
        )
        return self.tell(replace(event, **changes))

    def fail(self, index: int) -> SweepEvent:
        reason = "the loss is not a number at step 17"
        return self.end(index, status="failed", reason=reason, epochs=0, best_epoch=0, best_primary=None)

    def tested(self, index: int = 0) -> SweepEvent:
        return self.tell(
            JobTested(
                trial=self.trial(index),
                bundle=Path("bundle"),
                validation=0.913,
                scores={},
                primary=0.9,
                low=0.85,
                high=0.95,
                baseline=0.5,
                predictions=(),
                num_truncated=0,
                num_trained=10,
            )
        )


@pytest.fixture
def teller() -> Teller:
    """Tells events to results that know nothing yet."""
    return Teller()


@pytest.fixture
def row() -> LeaderboardRow:
    """The winner of one job."""
    return LeaderboardRow(
        job="sentiment/films",
        method="pfeiffer",
        width=24,
        layers="all",
        learning_rate=0.00123,
        metric="accuracy",
        validation=0.91,
        test=0.9,
        low=0.853,
        high=0.963,
        baseline=0.51,
        share=0.0052,
        bundle_bytes=512_345,
        seconds=83.2,
        epoch_s=4.25,
        alias="champion",
        name="sentiment",
        version=1,
        reason="the first of sentiment",
    )

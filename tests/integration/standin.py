"""A bench without a model: sessions whose scores are a function of the trial, with real folders and real faults."""

import json
import math
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.cluster.trainable import Losses
from pipeline.config import EngineConfig, MethodConfig, TaskConfig
from pipeline.data.rows import Dataset, Split
from pipeline.engine.events import Evaluated, Finished, JobTested
from pipeline.engine.trials import Job, Settings, Trial
from pipeline.errors import TrainingDiverged

SCORES = {16: 0.5, 32: 0.9, 48: 0.7, 64: 0.3}
"""Width -> score after many epochs."""


def job_of(name: str, epochs: int = 4) -> Job:
    """A job without rows, which the stand-in does not read."""
    split = Split(name="train", rows=(), fingerprint="0", cut_from=None)
    dataset = Dataset(
        task=name, domain="d", source="s", train=split, validation=split, test=split, overlap={}, notes=()
    )
    settings = Settings(method=MethodConfig(name="pfeiffer"), engine=EngineConfig(epochs=epochs))
    config = TaskConfig(name=name, kind="classification")
    return Job(
        name=name,
        registered_name=name,
        task=config,  # type: ignore[arg-type]
        dataset=dataset,
        encoded={},
        settings=settings,
        seed=0,
    )


class StandInSession:
    """Writes a line an epoch; `faults` maps a trial's key to what goes wrong in it at its second epoch."""

    def __init__(self, trial: Trial, folder: Path, faults: dict[str, str], epoch_s: float) -> None:
        self.trial, self.folder, self.faults, self.epoch_s = trial, folder, faults, epoch_s
        self.finished: Finished | None = None
        self.bundle: Path | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "epochs"

    def epochs(self, start: int = 0) -> Iterator[tuple[Evaluated, Losses]]:
        last = self.trial.settings.engine.epochs
        for epoch in range(1, last + 1):
            done = self.file.read_text().split() if self.file.exists() else []
            if epoch > len(done):
                self._train(epoch)
            primary = SCORES[self.trial.settings.method.width] * (1 - 0.5**epoch)
            self.bundle = self.folder / f"bundle-{epoch}"
            if epoch > start:
                yield self._evaluated(epoch, primary), ((epoch, 1.0, 0.1),)
        self.finished = Finished(epochs=last, best_epoch=last, best_primary=primary, reason="all epochs done")

    def close(self) -> None:
        pass

    def _train(self, epoch: int) -> None:
        time.sleep(self.epoch_s)
        fault = self.faults.get(self.trial.key) if epoch == 2 else None
        if fault == "nan":
            raise TrainingDiverged("the loss is not a number at step 17")
        if fault == "memory":
            raise MemoryError
        marker = self.folder / "killed"
        if fault == "kill" and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "kill always":
            os.kill(os.getpid(), signal.SIGKILL)
        with self.file.open("a") as stream:
            stream.write(f"{os.getpid()}\n")

    def _evaluated(self, epoch: int, primary: float) -> Evaluated:
        return Evaluated(
            epoch=epoch,
            step=epoch,
            primary=primary,
            metrics={"accuracy": primary},
            best=not math.isnan(primary),
            train_loss=1.0,
            train_s=0.1,
            eval_s=0.1,
            rows_per_s=1.0,
        )


class StandIn:
    """Opens stand-in sessions."""

    def __init__(self, faults: dict[str, str], epoch_s: float = 0.0) -> None:
        self.faults, self.epoch_s = faults, epoch_s

    def session(self, job: Job, trial: Trial, folder: Path) -> StandInSession:
        return StandInSession(trial, folder, self.faults, self.epoch_s)

    def test(self, job: Job, trial: Trial, bundle: Path) -> JobTested:
        return JobTested(
            trial=trial,
            bundle=bundle,
            validation=0.0,
            scores={},
            primary=json.loads(str(SCORES[trial.settings.method.width])),
            low=0.0,
            high=1.0,
            baseline=0.5,
            predictions=(),
            num_truncated=0,
            num_trained=1,
        )

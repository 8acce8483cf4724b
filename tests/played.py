"""Jobs without rows and epochs without a training, for tests of what only looks at scores."""

from pipeline.config import EngineConfig, MethodConfig
from pipeline.core.data.rows import Dataset, Split
from pipeline.core.engine.events import Evaluated
from pipeline.core.engine.trials import Job, Settings


def played_job(name: str, *, epochs: int = 4) -> Job:
    """A job without rows, and without a task."""
    split = Split(name="train", rows=(), fingerprint="0", cut_from=None)
    return Job(
        name=name,
        registered_name=name,
        task=None,  # type: ignore[arg-type]
        dataset=Dataset(
            task=name, domain="d", source="s", train=split, validation=split, test=split, overlap={}, notes=()
        ),
        encoded={},
        settings=Settings(method=MethodConfig(name="pfeiffer"), engine=EngineConfig(epochs=epochs)),
        seed=0,
    )


def evaluated(epoch: int, primary: float, *, best: bool = True) -> Evaluated:
    """An epoch of two seconds with this score."""
    return Evaluated(
        epoch=epoch,
        step=epoch,
        primary=primary,
        metrics={"accuracy": primary},
        best=best,
        train_loss=1.0,
        train_s=2.0,
        eval_s=1.0,
        rows_per_s=1.0,
        peak_bytes=2**29,
    )

"""Jobs without rows and epochs without a training, for tests of what only looks at scores."""

from collections.abc import Iterator, Sequence
from types import SimpleNamespace

from pipeline.config import EngineConfig, MethodConfig
from pipeline.core.data.rows import Dataset, Split
from pipeline.core.engine.events import Diverged, Evaluated, SessionEvent
from pipeline.core.engine.trainer import OpenSession
from pipeline.core.engine.trials import Job, Settings
from pipeline.errors import TrainingDiverged


def played_job(name: str, *, epochs: int = 4) -> Job:
    """A job without rows, and with a task that knows nothing."""
    split = Split(name="train", rows=(), fingerprint="0", cut_from=None)
    return Job(
        name=name,
        registered_name=name,
        task=SimpleNamespace(decoding=None),  # type: ignore[arg-type]
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


def in_turn(sessions: Sequence[OpenSession], starts: Sequence[int]) -> Iterator[tuple[int, SessionEvent | Diverged]]:
    """Play sessions side by side, an event of each in turn."""
    playing = {
        number: session.events(start) for number, (session, start) in enumerate(zip(sessions, starts, strict=True))
    }
    while playing:
        for number, events in [*playing.items()]:
            try:
                yield number, next(events)
            except StopIteration:
                del playing[number]
            except TrainingDiverged as error:
                del playing[number]
                yield number, Diverged(reason=str(error))

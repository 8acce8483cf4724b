"""The settings of the small commands; those of a sweep are in `pipeline.config`."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.config import SweepConfig, TrackingConfig
from pipeline.errors import Fault


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictConfig:
    """`make predict`: the champion of a task answers."""

    tracking: TrackingConfig
    name: str = ""
    """Task, or task/domain, whose champion answers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StatusConfig:
    """`make status`: what is registered."""

    tracking: TrackingConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class UiConfig:
    """`make ui`: the MLflow UI."""

    tracking: TrackingConfig
    port: int = 5000
    """On this machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchConfig(SweepConfig):
    """`make bench`: training speed on the first of `tasks`, beside other libraries."""

    rounds: int = 3
    """Measurements of each; they take turns."""
    seconds: float = 20.0
    """Least length of one measurement, warm-up aside; ours ends with an epoch."""

    def faults(self, where: str) -> Iterator[Fault]:
        for name in ("rounds", "seconds"):
            if getattr(self, name) <= 0:
                remedy = f"Set {name} to a number above 0"
                yield Fault(where=name, value=str(getattr(self, name)), rule="must be above 0", remedy=remedy)

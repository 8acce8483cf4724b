"""Settings of the commands that ask what is registered, or change which version is champion."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.config import HookConfig, TrackingConfig
from pipeline.errors import Fault, fault


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictConfig:
    """`make predict`: the champion of a task answers."""

    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    job: str = ""
    """Task, or task/domain, whose champion answers."""

    def faults(self, where: str) -> Iterator[Fault]:
        yield from named(self.job, "make predict TASK=sentiment TEXT='...'")


@dataclass(frozen=True, kw_only=True, slots=True)
class StatusConfig:
    """`make status`: what is registered."""

    tracking: TrackingConfig = field(default_factory=TrackingConfig)


@dataclass(frozen=True, kw_only=True, slots=True)
class RollbackConfig:
    """`make rollback`: the champion before the present one is champion again."""

    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    hook: HookConfig = field(default_factory=HookConfig)
    job: str = ""
    """Task, or task/domain, whose champion is withdrawn."""
    quarantine: bool = True
    """Leave the rows that were new to it out of later passes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PromoteConfig:
    """`make promote`: a challenger that the gate rejected becomes champion."""

    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    hook: HookConfig = field(default_factory=HookConfig)
    job: str = ""
    """Task, or task/domain, whose champion is replaced."""
    version: int = 0
    """Number of the challenger; `make status` shows it."""


def explained(reason: str) -> Iterator[Fault]:
    """A fault where REASON, which comes from the environment, says nothing."""
    if not reason:
        yield fault("REASON", "", "is missing", "Say why, for those who come after")


def named(job: str, example: str) -> Iterator[Fault]:
    """A fault where no task is named."""
    if not job:
        yield fault("TASK", "", "is missing", f"Name a task that has a champion (`make status` lists them): {example}")

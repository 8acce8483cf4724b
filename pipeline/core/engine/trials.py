"""A job and its trials: plain, picklable data that travels from the command to the workers."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from pipeline.config import EngineConfig, MethodConfig, Pooling, Range
from pipeline.config.strict import replace
from pipeline.core.data.rows import Dataset
from pipeline.core.tasks.task import Encoded, Task


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Everything that a search may change in a trial."""

    method: MethodConfig
    engine: EngineConfig


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Start:
    """What the trials of a job begin with, where that is not chance: adapter and head of a champion."""

    tensors: Mapping[str, Tensor]
    """As in a bundle."""
    labels: tuple[str, ...]
    """What the outputs of that head stand for; those of the job may be more."""
    rate: float = 1.0
    """Learning rate as a share of that of a cold start."""
    cold_epochs: int = 0
    """Epochs of the last cold start."""
    still: bool = False
    """Whether all of it stays as it is, and only the outputs of the task's `fresh` labels are trained."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One task and domain of a sweep, ready to be trained on."""

    name: str
    """`sentiment/films`."""
    registered_name: str
    """`sentiment`, or `sentiment.movies` where the domain is not the default."""
    task: Task
    dataset: Dataset
    encoded: Mapping[str, Encoded]
    """train, validation, test -> tokenised rows."""
    settings: Settings
    """What a trial has where the search says nothing."""
    seed: int
    space: Mapping[str, Range] | None = None
    """What its search tries, where that is not what all jobs try."""
    searched: Mapping[str, list[float]] = field(default_factory=dict)
    """As in the record of a bundle."""
    start: Start | None = None
    """What its trials begin with. None: fresh weights."""
    pooling: Pooling | None = None
    """How a text becomes one vector: as for the champion that it goes on from. None: as the checkpoint says."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One candidate of a job."""

    job: str
    index: int
    """Place among the job's trials, from 0."""
    params: Mapping[str, Any]
    """Searched config key -> value."""
    settings: Settings
    seed: int

    @property
    def key(self) -> str:
        """Name that is unique in the sweep and can be a folder: `sentiment.films-03`."""
        return f"{self.job.replace('/', '.')}-{self.index:02d}"


def trial_of(job: Job, index: int, params: Mapping[str, Any]) -> Trial:
    """Make the job's trial number `index` from searched `params`.

    Raises:
        ConfigError: A parameter is no key of `Settings`, or its value breaks a rule.
    """
    params = rounded(job.settings, params)
    settings = replace(job.settings, params)
    return Trial(job=job.name, index=index, params=params, settings=settings, seed=seed_of(job.seed, job.name))


def rounded(settings: Settings, params: Mapping[str, Any]) -> dict[str, Any]:
    """Round what a continuous range proposes for settings that are whole numbers, such as the width."""
    found = {}
    for key, value in params.items():
        now: Any = settings
        for name in key.split("."):
            now = getattr(now, name, None)
        found[key] = round(value) if isinstance(now, int) and isinstance(value, float) else value
    return found


def seed_of(seed: int, *names: object) -> int:
    """Derive a seed that depends on nothing but `seed` and `names`, in 31 bits."""
    text = ":".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1

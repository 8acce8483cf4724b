"""Settings of the commands that ask what is registered, or change which version is champion."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from pipeline.config import DataConfig, HookConfig, TaskConfig, TrackingConfig
from pipeline.errors import Fault, fault

ANSWER_SUFFIXES = (".jsonl", ".csv", ".tsv", ".parquet")
"""How the names of files end that answers are written to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileDataConfig(DataConfig):
    """How rows are read, of a command that may be given a file, which is told by FILE."""

    def faults(self, where: str) -> Iterator[Fault]:
        yield from replace(self.of_folder(), source=".").faults(where)

    def of_folder(self) -> DataConfig:
        """The same where there is no file."""
        return DataConfig(**{one.name: getattr(self, one.name) for one in fields(DataConfig)})


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictConfig:
    """`make predict`: a registered version of a task answers."""

    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    data: FileDataConfig = field(default_factory=FileDataConfig)
    """How FILE is read."""
    job: str = ""
    """Task, or task/domain, whose champion answers."""
    alias: str = "champion"
    """Which version answers: champion, or challenger."""
    version: int | None = None
    """The number of the version that answers. None: the one that has the alias."""
    out: str = ""
    """File that the answers are written to, as .jsonl, .csv, .tsv or .parquet. Empty: standard output, as jsonl."""

    def faults(self, where: str) -> Iterator[Fault]:
        yield from named(self.job, "make predict TASK=sentiment TEXT='...'")
        yield from _one_version(self.alias, self.version)
        if self.out and Path(self.out).suffix not in ANSWER_SUFFIXES:
            remedy = f"Give a name that ends in {', '.join(ANSWER_SUFFIXES[:-1])} or {ANSWER_SUFFIXES[-1]}"
            yield fault("OUT", self.out, "is no file that answers are written to", remedy)


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig:
    """`make evaluate`: a registered version of a task is scored on labelled rows; no alias is moved."""

    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    task: Mapping[str, TaskConfig]
    """Every known task; filled as in a sweep."""
    data: FileDataConfig = field(default_factory=FileDataConfig)
    """Where the rows come from, of which those of the test split are scored; how FILE is read."""
    job: str = ""
    """Task, or task/domain, whose version is scored."""
    alias: str = "champion"
    """Which version is scored: champion, or challenger."""
    version: int | None = None
    """The number of the version that is scored. None: the one that has the alias."""
    file: str = ""
    """File of labelled rows, all of which are scored; FILE is the same. Empty: the test split of `data.source`."""

    def faults(self, where: str) -> Iterator[Fault]:
        yield from named(self.job, "make evaluate TASK=sentiment FILE=<file>")
        yield from _one_version(self.alias, self.version)


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


def _one_version(alias: str, version: int | None) -> Iterator[Fault]:
    """A fault where a version is named twice, or none can have that number."""
    if version is not None and alias != "champion":
        yield fault("VERSION and ALIAS", "", "exclude each other", "Give only one of them")
    if version is not None:
        yield from no_number(version)
    if not alias:
        yield fault("ALIAS", "", "is empty", "Give ALIAS=champion or ALIAS=challenger")


def no_number(version: int) -> Iterator[Fault]:
    """A fault where no version can have that number."""
    if version < 1:
        yield fault("VERSION", version, "is no number of a version: they begin at 1", "`make status` shows them")


def named(job: str, example: str) -> Iterator[Fault]:
    """A fault where no task is named."""
    if not job:
        yield fault("TASK", "", "is missing", f"Name a task that has a champion (`make status` lists them): {example}")

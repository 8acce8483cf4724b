"""What is said of a registered version, whoever keeps it."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from pipeline.core.data.ledger import Ledger
from pipeline.errors import TrackingError

Alias = Literal["champion", "challenger"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """Where the files of a version lie on this machine."""

    bundle: Path
    ledger: Path
    """Folder of what it has seen, for `read_ledger`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """A registered version that a user asks for."""

    name: str
    """Registered name."""
    version: int
    alias: str
    """The alias that it has; empty where it has none."""
    files: Files


@dataclass(frozen=True, kw_only=True, slots=True)
class Champion:
    """The version that a new one is judged against."""

    version: int
    test: float
    """Its score on its own test rows."""
    found: Files | TrackingError
    """Its files, or why they are not where the registry says."""
    attempt: str = ""
    """Name of the attempt that it was, in a pass."""

    @property
    def files(self) -> Files:
        """Its files.

        Raises:
            TrackingError: They are not where the registry says.
        """
        return _found(self.found)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a new version is called, why, and what it has seen."""

    alias: Alias
    reason: str
    ledger: Ledger
    news: str = ""
    """Names the new rows that it was trained for."""
    attempt: str = ""
    """Name of the attempt that it was."""
    harder: bool = False
    """Whether another one may pass that is trained harder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Registered:
    """A winner in the registry."""

    name: str
    version: int
    alias: Alias
    reason: str
    first: bool = False
    """Whether it became champion where there was none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """A registered version that an alias points to."""

    name: str
    version: int
    alias: str
    metric: str
    validation: float
    test: float
    low: float
    high: float
    """95 % interval of `test`."""
    baseline: float
    checkpoint: str
    method: str
    source: str
    """Of the data."""
    created: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Past:
    """A version that is not champion, and what a new pass has to know of it."""

    version: int
    alias: str
    """`challenger`, or `rolled back`."""
    quarantined: bool
    """Whether the rows that were new to it are left out."""
    news: str
    replaces: int | None
    """The champion that it was judged against."""
    reason: str
    found: Files | TrackingError
    """Its files, or why they are not where the registry says."""
    attempt: str = ""
    """Name of the attempt that it was."""
    harder: bool = False
    """Whether another one may pass that is trained harder."""

    @property
    def ledger(self) -> Path:
        """Folder of what it has seen.

        Raises:
            TrackingError: Its files are not where the registry says.
        """
        return _found(self.found).ledger


def _found(files: Files | TrackingError) -> Files:
    if isinstance(files, TrackingError):
        raise files
    return files

"""What the processes of the service tell one another: plain data, which needs neither torch nor MLflow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

Key = tuple[str, int]
"""Registered name and version."""
Shown = list[dict[str, Any]]
"""The answer to one input, in parts (`Task.parts`); of a text that was cut each says `"truncated": true`."""
ALIASES = ("champion", "challenger", "previous")
"""Versions of a name that are resident, the one that answers where none is named first."""

ErrorType = Literal[
    "bad_body",
    "bad_input",
    "draining",
    "internal",
    "not_found",
    "not_resident",
    "not_served",
    "queue_full",
    "timeout",
    "too_large",
    "unauthorized",
]


class Reader(Protocol):
    """Who knows what is registered; it is pickled, and sent to the process that asks it."""

    def aliases(self) -> Mapping[str, Mapping[str, int]]:
        """Registered name -> alias -> version; a PipelineError where the registry does not answer."""

    def bundle(self, name: str, version: int) -> Path:
        """Folder of a version's bundle on this machine; a PipelineError where there is none."""

    def release(self, folder: Path) -> None:
        """Hear that this folder is needed no more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Why something is not answered."""

    status: int
    """Of HTTP."""
    error_type: ErrorType
    error: str
    """A sentence: what must hold, and what can be done."""
    retry_after_s: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """Inputs for one version, answered together or not at all."""

    name: str
    version: int
    items: Sequence[Any]
    where: str = "inputs"
    """What the inputs are called in messages."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What becomes of an entry."""

    version: int = 0
    answers: Sequence[Shown] = ()
    """One an input."""
    truncated: Sequence[int] = ()
    """The positions of inputs that the model did not see whole."""
    problem: Problem | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What the bundle of a version says of it, or why it cannot be served."""

    kind: str = ""
    ranks: bool = False
    labels: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    """What an input has to have."""
    checkpoint: str = ""
    """Its name."""
    home: str = ""
    """The deployment that holds its checkpoint; empty where there is none."""
    folder: str = ""
    """Of the bundle, where the registry was read."""
    reason: str = ""
    """Why it cannot be served; empty where it can."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Serving:
    """A version behind an alias."""

    alias: str
    version: int
    checkpoint: str
    home: str
    num_bytes: int = 0
    """Of its adapter and head in each process that holds them."""
    reason: str = ""
    """Why it does not answer; empty where it does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """A task as the service knows it."""

    name: str
    kind: str
    ranks: bool
    """Whether its answers are rankings, of which `top_k` is the beginning."""
    labels: tuple[str, ...]
    fields: tuple[str, ...]
    """What an input has to have; of `text` alone the bare text does too."""
    versions: tuple[Serving, ...]
    """In the order of `ALIASES`; the first is the champion, if there is one."""

    @property
    def champion(self) -> Serving | None:
        """The version that answers where none is named."""
        return next((one for one in self.versions if one.alias == "champion"), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """All tasks, as the ingress goes by them."""

    tasks: Mapping[str, Standing] = field(default_factory=dict)
    registry: str = ""
    """Why the registry does not answer; empty where it does. What is resident is served on."""
    is_draining: bool = False
    """Whether the service is being stopped."""
    is_unread: bool = False
    """Whether the registry was not read yet, so that nothing is known of tasks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What a process says of itself, again and again."""

    replica: str
    home: str = ""
    """The deployment that it belongs to; empty of the ingress."""
    resident: Mapping[Key, int] = field(default_factory=dict)
    """Version -> bytes."""
    refused: Mapping[Key, str] = field(default_factory=dict)
    """Version -> why its bundle was not taken."""
    num_open: int = 0
    """Of an ingress: requests that are being answered."""
    is_draining: bool = False
    """Of an ingress: whether it takes no further ones."""
    figures: Sequence[Any] = ()
    """Its metrics so far (`pipeline.serving.figures`)."""

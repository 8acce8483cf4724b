"""What is not recorded yet, on disk: one file a record, in order, deleted when the store has it.

The folder is the queue: what a killed process leaves there, the next one finds. The files are plain JSON.
"""

import base64
import dataclasses
import json
import logging
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final, get_args

from pipeline.config.strict import build
from pipeline.core.engine.events import Evaluated, SweepEvent
from pipeline.core.engine.trials import Settings, Trial
from pipeline.files import make_folder, new_file

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """An event of the sweep."""

    event: SweepEvent
    at_ms: int
    """When it was handed over, in milliseconds since 1970: of its metric points, however often they are sent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Filed:
    """An artifact of a job, by name, or of the sweep (None)."""

    job: str | None
    path: str
    data: bytes
    is_table: bool = False
    """Whether the MLflow UI shows it as a table."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Described:
    """The description that the MLflow UI shows above a job's run, or above the sweep's (None)."""

    job: str | None
    markdown: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Metrics and tags of a job's run, or of the sweep's (None), that are known once."""

    job: str | None
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    at_ms: int


Record = Told | Filed | Described | Measured
_RECORDS: dict[str, type[Record]] = {cls.__name__.lower(): cls for cls in get_args(Record)}
_EVENTS: dict[str, type[SweepEvent]] = {cls.__name__: cls for cls in get_args(SweepEvent)}


@final
class Spool:
    """A queue of records that outlives the process. One thread takes out what others put in."""

    def __init__(self, folder: Path) -> None:
        """Open the folder, or make it; what is in it comes first."""
        make_folder(folder)
        self.folder = folder
        for draft in folder.glob(".*"):
            draft.unlink()
        self._files = deque(sorted(folder.glob("*.json")))
        self._last = int(self._files[-1].stem) if self._files else 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._files)

    def put(self, record: Record) -> None:
        """Append a record; an OSError where the folder cannot be written to."""
        with self._lock:
            file = self.folder / f"{self._last + 1:09d}.json"
            with new_file(file) as draft:
                draft.write_text(encode(record), "utf-8")
            self._last += 1
            self._files.append(file)

    def first(self, count: int) -> list[Record]:
        """Read the oldest records, `count` at most, and leave them there."""
        found: list[Record] = []
        with self._lock:
            files = [self._files[i] for i in range(min(count, len(self._files)))]
        for file in files:
            try:
                found.append(decode(file.read_text("utf-8")))
            except (ValueError, LookupError, TypeError, OSError) as error:
                if found:
                    break  # told when it is the oldest
                _log.warning("%s cannot be read and is left out: %s", file, error)
                self.drop(1)
                return self.first(count)
        return found

    def drop(self, count: int) -> None:
        """Delete the oldest records: the store has them."""
        for _ in range(count):
            with self._lock:
                file = self._files.popleft()
            file.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the folder if nothing is left in it."""
        if not self._files and self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()


def encode(record: Record) -> str:
    """Write a record as one line of JSON."""
    values = {"kind": type(record).__name__.lower(), **dataclasses.asdict(record)}
    if isinstance(record, Told):
        values["event"]["kind"] = type(record.event).__name__
    if isinstance(record, Filed):
        values["data"] = base64.b64encode(record.data).decode("ascii")
        values["table"] = values.pop("is_table")
    return json.dumps(values, default=_plain)


def decode(line: str) -> Record:
    """Read what `encode` wrote.

    Raises:
        ValueError, LookupError, TypeError: It is something else, or cut off.
    """
    values = json.loads(line)
    cls, fields = _RECORDS[values["kind"]], {name: value for name, value in values.items() if name != "kind"}
    if cls is Told:
        fields["event"] = _event(fields["event"])
    if cls is Filed:
        fields["data"] = base64.b64decode(fields["data"])
        fields["is_table"] = fields.pop("table")
    return cls(**fields)


def _event(values: Mapping[str, Any]) -> SweepEvent:
    fields = {key: value for key, value in values.items() if key != "kind"}
    trial = fields["trial"]
    fields["trial"] = Trial(**{**trial, "settings": build(Settings, trial["settings"])})
    if "evaluated" in fields:
        fields["evaluated"] = Evaluated(**fields["evaluated"])
        fields["losses"] = tuple((step, loss, rate) for step, loss, rate in fields["losses"])
    if fields.get("bundle") is not None:
        fields["bundle"] = Path(fields["bundle"])
    if "predictions" in fields:
        fields["predictions"] = tuple(fields["predictions"])
    return _EVENTS[values["kind"]](**fields)


def _plain(value: Any) -> Any:
    """What JSON does not know: numbers of numpy and torch, and paths."""
    return value.item() if hasattr(value, "item") else str(value)

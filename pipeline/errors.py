"""Every error that the pipeline raises on purpose.

    PipelineError                 exit code 1
    ├── UserError                 exit code 2: the user can mend it; nothing was recorded
    │   ├── ConfigError           a config key, a command-line value
    │   ├── DataError             a file, a line, a split
    │   ├── CheckpointError       the pretrained model cannot be found, or is not the one expected
    │   └── BundleError           an adapter bundle is damaged or belongs to another checkpoint
    ├── TrainingDiverged          a trial's loss is not a number; the sweep goes on without it
    ├── SweepError                a sweep cannot end with a winner for every job
    ├── TrackingError             the tracking store cannot be reached or read
    └── NotResident               an adapter that is asked is not in the bank

A `UserError` is a list of faults, so that all of them are shown at once. Anything else that reaches the
console is a defect of ours and keeps its traceback.
"""

import errno
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

MAX_SHOWN = 20
"""Faults that one message lists, those of one file by one rule counted once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One thing that is wrong, and what to do about it."""

    where: str
    """File and line, or config key: `data/ner/train.jsonl:12`, `engine.learning_rate`, `TASKS`."""
    value: str
    """The offending value as the user wrote it; empty where something is missing."""
    rule: str
    """What must hold: a whole clause, such as `must be above 0`."""
    remedy: str
    """What the user can do: an imperative sentence without its full stop."""
    of_file: bool = False
    """Whether a file cannot be read further for it, so that it is none of a single row."""
    of_hidden: bool = False
    """Whether it is no more than that a row's target is hidden, as publishers do with a whole split."""
    target: str | None = None
    """What a row's target says as a label, where nothing but that is wrong; empty where it says nothing."""

    def __str__(self) -> str:
        shown = f" {self.value!r}" if self.value else ""
        text = f"{self.where}:{shown} {self.rule}. {self.remedy}."
        return text.encode("utf-8", "backslashreplace").decode()  # half of a surrogate pair cannot be printed


def fault(where: object, value: object, rule: str, remedy: str) -> Fault:
    """Make a fault; `where` and `value` are shown as they print, but for passwords in addresses."""
    return Fault(where=masked(str(where)), value=masked(str(value)), rule=masked(rule), remedy=masked(remedy))


SECRET_KEY = re.compile(
    r"(?<=[?&;#])([^=&;#\s]*(?:pass|pwd|token|secret|sig|auth|api.?key|access.?key)[^=&;#\s]*=)[^&;#\s\"']+", re.I
)
"""A key behind the path of an address that says what it holds, and its value: `?token=...`, `&X-Amz-Signature=...`."""


def masked(text: str) -> str:
    """Take names, passwords and tokens out of the addresses in a text: `http://***@host?token=***`."""
    return SECRET_KEY.sub(r"\1***", re.sub(r"(?<=://)[^\s\"']*@", "***@", text))


def up_to_host(address: str) -> str:
    """An address whose path may be its secret, as it is shown: `https://hooks.example.com/...`."""
    return re.sub(r"(://[^/?#]*)[/?#].+", r"\1/...", masked(address), flags=re.S)


_LINE = re.compile(r":\d+$")
_DETAIL = re.compile(r"\([^()]*\)|'[^']*'|\"[^\"]*\"|\d+")
"""What differs between faults by one rule: numbers, quoted values, and what stands in parentheses."""


def grouped(faults: Sequence[Fault]) -> list[list[Fault]]:
    """Put together the faults of one file by one rule, in the order of the first ones."""
    groups: dict[tuple[object, ...], list[Fault]] = {}
    for number, one in enumerate(faults):
        file = _LINE.sub("", one.where)
        key = (file, _DETAIL.sub("", one.rule)) if file != one.where else (number,)
        groups.setdefault(key, []).append(one)
    return list(groups.values())


def gathered(faults: Sequence[Fault]) -> list[Fault]:
    """Tell the faults of one file by one rule as one: the first of them, with their number."""
    return [
        replace(first, rule=f"{first.rule} (the first of {len(more) + 1})") if more else first
        for first, *more in grouped(faults)
    ]


class PipelineError(Exception):
    """The root: whatever the pipeline raises on purpose."""

    exit_code = 1

    def __str__(self) -> str:
        return masked(super().__str__())  # libraries quote addresses, of a proxy too


class UserError(PipelineError):
    """Something that its user can mend; carries one or more faults; its message shows them `gathered`, the first 20."""

    exit_code = 2

    def __init__(self, faults: Fault | Sequence[Fault]) -> None:
        self.faults: tuple[Fault, ...] = (faults,) if isinstance(faults, Fault) else tuple(faults)
        assert self.faults, "a UserError without a fault explains nothing"
        told = gathered(self.faults)
        shown = [str(fault) for fault in told[:MAX_SHOWN]]
        if len(told) > MAX_SHOWN:
            shown.append(f"... and {len(told) - MAX_SHOWN} more")
        super().__init__("\n".join(shown))

    def __reduce__(self) -> tuple[type["UserError"], tuple[tuple[Fault, ...]]]:
        return type(self), (self.faults,)


class Faults:
    """The faults of checks that do not need one another, gathered to be shown at once."""

    def __init__(self) -> None:
        self._errors: list[UserError] = []

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Keep the `UserError` that ends the block, and go on after it."""
        try:
            yield
        except UserError as error:
            self._errors.append(error)

    def raise_any(self) -> None:
        """Raise what was kept, if anything, as one error of the first one's class; equal faults once."""
        if self._errors:
            faults = dict.fromkeys(fault for error in self._errors for fault in error.faults)
            raise type(self._errors[0])(list(faults)) from self._errors[0]


class ConfigError(UserError):
    """A config key or command-line value is unknown or out of range."""


class DataError(UserError):
    """A data file, one of its lines, or a split as a whole breaks a rule."""


class CheckpointError(UserError):
    """The checkpoint is not there, cannot be read, or has other weights than expected."""


class BundleError(UserError):
    """A bundle is damaged, of an unknown format, or was trained on another checkpoint."""


class TrainingDiverged(PipelineError):
    """The loss of a trial is infinite or not a number."""


class SweepError(PipelineError):
    """A job of the sweep has no trial that finished."""


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def disk_full(error: BaseException, place: object = "") -> str:
    """Say that a disk is full, or write-protected, and what was written; empty where an error is another one.

    Args:
        error: What was raised, perhaps from what the system said.
        place: What was written to where the system does not name it, as of a file that was open already.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            where = f": {cause.filename or place}" if cause.filename or place else ""
            return f"Nothing can be written any more ({cause.strerror}{where}). Make room there"
        if "database or disk is full" in str(cause):  # as SQLite says it
            return "Nothing can be written any more (No space left on device: the tracking store). Make room there"
        cause = cause.__cause__ or cause.__context__
    return ""


class TrackingError(PipelineError):
    """The tracking store cannot be reached, or does not hold what was asked for."""


class NotResident(PipelineError):
    """An adapter that is asked is not in the bank: it was never admitted, was dropped, or had to make room."""

"""A schedule, how its last pass went, and what the crontab and systemd have in common."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pipeline.config.cron import Cron
from pipeline.errors import ConfigError, fault

OTHERS = "or say ON=foreground and leave it running"
"""What a remedy ends with where a program that watches the clock is missing."""
_FILES = "# files: "


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """A command that is run again and again on this machine."""

    id: str
    cron: Cron
    timezone: str | None
    words: Sequence[str]
    """The command line of a pass, program first."""
    missed: Sequence[str]
    """The command line of a pass that is run only if one was missed."""
    path: str
    """PYTHONPATH: the checkout."""
    cwd: str
    """Working directory: where the schedule was made."""
    files: str
    """Its folder: logs, lock, how the last pass ended."""

    @property
    def head(self) -> str:
        """The comment that stands above what is installed, and by which `installed` finds it."""
        return f"{begin(self.id)}\n{_FILES}{self.files}\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class Stamp:
    """How the last pass of a schedule went."""

    began: datetime
    log: str
    pid: int
    ended: datetime | None = None
    code: int | None = None
    """Exit code; None: it runs, or was killed."""


def begin(name: str) -> str:
    """The first line of what is installed for a schedule."""
    return f"# adapters: schedule {name}, by `make schedule`: ACTION=remove ID={name} takes it out"


def installed(text: str) -> Mapping[str, str]:
    """Id -> folder of each schedule in a crontab or a unit of systemd."""
    pattern = rf"^# adapters: schedule ([-a-z0-9]+), by .*\n{_FILES}(.*)$"
    return dict(re.findall(pattern, text, re.M))


def outcome(stamp: Stamp | None, *, running: bool) -> str:
    """How the last pass went, in words."""
    if stamp is None:
        return "running" if running else ""
    if stamp.code is None:
        return "running" if running else "FAILED: killed, or the machine went down"
    return {0: "done", 130: "stopped"}.get(stamp.code, f"FAILED, exit code {stamp.code}")


def refused(where: str, stderr: bytes) -> ConfigError:
    """What a program that watches the clock has against a schedule."""
    rule = f"does not take it ({' '.join(text_of(stderr).split())})"
    return ConfigError(fault(where, "", rule, "See that this user may use it, and try again"))


def text_of(raw: bytes) -> str:
    """Decode what such a program says; bytes that are no text survive the way back."""
    return raw.decode("utf-8", "surrogateescape")

"""A schedule as text: entries of a crontab, units of systemd, and how its last pass ended. Pure functions."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pipeline.config.cron import Cron
from pipeline.errors import ConfigError, Fault

LONGEST_LINE = 998
"""Characters of a command that Debian's cron takes."""
_WEEKDAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_STOP_S = 120  # for a sweep's snapshots and last records after Ctrl-C


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """A command that is run again and again on this machine."""

    id: str
    on: str
    """`cron`, `systemd` or `foreground`."""
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Stamp:
    """How the last pass of a schedule went."""

    began: datetime
    log: str
    pid: int
    ended: datetime | None = None
    code: int | None = None
    """Exit code; None: it runs, or was killed."""


def crontab_block(schedule: Schedule) -> str:
    """Write the lines of a crontab: at the times of the schedule, and once after a boot if one was missed.

    Raises:
        ConfigError: cron would not take them.
    """
    where = f"cd {shlex.quote(schedule.cwd)} && PYTHONPATH={shlex.quote(schedule.path)}"
    commands = [f"{where} {shlex.join(words)}" for words in (schedule.words, schedule.missed)]
    for command in commands:
        rule = "has a line break, which a crontab cannot hold" if "\n" in command else None
        if len(_escaped(command)) > LONGEST_LINE:
            rule = f"is longer than the {LONGEST_LINE} characters that cron takes ({len(_escaped(command))})"
        if rule is not None:
            remedy = "Put settings into files of a CONF folder, or say ON=systemd"
            raise ConfigError(Fault(where="schedule", value=schedule.id, rule=rule, remedy=remedy))
    times = (str(schedule.cron), "@reboot")
    lines = [f"{time} {_escaped(command)}" for time, command in zip(times, commands, strict=True)]
    return "\n".join([_begin(schedule.id), f"{_FILES}{schedule.files}", *lines, _end(schedule.id), ""])


_FILES = "# files: "


def _begin(name: str) -> str:
    return f"# adapters: schedule {name}, by `make schedule`: ACTION=remove ID={name} takes it out"


def _end(name: str) -> str:
    return f"# adapters: end of {name}"


def _escaped(command: str) -> str:
    # cron takes % for the end of the line and \% for a percent sign, wherever they are; of a quoted backslash before
    # a percent sign it would leave the sign alone, so that the quotes are closed and opened in between.
    return command.replace("\\%", "\\''%").replace("%", "\\%")


def merged(table: str, name: str, block: str) -> str:
    """Put the lines of a schedule into a crontab, in their old place if they were in it; all others stay as they are.

    Args:
        table: The crontab.
        name: Id of the schedule.
        block: Its lines; nothing takes them out.

    Raises:
        ConfigError: Somebody has cut the old lines in two.
    """
    lines = table.splitlines(keepends=True)
    begins = [number for number, line in enumerate(lines) if line.rstrip("\n") == _begin(name)]
    ends = [number for number, line in enumerate(lines) if line.rstrip("\n") == _end(name)]
    if not begins and not ends:
        return table + ("\n" if block and table and not table.endswith("\n") else "") + block
    if len(begins) != 1 or len(ends) != 1 or begins > ends:
        rule = f"has lines of the schedule {name} without their first or last one"
        remedy = "Take them out with `crontab -e`, and try again"
        raise ConfigError(Fault(where="crontab", value="", rule=rule, remedy=remedy))
    return "".join([*lines[: begins[0]], block, *lines[ends[0] + 1 :]])


def installed(text: str) -> Mapping[str, str]:
    """Id -> folder of each schedule in a crontab or a unit of systemd."""
    pattern = rf"^# adapters: schedule ([-a-z0-9]+), by .*\n{_FILES}(.*)$"
    return dict(re.findall(pattern, text, re.M))


def unit_names(name: str) -> tuple[str, str]:
    """The service and the timer of a schedule."""
    return f"adapters-{name}.service", f"adapters-{name}.timer"


def units(schedule: Schedule) -> dict[str, str]:
    """Write the service and the timer, by their file names."""
    service, timer = unit_names(schedule.id)
    head = f"{_begin(schedule.id)}\n{_FILES}{schedule.files}\n[Unit]\nDescription=Scheduled pass of {schedule.id}\n"
    # Stopped as by Ctrl-C, which the pass hands on to its command. 75: the last pass still runs, which is no failure.
    run = f"""
[Service]
Type=oneshot
WorkingDirectory={schedule.cwd.replace("%", "%%")}
Environment={_word(f"PYTHONPATH={schedule.path}").replace("$$", "$")}
ExecStart={" ".join(map(_word, schedule.words))}
KillMode=mixed
KillSignal=SIGINT
TimeoutStopSec={_STOP_S}
SuccessExitStatus=75
"""
    lines = "".join(f"OnCalendar={line}\n" for line in on_calendar(schedule.cron, schedule.timezone))
    at = f"\n[Timer]\n{lines}Persistent=true\nAccuracySec=1s\n\n[Install]\nWantedBy=timers.target\n"
    return {service: head + run, timer: head + at}


def _word(text: str) -> str:
    """Quote a word of ExecStart, where % and $ stand for something."""
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return '"' + text.replace("%", "%%").replace("$", "$$") + '"'


def on_calendar(cron: Cron, timezone: str | None) -> list[str]:
    """Write a schedule as calendar events of systemd, of which any one is enough: cron's day *or* weekday are two."""
    minutes, hours = _numbers(cron.minute, range(60)), _numbers(cron.hour, range(24))
    days, months = _numbers(cron.day, range(1, 32)), _numbers(cron.month, range(1, 13))
    weekdays = sorted({number % 7 for number in _expanded(cron.weekday, range(8))})
    named = "" if cron.weekday == "*" else ",".join(_WEEKDAYS[number] for number in weekdays) + " "
    zone = f" {timezone}" if timezone else ""
    time = f"{hours}:{minutes}:00{zone}"
    if named and cron.day != "*":
        return [f"*-{months}-{days} {time}", f"{named}*-{months}-* {time}"]
    return [f"{named}*-{months}-{days} {time}"]


def _expanded(field: str, all_of: range) -> list[int]:
    """The numbers of a field, which `Cron` has without names and ranges."""
    found: set[int] = set()
    for part in field.split(","):
        star, _, step = part.partition("/")
        found |= set(all_of[:: int(step or 1)]) if star == "*" else {int(part)}
    return sorted(found)


def _numbers(field: str, all_of: range) -> str:
    return "*" if field == "*" else ",".join(f"{number:02d}" for number in _expanded(field, all_of))


def outcome(stamp: Stamp | None, *, running: bool) -> str:
    """How the last pass went, in words."""
    if stamp is None:
        return "running" if running else ""
    if stamp.code is None:
        return "running" if running else "FAILED: killed, or the machine went down"
    if stamp.code == 0:
        return "done"
    if stamp.code == 130:
        return "stopped"
    return f"FAILED, exit code {stamp.code}"


def superfluous(logs: Sequence[str], keep: int) -> Iterator[str]:
    """The logs that go: all but the newest `keep`, whose names are their times."""
    yield from sorted(logs)[: max(len(logs) - keep, 0)]

"""Timers of systemd: a schedule's service and timer as text, and `systemctl`, which installs and removes them."""

import os
import subprocess
from pathlib import Path

from pipeline.clock.schedule import OTHERS, Schedule, installed, refused
from pipeline.config.cron import Cron
from pipeline.errors import ConfigError, fault
from pipeline.files import make_folder, new_file

_WEEKDAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_STOP_S = 120  # for a sweep's snapshots and last records after Ctrl-C
_SCOPES = ("system", "user")
_RUNS = Path("/run/systemd/system")  # there where systemd has started the machine


def unit_names(name: str) -> tuple[str, str]:
    """The service and the timer of a schedule."""
    return f"adapters-{name}.service", f"adapters-{name}.timer"


def units(schedule: Schedule) -> dict[str, str]:
    """Write the service and the timer, by their file names."""
    service, timer = unit_names(schedule.id)
    head = f"{schedule.head}[Unit]\nDescription=Scheduled pass of {schedule.id}\n"
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


def unit_folder(scope: str) -> Path:
    """Where systemd looks for units: the system's, or the user's."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    return Path("/etc/systemd/system") if scope == "system" else home / "systemd" / "user"


def scope_of(chosen: str) -> str:
    """`system` or `user`."""
    return chosen if chosen != "auto" else "system" if os.geteuid() == 0 else "user"


def add_units(schedule: Schedule, scope: str) -> list[str]:
    """Install and start a timer; return what is to be said about it."""
    if not _RUNS.is_dir():
        remedy = f"Set schedule.target=<folder> to write the units alone, say ON=cron, {OTHERS}"
        raise ConfigError(fault("systemd", "", "does not run this machine", remedy))
    write_units(schedule, unit_folder(scope))
    service, timer = unit_names(schedule.id)
    for words in (["daemon-reload"], ["enable", timer], ["restart", timer]):
        _systemctl(scope, *words)
    flag = "--user " if scope == "user" else ""
    said = [f"systemctl {flag}list-timers {timer};  systemctl {flag}status {service};  journalctl {flag}-u {service}"]
    linger = "A user's timers stop when the user logs out, unless: loginctl enable-linger"
    return said if scope == "system" else [*said, linger]


def write_units(schedule: Schedule, folder: Path) -> None:
    """Write the service and the timer.

    Raises:
        ConfigError: They cannot be written there.
    """
    try:
        make_folder(folder)
        for name, text in units(schedule).items():
            with new_file(folder / name) as draft:
                draft.touch(0o600)  # it has the whole command line
                draft.write_text(text, "utf-8", errors="surrogateescape")
    except OSError as error:
        rule, remedy = f"cannot be written ({error.strerror})", "Set schedule.systemd=user, or schedule.target=<folder>"
        raise ConfigError(fault("systemd", folder, rule, remedy)) from error


def remove_units(name: str) -> None:
    """Stop and remove a timer, of either kind, if there is one."""
    for scope in _SCOPES:
        files = [file for one in unit_names(name) if (file := unit_folder(scope) / one).exists()]
        if files and _RUNS.is_dir():
            _systemctl(scope, "disable", "--now", unit_names(name)[1])
        for file in files:
            file.unlink()
        if files and _RUNS.is_dir():
            _systemctl(scope, "daemon-reload")


def installed_units() -> dict[str, str]:
    """Id -> folder of each schedule that has a timer, of either kind."""
    found: dict[str, str] = {}
    for scope in _SCOPES:
        for file in sorted(unit_folder(scope).glob("adapters-*.timer")):
            found |= installed(file.read_text("utf-8", errors="surrogateescape"))
    return found


def _systemctl(scope: str, *words: str) -> None:
    done = subprocess.run(["systemctl", f"--{scope}", *words], capture_output=True, check=False)
    if done.returncode:
        raise refused("systemd", done.stderr)

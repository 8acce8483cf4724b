"""What watches the clock on this machine: the user's crontab, and timers of systemd."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pipeline.clock.schedule import Schedule, crontab_block, installed, merged, unit_names, units
from pipeline.errors import ConfigError, Fault

_COMM = Path("/proc")
_OTHERS = "or say ON=foreground and leave it running"


def read_crontab() -> str:
    """The user's crontab, empty where there is none or no cron."""
    try:
        done = subprocess.run(["crontab", "-l"], capture_output=True, check=False)
    except FileNotFoundError:
        return ""
    if done.returncode and b"no crontab" not in done.stderr:
        raise _refused("crontab", done.stderr)
    return "" if done.returncode else _text(done.stdout)


def write_crontab(table: str) -> None:
    """Replace the user's crontab; an empty one is none.

    Raises:
        ConfigError: There is no cron, or it does not take the table.
    """
    words = ["crontab", "-"] if table else ["crontab", "-r"]
    try:
        done = subprocess.run(words, input=table.encode("utf-8", "surrogateescape"), capture_output=True, check=False)
    except FileNotFoundError as error:
        rule, remedy = "is not there", f"Install cron (apt-get install cron), say ON=systemd, {_OTHERS}"
        raise ConfigError(Fault(where="crontab", value="", rule=rule, remedy=remedy)) from error
    if done.returncode:
        raise _refused("crontab", done.stderr)


def add_to_crontab(schedule: Schedule) -> list[str]:
    """Put a schedule into the crontab; return what is to be said about it."""
    before = read_crontab()
    table = merged(before, schedule.id, crontab_block(schedule))
    if table != before:
        write_crontab(table)
    said = ["The user's crontab has it (crontab -l); what a failed pass says, cron mails to the user."]
    return said if _runs("cron", "crond") else [*said, "No cron runs on this machine: start it (service cron start)."]


def remove_from_crontab(name: str) -> bool:
    """Take a schedule out of the crontab; False where it was not in it."""
    before = read_crontab()
    table = merged(before, name, "")
    if table != before:
        write_crontab(table)
    return table != before


def unit_folder(scope: str) -> Path:
    """Where systemd looks for units: the system's, or the user's."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    return Path("/etc/systemd/system") if scope == "system" else home / "systemd" / "user"


def scope_of(chosen: str) -> str:
    """`system` or `user`."""
    return chosen if chosen != "auto" else "system" if os.geteuid() == 0 else "user"


def add_units(schedule: Schedule, scope: str) -> list[str]:
    """Install and start a timer; return what is to be said about it."""
    if not Path("/run/systemd/system").is_dir():
        rule = "does not run this machine"
        remedy = f"Set schedule.target=<folder> to write the units alone, say ON=cron, {_OTHERS}"
        raise ConfigError(Fault(where="systemd", value="", rule=rule, remedy=remedy))
    folder = unit_folder(scope)
    write_units(schedule, folder)
    service, timer = unit_names(schedule.id)
    _systemctl(scope, "daemon-reload")
    _systemctl(scope, "enable", timer)
    _systemctl(scope, "restart", timer)
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
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in units(schedule).items():
            (folder / name).write_text(text, "utf-8", errors="surrogateescape")
    except OSError as error:
        rule, remedy = f"cannot be written ({error.strerror})", "Set schedule.systemd=user, or schedule.target=<folder>"
        raise ConfigError(Fault(where="systemd", value=str(folder), rule=rule, remedy=remedy)) from error


def remove_units(name: str) -> bool:
    """Stop and remove a timer, of either kind; False where there was none."""
    found = False
    for scope in ("system", "user"):
        files = [file for one in unit_names(name) if (file := unit_folder(scope) / one).exists()]
        if files and Path("/run/systemd/system").is_dir():
            _systemctl(scope, "disable", "--now", unit_names(name)[1])
        for file in files:
            file.unlink()
            found = True
        if files and Path("/run/systemd/system").is_dir():
            _systemctl(scope, "daemon-reload")
    return found


def all_installed() -> dict[str, Mapping[str, str]]:
    """`cron` and `systemd` -> id -> folder, of what is installed."""
    timers: dict[str, str] = {}
    for scope in ("system", "user"):
        for file in sorted(unit_folder(scope).glob("adapters-*.timer")):
            timers |= installed(file.read_text("utf-8", errors="surrogateescape"))
    return {"cron": installed(read_crontab()), "systemd": timers}


def _systemctl(scope: str, *words: str) -> None:
    done = subprocess.run(["systemctl", f"--{scope}", *words], capture_output=True, check=False)
    if done.returncode:
        raise _refused("systemd", done.stderr)


def _refused(where: str, stderr: bytes) -> ConfigError:
    rule = f"does not take it ({' '.join(_text(stderr).split())})"
    return ConfigError(Fault(where=where, value="", rule=rule, remedy="See that this user may use it, and try again"))


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _runs(*names: str) -> bool:
    """Whether a process of one of these names runs; True where that cannot be seen."""
    if not _COMM.is_dir():
        return True
    for file in _COMM.glob("[0-9]*/comm"):
        try:
            if file.read_text().strip() in names:
                return True
        except OSError:  # it has just ended
            continue
    return False

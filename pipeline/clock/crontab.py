"""The user's crontab: the lines of a schedule as text, and `crontab`, which reads and replaces the whole table."""

import shlex
import subprocess
from pathlib import Path

from pipeline.clock.schedule import OTHERS, Schedule, begin, refused, text_of
from pipeline.errors import ConfigError, fault

LONGEST_LINE = 998
"""Characters of a command that Debian's cron takes."""
_COMM = Path("/proc")


def crontab_block(schedule: Schedule) -> str:
    """Write the lines of a crontab: at the times of the schedule, and once after a boot if one was missed.

    Raises:
        ConfigError: cron would not take them.
    """
    where = f"cd {shlex.quote(schedule.cwd)} && PYTHONPATH={shlex.quote(schedule.path)}"
    commands = [_escaped(f"{where} {shlex.join(words)}") for words in (schedule.words, schedule.missed)]
    for command in commands:
        rule = "has a line break, which a crontab cannot hold" if "\n" in command else None
        if len(command) > LONGEST_LINE:
            rule = f"is longer than the {LONGEST_LINE} characters that cron takes ({len(command)})"
        if rule is not None:
            remedy = "Put settings into files of a CONF folder, or say ON=systemd"
            raise ConfigError(fault("schedule", schedule.id, rule, remedy))
    at_times, after_a_boot = commands
    return f"{schedule.head}{schedule.cron} {at_times}\n@reboot {after_a_boot}\n{_end(schedule.id)}\n"


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
    begins = [number for number, line in enumerate(lines) if line.rstrip("\n") == begin(name)]
    ends = [number for number, line in enumerate(lines) if line.rstrip("\n") == _end(name)]
    if not begins and not ends:
        return table + ("\n" if block and table and not table.endswith("\n") else "") + block
    if len(begins) != 1 or len(ends) != 1 or begins > ends:
        rule = f"has lines of the schedule {name} without their first or last one"
        raise ConfigError(fault("crontab", "", rule, "Take them out with `crontab -e`, and try again"))
    return "".join([*lines[: begins[0]], block, *lines[ends[0] + 1 :]])


def read_crontab() -> str:
    """The user's crontab, empty where there is none or no cron."""
    try:
        done = subprocess.run(["crontab", "-l"], capture_output=True, check=False)
    except FileNotFoundError:
        return ""
    if done.returncode and b"no crontab" not in done.stderr:
        raise refused("crontab", done.stderr)
    return "" if done.returncode else text_of(done.stdout)


def write_crontab(table: str) -> None:
    """Replace the user's crontab; an empty one is none.

    Raises:
        ConfigError: There is no cron, or it does not take the table.
    """
    words = ["crontab", "-"] if table else ["crontab", "-r"]
    try:
        done = subprocess.run(words, input=table.encode("utf-8", "surrogateescape"), capture_output=True, check=False)
    except FileNotFoundError as error:
        rule, remedy = "is not there", f"Install cron (apt-get install cron), say ON=systemd, {OTHERS}"
        raise ConfigError(fault("crontab", "", rule, remedy)) from error
    if done.returncode:
        raise refused("crontab", done.stderr)


def add_to_crontab(schedule: Schedule) -> list[str]:
    """Put a schedule into the crontab; return what is to be said about it."""
    _change(schedule.id, crontab_block(schedule))
    said = ["The user's crontab has it (crontab -l); what a failed pass says, cron mails to the user."]
    return said if _runs("cron", "crond") else [*said, "No cron runs on this machine: start it (service cron start)."]


def remove_from_crontab(name: str) -> None:
    """Take a schedule out of the crontab, if it is in it."""
    _change(name, "")


def _change(name: str, block: str) -> None:
    before = read_crontab()
    if (table := merged(before, name, block)) != before:
        write_crontab(table)


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

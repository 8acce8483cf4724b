"""A schedule: what is run, when, and by what; `make schedule`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal
from zoneinfo import ZoneInfo

from pipeline.config.faults import between
from pipeline.errors import Fault, fault

LONGEST_CRONJOB = 52
"""The name of a CronJob, behind which Kubernetes puts 11 characters for a Job, whose pods' label takes 63."""
LONGEST_ID = 24
"""Kubernetes allows 47 characters for a RayJob, which has the cluster's name in front and a time behind."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleConfig:
    """`make schedule`: a command is run again and again. Each key is written `schedule.<key>`."""

    action: Literal["install", "list", "remove", "run", "catch_up"] = "install"
    """`install` (the same id again replaces), `list`, `remove`; what cron and systemd call: `run`, a pass now, and
    `catch_up`, a pass now if one was missed."""
    on: Literal["cron", "systemd", "kubernetes", "foreground"] = "cron"
    """What watches the clock: the user's crontab; a timer of systemd; files for kubectl; this process, which stays."""
    cron: str = "0 3 * * 0"
    """Five fields: minute, hour, day of the month, month, weekday (0 and 7 are Sunday)."""
    id: str = ""
    """Name of the schedule. Empty: made of the tasks, or of the command."""
    command: str = "retrain"
    """What is run: sweep, compare, retrain, status or manifests. All keys that do not begin with `schedule.` are its
    own."""
    timezone: str | None = None
    """As in Europe/Berlin. None: the machine's; on Kubernetes UTC. cron knows no other than the machine's."""
    systemd: Literal["auto", "system", "user"] = "auto"
    """Whose timer: the system's or the user's. `auto`: the system's for root."""
    files: str = "runs/schedule"
    """Folder that has a folder for each schedule: a log a pass, the lock, and how the last pass ended."""
    keep: int = 20
    """Logs kept."""
    target: str | None = None
    """Folder that units of systemd or files for kubectl are written to, and no more. None: units are installed where
    systemd looks, files for kubectl go to `schedule-<id>`."""
    starting_deadline_s: int = 21_600
    """Kubernetes: how late a missed pass may still begin."""

    def faults(self, where: str) -> Iterator[Fault]:
        if self.action not in ("list", "remove"):
            from pipeline.config.cron import cron_faults  # here: `make help` reads this before anything is installed

            yield from cron_faults("cron", self.cron)
        if self.id and not re.fullmatch(rf"[a-z]([-a-z0-9]{{0,{LONGEST_ID - 2}}}[a-z0-9])?", self.id):
            rule = f"must be lower-case letters, digits and dashes, {LONGEST_ID} at most, a letter first"
            yield fault("id", self.id, rule, "Set id=weekly, for instance")
        if self.timezone is not None and not _known(self.timezone):
            rule, remedy = "is no time zone that is known here", "Set timezone=Europe/Berlin, for instance"
            yield fault("timezone", self.timezone, rule, remedy)
        if self.timezone is not None and self.on == "cron":
            rule = "is more than cron knows, which goes by the machine's time zone"
            yield fault("timezone", self.timezone, rule, "Leave it out, or set on=systemd")
        if self.target is not None and self.on in ("cron", "foreground"):
            rule = f"is not used: {self.on} is given no files"
            yield fault("target", self.target, rule, "Leave it out, or set on=systemd")
        yield from between("keep", self.keep, 1, 10_000)
        yield from between("starting_deadline_s", self.starting_deadline_s, 10, 86_400 * 7)


def _known(name: str) -> bool:
    try:
        return bool(name) and ZoneInfo(name) is not None
    except (KeyError, ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
        return False

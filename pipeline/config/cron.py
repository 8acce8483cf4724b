"""When something is due: the five fields of cron, read alike by all that watch the clock."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from cronsim import CronSim, CronSimError

from pipeline.errors import Fault, fault

_EXAMPLE = "Set CRON='0 3 * * 0' (minute, hour, day of the month, month, weekday: Sundays at three), for instance"
_ANY = datetime(2026, 1, 1)  # a parser wants to know where to begin


@dataclass(frozen=True, kw_only=True, slots=True)
class Cron:
    """A schedule, its fields in numbers; Sunday is 0."""

    minute: str
    hour: str
    day: str
    month: str
    weekday: str

    def __str__(self) -> str:
        return f"{self.minute} {self.hour} {self.day} {self.month} {self.weekday}"

    def next(self, now: datetime) -> datetime:
        """The first time after `now`, in its time zone."""
        return next(CronSim(str(self), now))

    def last(self, now: datetime) -> datetime:
        """The last time until `now`, in its time zone; a schedule of 29 February was due within 8 years."""
        if now.second or now.microsecond:
            return next(CronSim(str(self), now, reverse=True))
        # `now` itself may be such a time, and the parser begins a second before it.
        return next(CronSim(str(self), now.replace(second=1), reverse=True))

    def due(self, since: datetime, now: datetime) -> datetime | None:
        """The last time that has passed after `since`, or None: however many were missed, they are caught up once."""
        last = self.last(now)
        return last if last > since else None


def parse(text: str) -> Cron:
    """Read the five fields; a ValueError where they are none, and `cron_faults` says why."""
    if (why := _wrong(text)) is not None:
        raise ValueError(why)
    parsed = CronSim(text, _ANY)
    minute, hour, day, month, weekday = text.split()
    return Cron(
        minute=_numbers(minute, parsed.minutes),
        hour=_numbers(hour, parsed.hours),
        day=_numbers(day, parsed.days),
        month=_numbers(month, parsed.months),
        weekday=_numbers(weekday, {number % 7 for number in parsed.weekdays if isinstance(number, int)}),
    )


def cron_faults(where: str, text: str) -> Iterator[Fault]:
    """A fault unless the text is what `parse` takes."""
    if (why := _wrong(text)) is not None:
        yield fault(where, text, why, _EXAMPLE)


def _wrong(text: str) -> str | None:
    fields = text.upper().split()
    if not fields:
        return "is missing"
    if len(fields) != 5:
        return f"must have five fields, and has {len(fields)}"
    if found := re.search(r"[^\d\s*/,A-Z-]|L|W(?!ED)", re.sub("JUL", "", " ".join(fields))):
        return f"has {found[0]!r}, which not every cron knows"
    if re.search(r"(?<![-*\d])\d+/|(?<![-*\dA-Z])[A-Z]{3}/", text.upper()):
        return "has a step without a range, which cron would ignore: 5-59/15 is meant, not 5/15"
    starred = [field for field in (fields[2], fields[4]) if field.startswith("*")]
    if starred and "*" not in (fields[2], fields[4]):
        return "sets both the day of the month and the weekday, with a step of all: cron and Kubernetes differ on it"
    try:
        next(CronSim(text, _ANY))
    except (CronSimError, StopIteration) as error:
        reason = str(error).replace("Bad ", "")
        return f"is no schedule of cron ({reason} is out of range or malformed)" if reason else "is never due"
    return None


def _numbers(written: str, values: set[int]) -> str:
    """A field without names and ranges: not all programs take `sun`, `fri-sun` or 7."""
    return written if written.startswith("*") and "," not in written else ",".join(map(str, sorted(values)))

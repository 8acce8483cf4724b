"""Cron read alike by all that watch the clock."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.config.cron import cron_faults, parse

WEDNESDAY = datetime(2026, 11, 25, 10, 30, tzinfo=UTC)


def test_names_and_ranges_become_numbers() -> None:
    assert str(parse("*/15 0-6/2 1,15 JAN-MAR *")) == "*/15 0,2,4,6 1,15 1,2,3 *"
    assert str(parse("0 0 * * FRI-7")) == "0 0 * * 0,5,6"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is missing"),
        ("0 3 * *", "must have five fields, and has 4"),
        ("@daily", "must have five fields, and has 1"),
        ("0 0 3 * * 0", "must have five fields, and has 6"),
        ("61 * * * *", "is no schedule of cron (minute is out of range or malformed)"),
        ("0 3 31 2 *", "is no schedule of cron (day-of-month is out of range or malformed)"),
        ("0 0 L * *", "has 'L', which not every cron knows"),
        ("0 0 * * 1#2", "has '#', which not every cron knows"),
        ("5/15 * * * *", "has a step without a range"),
        ("0 3 */2 * MON", "sets both the day of the month and the weekday"),
    ],
)
def test_a_bad_schedule_is_refused_with_its_remedy(text: str, why: str) -> None:
    (fault,) = cron_faults("CRON", text)
    assert why in fault.rule
    assert "Set CRON='0 3 * * 0'" in fault.remedy
    with pytest.raises(ValueError, match=re.escape(why)):
        parse(text)


def test_missed_times_are_one_and_none_is_due_before_its_time() -> None:
    cron = parse("0 3 * * 0")
    sunday = datetime(2026, 11, 22, 3, tzinfo=UTC)
    assert cron.due(sunday - timedelta(weeks=5), WEDNESDAY) == sunday
    assert cron.due(sunday + timedelta(seconds=1), WEDNESDAY) is None  # that pass began
    for now, last in [(0, 0), (1, 0), (59.5, 0), (-0.5, -60)]:
        at = parse("* * * * *").last(WEDNESDAY + timedelta(seconds=now))
        assert at == WEDNESDAY + timedelta(seconds=last)

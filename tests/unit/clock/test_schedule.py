"""Cron read alike by all that watch the clock; crontabs and units of systemd as text."""

import re
import shlex
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from pipeline.clock.passes import _Trigger
from pipeline.clock.schedule import (
    LONGEST_LINE,
    Schedule,
    Stamp,
    crontab_block,
    installed,
    merged,
    on_calendar,
    outcome,
    superfluous,
    units,
)
from pipeline.config.cron import cron_faults, parse
from pipeline.errors import ConfigError

WEDNESDAY = datetime(2026, 11, 25, 10, 30, tzinfo=UTC)
ODD = 'tracking.uri="sqlite:////data/100% it\'s \\% $HOME/mlflow.db"'


def made(*, words: tuple[str, ...] = ("run",), cron: str = "0 3 * * 0", folder: str = "/data/runs") -> Schedule:
    return Schedule(
        id="weekly",
        on="cron",
        cron=parse(cron),
        timezone=None,
        words=["/venv/bin/python", *words],
        missed=["/venv/bin/python", "missed", *words[1:]],
        path="/check out",
        cwd="/data",
        files=folder,
    )


@pytest.mark.parametrize("sunday", ["0", "7", "SUN", "sun", "7-7"])
def test_sunday_is_sunday_for_cron_the_timer_and_the_foreground(sunday: str) -> None:
    cron = parse(f"0 3 * * {sunday}")
    assert str(cron) == "0 3 * * 0"  # what the crontab and Kubernetes get
    assert cron.next(WEDNESDAY).strftime("%A %d %H:%M") == "Sunday 29 03:00"
    assert on_calendar(cron, None) == ["Sun *-*-* 03:00:00"]
    assert _Trigger(cron).get_next_fire_time(None, WEDNESDAY).strftime("%A %d %H:%M") == "Sunday 29 03:00"


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


def test_day_and_weekday_are_either_as_in_cron() -> None:
    cron = parse("0 3 1 * MON")
    assert on_calendar(cron, None) == ["*-*-01 03:00:00", "Mon *-*-* 03:00:00"]
    assert [cron.next(WEDNESDAY).day, cron.next(cron.next(WEDNESDAY)).day] == [30, 1]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
@pytest.mark.parametrize(
    "text", ["0 3 * * 0", "*/20 0-6/2 1,15 JAN-MAR *", "0 3 * * FRI-7", "0 0 29 2 *", "5 4 * * */2", "* * * * *"]
)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
def test_systemd_reads_the_calendar_as_cron_reads_the_schedule(text: str, zone: str) -> None:
    base = WEDNESDAY.astimezone(ZoneInfo(zone))
    (line,) = on_calendar(parse(text), zone)
    words = ["systemd-analyze", "calendar", "--iterations=4", "--base-time=2026-11-25 10:30:00 UTC", line]
    shown = subprocess.run(
        words, capture_output=True, text=True, check=True, env={"TZ": "UTC", "PATH": "/usr/bin:/bin"}
    )
    found = re.findall(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC", shown.stdout.partition("Next elapse")[2])
    expected = []
    for _ in range(4):
        base = parse(text).next(base)
        expected.append(f"{base.astimezone(UTC):%Y-%m-%d %H:%M:%S}")
    assert found == expected


def as_cron_runs(line: str) -> list[str]:
    """What the shell of a crontab's command makes of it, after cron has taken its percent signs."""
    command = line.split(" ", 5)[5]
    taken, kept = "", iter(command)
    for character in kept:
        if character == "\\":
            following = next(kept)
            taken += following if following == "%" else character + following
        else:
            assert character != "%", "cron would end the line here"
            taken += character
    return shlex.split(taken.partition("&& ")[2])


def test_a_crontab_entry_hands_every_character_on() -> None:
    block = crontab_block(made(words=("run", ODD)))
    entry, boot = block.splitlines()[2:4]
    assert entry.startswith("0 3 * * 0 cd /data && PYTHONPATH='/check out' /venv/bin/python run")
    assert as_cron_runs(entry) == ["PYTHONPATH=/check out", "/venv/bin/python", "run", ODD]
    assert boot.startswith("@reboot cd /data && ")
    assert " missed " in boot


@pytest.mark.parametrize(
    ("word", "why"), [("a\nb", "has a line break"), ("x" * 1000, f"longer than the {LONGEST_LINE} characters")]
)
def test_what_cron_would_cut_off_is_refused(word: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        crontab_block(made(words=("run", word)))


def test_other_lines_of_the_crontab_stay_and_a_second_time_replaces() -> None:
    others = "# mine: 5 \\% \n\nMAILTO=me\n0 1 * * *\tbackup  \n"
    first = merged(others, "weekly", crontab_block(made()))
    assert first == others + crontab_block(made())
    after = merged(first + "@daily more\n", "weekly", crontab_block(made(cron="5 4 * * *")))
    assert after == others + crontab_block(made(cron="5 4 * * *")) + "@daily more\n"
    assert installed(after) == {"weekly": "/data/runs"}
    assert merged(after, "week", "") == after  # another one, of a name that begins alike
    assert merged(after, "weekly", "") == others + "@daily more\n"
    assert merged("0 1 * * * backup", "weekly", "x\n") == "0 1 * * * backup\nx\n"


def test_a_block_that_was_cut_in_two_is_refused() -> None:
    table = "".join(crontab_block(made()).splitlines(keepends=True)[:-1])
    with pytest.raises(ConfigError, match="has lines of the schedule weekly without their first or last one"):
        merged(table + "0 1 * * * backup\n", "weekly", "")


def test_units_name_a_persistent_timer_and_escape_what_systemd_would_expand() -> None:
    found = units(made(words=("run", ODD), folder="/data/100%"))
    service, timer = found["adapters-weekly.service"], found["adapters-weekly.timer"]
    assert "OnCalendar=Sun *-*-* 03:00:00\nPersistent=true\n" in timer
    assert installed(timer) == installed(service) == {"weekly": "/data/100%"}
    assert 'Environment="PYTHONPATH=/check out"\n' in service
    (line,) = re.findall("^ExecStart=(.*)$", service, re.M)
    assert line.endswith(r""""tracking.uri=\"sqlite:////data/100%% it's \\%% $$HOME/mlflow.db\"" """.strip())


def test_the_outcome_says_what_went_wrong() -> None:
    began = Stamp(began=WEDNESDAY, log="/l/x.log", pid=7)
    assert outcome(began, running=True) == "running"
    assert "killed" in outcome(began, running=False)
    ended = {code: Stamp(began=WEDNESDAY, log="/l/x.log", pid=7, ended=WEDNESDAY, code=code) for code in (0, 1, 130)}
    assert outcome(ended[0], running=False) == "done"
    assert outcome(ended[1], running=False) == "FAILED, exit code 1"
    assert "stopped" in outcome(ended[130], running=False)


def test_the_oldest_logs_go() -> None:
    assert list(superfluous(["20261125T0.log", "20261123T0.log", "20261124T0.log"], 2)) == ["20261123T0.log"]
    assert list(superfluous(["a.log"], 2)) == []

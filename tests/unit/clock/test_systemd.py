"""A schedule as units of systemd, whose calendar is read as cron reads it."""

import re
import shutil
import subprocess
from datetime import UTC
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from pipeline.clock.schedule import installed
from pipeline.clock.systemd import on_calendar, units, write_units
from pipeline.config.cron import parse
from tests.unit.clock.test_schedule import ODD, WEDNESDAY, made


@pytest.mark.parametrize("sunday", ["0", "7", "SUN", "sun", "7-7"])
def test_sunday_is_sunday_for_cron_the_foreground_and_the_timer(sunday: str) -> None:
    cron = parse(f"0 3 * * {sunday}")
    assert str(cron) == "0 3 * * 0"  # what the crontab and Kubernetes get
    assert cron.next(WEDNESDAY).strftime("%A %d %H:%M") == "Sunday 29 03:00"  # by which the foreground goes
    assert on_calendar(cron, None) == ["Sun *-*-* 03:00:00"]


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


def test_units_name_a_persistent_timer_and_escape_what_systemd_would_expand() -> None:
    found = units(made(words=("run", ODD), folder="/data/100%"))
    service, timer = found["adapters-weekly.service"], found["adapters-weekly.timer"]
    assert "OnCalendar=Sun *-*-* 03:00:00\nPersistent=true\n" in timer
    assert installed(timer) == installed(service) == {"weekly": "/data/100%"}
    assert 'Environment="PYTHONPATH=/check out"\n' in service
    (line,) = re.findall("^ExecStart=(.*)$", service, re.M)
    assert line.endswith(r""""tracking.uri=\"sqlite:////data/100%% it's \\%% $$HOME/mlflow.db\"" """.strip())


def test_units_hold_what_was_typed_and_are_read_by_their_user_alone(tmp_path: Path) -> None:
    write_units(made(words=("run", "hook.command=curl -H token:s3cret")), tmp_path / "units")
    found = {file.name: file.stat().st_mode & 0o077 for file in (tmp_path / "units").iterdir()}
    assert found == {"adapters-weekly.service": 0, "adapters-weekly.timer": 0}

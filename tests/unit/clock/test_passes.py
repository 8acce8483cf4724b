"""Passes that end well, badly, or not at all; and the foreground, whose clock is set and sleeps."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from threading import Timer
from zoneinfo import ZoneInfo

import pytest

from pipeline.clock import passes
from pipeline.clock.passes import LOCKED, STOPPED, Folder, Pass, foreground, superfluous
from pipeline.config.cron import Cron, parse

WEEKLY = parse("0 3 * * 0")


def one(folder: Path, code: str, keep: int = 20) -> Pass:
    return Pass("weekly", Folder(path=folder), [sys.executable, "-c", code], keep)


def test_a_pass_leaves_its_log_and_how_it_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert one(tmp_path, "print('fine')").run() == 0
    stamp = Folder(path=tmp_path).stamp
    assert stamp is not None and stamp.code == 0 and stamp.ended is not None and stamp.ended >= stamp.began
    assert Path(stamp.log).read_text().startswith("fine\n")
    assert capsys.readouterr().err == ""  # cron would mail it
    assert one(tmp_path, "import sys; sys.exit('no such data')").run() == 1
    said = capsys.readouterr().err
    assert "weekly: the pass failed, exit code 1; the champion stays." in said
    assert "no such data" in said
    assert one(tmp_path, "import os; os.kill(os.getpid(), 9)").run() == 137


def test_only_the_newest_logs_stay(tmp_path: Path) -> None:
    for day in range(4):
        (tmp_path / f"2026010{day}T000000Z.log").touch()
    one(tmp_path, "", keep=2).run()
    names = sorted(path.name for path in tmp_path.glob("*.log"))
    assert len(names) == 2 and names[0] == "20260103T000000Z.log"


def test_a_second_pass_is_not_started_and_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Folder(path=tmp_path).locked() as lock:
        assert lock is not None
        assert one(tmp_path, "open('ran', 'w')").run() == LOCKED
        assert Folder(path=tmp_path).busy
    assert "weekly: not started, because another pass still runs." in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_missed_pass_is_caught_up_once(tmp_path: Path) -> None:
    folder, missed = Folder(path=tmp_path), (WEEKLY, UTC)
    now = datetime.now(UTC)
    folder.describe({"created": now.isoformat()})
    assert one(tmp_path, "").run(missed) == 0
    assert folder.stamp is None  # it was not due
    folder.describe({"created": (now - timedelta(weeks=5)).isoformat()})
    assert one(tmp_path, "").run(missed) == 0
    first = folder.stamp
    assert first is not None
    assert one(tmp_path, "").run(missed) == 0
    assert folder.stamp == first  # five were missed, one was run
    cut_off = json.loads((tmp_path / "stamp.json").read_text()) | {"code": None, "ended": None}
    (tmp_path / "stamp.json").write_text(json.dumps(cut_off))
    assert one(tmp_path, "").run(missed) == 0
    assert folder.stamp != first and folder.stamp is not None and folder.stamp.code == 0


def test_a_pass_is_stopped_as_by_ctrl_c(tmp_path: Path) -> None:
    lines = ["import time", "try:", "    print('up')", "    time.sleep(60)", "except KeyboardInterrupt:"]
    waiting = one(tmp_path, "\n".join([*lines, "    print('saved')", "    raise"]))

    def stop() -> None:
        while not any("up" in log.read_text() for log in tmp_path.glob("*.log")):
            time.sleep(0.05)
        waiting.stop()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # as callers do: what is ignored goes on
    try:
        Timer(0, stop).start()
        assert waiting.run() == STOPPED
    finally:
        signal.signal(signal.SIGINT, before)
    stamp = Folder(path=tmp_path).stamp
    assert stamp is not None and "saved" in Path(stamp.log).read_text()
    assert waiting.run() == STOPPED  # nothing more is begun


def test_the_foreground_runs_what_was_missed_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Folder(path=tmp_path).describe({"created": (datetime.now(UTC) - timedelta(weeks=5)).isoformat()})
    runs = one(tmp_path, "open('count', 'a').write('x')")

    def stop() -> None:
        while (stamp := runs.folder.stamp) is None or stamp.code is None:
            time.sleep(0.05)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGTERM)

    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        Timer(0, stop).start()
        assert foreground(runs, WEEKLY, UTC) == 0
    finally:
        os.chdir(before)
    assert (tmp_path / "count").read_text() == "x"
    said = capsys.readouterr().err
    assert "one was missed, so now" in said and "the pass is done. Next: " in said


class Clock:
    """A clock that can be set, in the place of `datetime`."""

    fromisoformat = staticmethod(datetime.fromisoformat)

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self, zone: tzinfo | None = None) -> datetime:
        return (datetime.now(UTC) + self.ahead).astimezone(zone)

    def set(self, time_of_2026: str) -> None:
        """Set it to a time in UTC, and let the foreground look at it."""
        self.ahead = datetime.fromisoformat(f"2026-{time_of_2026}+00:00") - datetime.now(UTC)
        time.sleep(0.2)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which the foreground goes, which looks at it 50 times a second."""
    made = Clock()
    monkeypatch.setattr(passes, "datetime", made)
    monkeypatch.setattr(passes, "_PIECE_S", 0.02)
    made.set("10-24T22:00")  # a Saturday; clocks change in the night that follows
    return made


def left(one: Pass, cron: Cron, zone: tzinfo, meanwhile: Callable[[], None]) -> int:
    """Let something happen beside the foreground, which then is stopped; how it ended."""
    failed: list[BaseException] = []

    def work() -> None:
        try:
            meanwhile()
        except BaseException as error:
            failed.append(error)
        os.kill(os.getpid(), signal.SIGTERM)

    timer = Timer(0.1, work)
    timer.start()
    code = foreground(one, cron, zone)
    timer.join()
    assert failed == []
    return code


def expect(runs: Pass, count: int) -> None:
    """Wait until so many passes have ended, and see that no other one begins."""
    until = time.monotonic() + 20
    file = runs.folder.path / "count"
    while (len(file.read_text()) if file.exists() else 0) < count or runs.folder.busy:
        assert time.monotonic() < until, f"no pass {count}"
        time.sleep(0.02)
    time.sleep(0.2)
    assert (len(file.read_text()) if file.exists() else 0) == count


def counting(folder: Path, then: str = "") -> Pass:
    return one(folder, f"open({str(folder / 'count')!r}, 'a').write('x')\n{then}")


def test_the_foreground_notices_a_time_however_late_and_those_that_it_slept_through_are_one(
    tmp_path: Path, clock: Clock
) -> None:
    runs = counting(tmp_path)

    def sleep() -> None:
        expect(runs, 0)
        clock.set("11-30T12:00")  # six Sundays later
        expect(runs, 1)
        clock.set("11-30T12:30")
        expect(runs, 1)

    assert left(runs, WEEKLY, UTC, sleep) == 0


def test_a_clock_that_is_set_back_by_an_hour_brings_no_time_twice_and_by_more_does(
    tmp_path: Path, clock: Clock
) -> None:
    runs = counting(tmp_path)

    def set_back() -> None:
        for time_of_2026, count in [("10-25T03:10", 1), ("10-25T02:20", 1), ("10-25T03:20", 1), ("10-17T23:00", 1)]:
            clock.set(time_of_2026)
            expect(runs, count)
        clock.set("10-18T03:30")
        expect(runs, 2)

    assert left(runs, WEEKLY, UTC, set_back) == 0


def test_the_hour_that_comes_twice_in_autumn_is_waited_through(tmp_path: Path, clock: Clock) -> None:
    runs = counting(tmp_path)

    def through() -> None:
        clock.set("10-25T00:30")  # half past two in Berlin, and an hour later again
        clock.set("10-25T01:30")
        expect(runs, 0)
        clock.set("10-25T02:01")
        expect(runs, 1)

    assert left(runs, WEEKLY, ZoneInfo("Europe/Berlin"), through) == 0


def test_times_in_the_hour_that_comes_twice_come_twice(tmp_path: Path, clock: Clock) -> None:
    runs = counting(tmp_path)

    def through() -> None:
        clock.set("10-25T00:50")
        expect(runs, 1)
        clock.set("10-25T01:05")  # by the clock on the wall three quarters of an hour earlier
        expect(runs, 2)

    assert left(runs, parse("*/30 * * * *"), ZoneInfo("Europe/Berlin"), through) == 0


def test_what_comes_due_while_a_pass_runs_is_said_and_caught_up_once(
    tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    go = tmp_path / "go"
    wait = f"import pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists(): time.sleep(0.02)\nraise SystemExit(3)"
    runs = counting(tmp_path, wait)

    def work() -> None:
        clock.set("10-25T03:01")
        while not (tmp_path / "count").exists():
            time.sleep(0.02)
        clock.set("11-01T03:01")
        clock.set("11-08T03:01")
        assert (tmp_path / "count").read_text() == "x"
        go.touch()
        expect(runs, 2)

    assert left(runs, WEEKLY, UTC, work) == 1  # as the last pass failed
    assert capsys.readouterr().err.count("due, but the last pass still runs; it is caught up once afterwards.") == 2


def test_the_oldest_logs_go() -> None:
    assert superfluous(["20261125T0.log", "20261123T0.log", "20261124T0.log"], 2) == ["20261123T0.log"]
    assert superfluous(["a.log"], 2) == []


@pytest.mark.parametrize(
    "left", ["", "{", "[]", "null", '{"began": 1}', '{"began": "x", "log": "", "pid": 1}', "\0\0\0"]
)
def test_a_stamp_that_cannot_be_read_is_none_and_the_next_pass_runs(tmp_path: Path, left: str) -> None:
    (tmp_path / "stamp.json").write_text(left)
    (tmp_path / "schedule.json").write_text(left)
    folder = Folder(path=tmp_path)
    assert folder.stamp is None and not folder.description.get("created")
    assert one(tmp_path, "pass").run() == 0
    assert folder.stamp is not None and folder.stamp.code == 0
    assert (tmp_path / "stamp.json").stat().st_mode & 0o077 == 0, "a schedule holds what was typed"

"""A scheduled pass: the lock that keeps a second one out, the log, and the stamp that says how it ended."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from threading import Event, RLock, Thread
from typing import Any, TextIO
from zoneinfo import ZoneInfo

from tzlocal import get_localzone

from pipeline.clock.schedule import Stamp
from pipeline.config.cron import Cron
from pipeline.errors import PipelineError
from pipeline.files import make_folder, new_file

LOCKED = 75
"""Exit code of a pass that was not started, since another one runs: EX_TEMPFAIL of sysexits.h."""
STOPPED = 130
_LOOK_S = 0.2
_STARTS_S = 1.0  # in which a Python that has just been started may lose a Ctrl-C
_TAIL = 12  # lines of the log of a failed pass that are shown
_PIECE_S = 60.0  # after which the foreground looks at the clock again: it may have been set, or have slept
_SET_BACK = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Folder:
    """What a schedule keeps on disk."""

    path: Path

    @property
    def description(self) -> Mapping[str, Any]:
        """What was installed: `on`, `cron`, `timezone`, `command`, `created`; empty where nothing was."""
        return self._read("schedule.json")

    def describe(self, description: Mapping[str, Any] | None) -> None:
        """Write what is installed; None takes it away, and leaves the logs."""
        if description is None:
            (self.path / "schedule.json").unlink(missing_ok=True)
        else:
            make_folder(self.path)
            self._write("schedule.json", description)

    @property
    def stamp(self) -> Stamp | None:
        """How the last pass went; None where there was none, or its stamp cannot be read: the next one begins anew."""
        values = self._read("stamp.json")
        try:
            times = {key: datetime.fromisoformat(values[key]) for key in ("began", "ended") if values[key] is not None}
            return Stamp(**{**values, **times})
        except (LookupError, TypeError, ValueError):
            return None

    def write_stamp(self, stamp: Stamp) -> None:
        """Replace the stamp, at once."""
        self._write("stamp.json", asdict(stamp))

    @contextmanager
    def locked(self) -> Iterator[int | None]:
        """Hold the lock; yields its descriptor, or None where somebody else holds it."""
        make_folder(self.path)
        with (self.path / "lock").open("a") as file:
            # Twice: whoever only looks whether a pass runs holds it for a moment.
            taken = _taken(file)
            if not taken:
                time.sleep(_LOOK_S)
                taken = _taken(file)
            yield file.fileno() if taken else None

    @property
    def busy(self) -> bool:
        """Whether a pass runs."""
        if not (self.path / "lock").exists():
            return False
        with self.locked() as descriptor:
            return descriptor is None

    def due(self, cron: Cron, zone: tzinfo) -> bool:
        """Whether a pass was missed since the last one began, or the schedule was made."""
        created, stamp = self.description.get("created"), self.stamp
        since = [datetime.fromisoformat(created)] if created else []
        since += [stamp.began] if stamp else []
        return bool(since) and cron.due(max(since), datetime.now(zone)) is not None

    def _read(self, name: str) -> Mapping[str, Any]:
        """What a file holds; empty where it is not there, or no object: after a power cut, earlier ones were."""
        try:
            found = json.loads((self.path / name).read_text("utf-8"))
        except (FileNotFoundError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, name: str, values: Mapping[str, Any]) -> None:
        with new_file(self.path / name) as draft:
            draft.touch(0o600)  # it has the whole command line
            draft.write_text(json.dumps(values, indent=1, default=str), "utf-8")


class Pass:
    """Runs the command of a schedule, one at a time on this machine."""

    def __init__(self, name: str, folder: Folder, words: Sequence[str], keep: int) -> None:
        """Prepare the schedule `name`; `words` are the command line, program first, and `keep` logs stay."""
        self.name, self.folder, self._words, self._keep = name, folder, words, keep
        self.stopped = False
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0.0  # by the monotonic clock
        self._mutex = RLock()  # a signal may come where it is held

    def run(self, missed: tuple[Cron, tzinfo] | None = None) -> int:
        """Run it, and say on standard error what did not go well.

        Args:
            missed: Run it only if this schedule missed a pass, or the last one was cut off.

        Returns:
            Exit code: the command's; `LOCKED` if another pass runs.
        """
        try:
            with self.folder.locked() as descriptor:
                stamp = self.folder.stamp
                if descriptor is None:
                    say(f"{self.name}: not started, because {_described(stamp)} still runs.")
                    return LOCKED
                cut_off = stamp is not None and stamp.code is None
                if missed is not None and not cut_off and not self.folder.due(*missed):
                    return 0
                return self._run(descriptor)
        except OSError as error:
            raise PipelineError(f"{self.name}: no pass, {self.folder.path} does not take it ({error})") from error

    def stop(self) -> None:
        """Ask what runs to stop, as by Ctrl-C, and begin nothing more."""
        with self._mutex:
            self.stopped = True
            if self._process is not None and self._process.poll() is None:
                time.sleep(max(self._began + _STARTS_S - time.monotonic(), 0))
                self._process.send_signal(signal.SIGINT)

    def _run(self, lock: int) -> int:
        began = datetime.now().astimezone()
        log = self.folder.path.absolute() / f"{began.astimezone(ZoneInfo('UTC')):%Y%m%dT%H%M%SZ}.log"
        with log.open("ab", buffering=0) as file:
            with self._mutex:
                if self.stopped:
                    return STOPPED
                # The lock goes along: it is held for as long as the command lives, even if this process is killed.
                # A session of its own: Ctrl-C reaches it once, by `stop`.
                self._process = subprocess.Popen(
                    self._words,
                    env=os.environ | {"PYTHONUNBUFFERED": "1"},  # what a killed one has said stays in the log
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    pass_fds=(lock,),
                    start_new_session=True,
                )
                self._began = time.monotonic()
                if self.stopped:  # by a signal just now
                    self.stop()
            stamp = Stamp(began=began, log=str(log), pid=self._process.pid)
            self.folder.write_stamp(stamp)
            code = self._process.wait()
            code = STOPPED if code and self.stopped else code if code >= 0 else 128 - code
            ended = datetime.now().astimezone()
            file.write(f"\n{ended:%Y-%m-%d %H:%M:%S}: ended, exit code {code}\n".encode())
        self.folder.write_stamp(Stamp(began=began, log=str(log), pid=stamp.pid, ended=ended, code=code))
        for name in superfluous([one.name for one in self.folder.path.glob("*.log")], self._keep):
            (self.folder.path / name).unlink()
        if code:
            last = log.read_text("utf-8", errors="replace").splitlines()[-_TAIL:]
            how = "was stopped" if code == STOPPED else f"failed, exit code {code}"
            say(f"{self.name}: the pass {how}; the champion stays. {log} ends with:\n" + "\n".join(last))
        return code


def _taken(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _described(running: Stamp | None) -> str:
    if running is None or running.code is not None:  # it has only just begun
        return "another pass"
    return f"the pass that began at {running.began:%Y-%m-%d %H:%M:%S} (process {running.pid})"


def say(text: str) -> None:
    """Say something where cron, systemd and containers look."""
    print(text, file=sys.stderr, flush=True)


def superfluous(logs: Sequence[str], keep: int) -> list[str]:
    """The logs that go: all but the newest `keep`, whose names are their times."""
    return sorted(logs)[: max(len(logs) - keep, 0)]


def zone_of(name: str | None) -> tzinfo:
    """The time zone of a name, or the machine's: that of `datetime.astimezone` is wrong once the clocks change."""
    return ZoneInfo(name) if name else get_localzone()


def foreground(one: Pass, cron: Cron, zone: tzinfo) -> int:
    """Run passes at their times until SIGTERM or Ctrl-C, which a pass that runs is stopped by too.

    Returns:
        Exit code: 0, 1 if the last pass had failed, 130 if one was stopped.
    """
    code, ended = 0, Event()
    running: Thread | None = None

    def work() -> None:
        nonlocal code
        own = 1
        try:
            own = one.run()
        except PipelineError as error:
            say(f"Failed: {error}")
        finally:
            if own not in (LOCKED, STOPPED) or one.stopped:
                code = own
            ended.set()
        if own == 0:
            say(f"{one.name}: the pass is done. Next: {cron.next(datetime.now(zone)):%Y-%m-%d %H:%M %Z}")

    def stop(number: int, frame: object) -> None:
        first = not one.stopped
        one.stop()
        if first:
            raise KeyboardInterrupt  # which ends a wait; an Event that a signal sets may wait for its own lock

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        seen = datetime.now(UTC)  # in UTC, which has no hour twice
        due = one.folder.due(cron, zone)
        next_time = f"next {cron.next(seen.astimezone(zone)):%Y-%m-%d %H:%M %Z}"
        say(f"{one.name}: {cron}, {'one was missed, so now' if due else next_time}")
        while True:
            if due and running is None:
                due, running = False, Thread(target=work)
                running.start()
            now = datetime.now(UTC)
            ahead = cron.next(max(now, seen).astimezone(zone)) - now
            if ended.wait(min(ahead.total_seconds(), _PIECE_S)) and running is not None:
                running.join()
                running = None
                ended.clear()
            now = datetime.now(UTC)
            if cron.due(seen, now.astimezone(zone)):
                due = True  # once, however many have come
                if running is not None:
                    say(f"{one.name}: due, but the last pass still runs; it is caught up once afterwards.")
            # A clock that is set back by an hour at most brings no time again; by more, it was wrong before.
            seen = max(now, min(seen, now + _SET_BACK))
    except KeyboardInterrupt:
        if running is not None and running.is_alive():
            running.join()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code == STOPPED else min(code, 1)

"""A sweep in MLflow: runs nested sweep > job > trial, written from the sweep's events by a thread of its own.

Training never waits for the store. What is handed over lies on disk until it is recorded (`spool`), so that a store
that is away for a while, or a process that is killed meanwhile, loses nothing. A recorder for a sweep that is there
already goes on with its runs; events that it has seen before add nothing.
"""

import io
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, final

from mlflow.exceptions import MlflowException

from pipeline.core.engine.events import SweepEvent, TrialPaused
from pipeline.errors import TrackingError
from pipeline.tracking.outage import delay_s, outlast, reason
from pipeline.tracking.run import RunStatus, json_bytes, table_bytes
from pipeline.tracking.spool import Described, Filed, Measured, Record, Spool, Told
from pipeline.tracking.store import Store
from pipeline.tracking.tree import RunTree, SweepFacts, batch_size

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SweepFacts", "SweepRecorder"]

SPOOL = "spool"
"""Folder of what waits to be recorded, inside the sweep's own."""
_MOST_TOGETHER = 100
"""Records that are looked at to be sent together."""
_GRACE_S = 3.0
"""Given to the store where an error has ended the sweep, and to the thread to notice that nobody waits for it."""
_REFUSED = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")
"""What MLflow says of a request whose contents it does not take, now or later."""
_log = logging.getLogger(__name__)


@final
class SweepRecorder:
    """Sink of a sweep's events that records them in MLflow.

    Used as a context manager: whatever ends the sweep, no run is left running, unless the store is away. Figures,
    tables and other artifacts are handed over by the command, for a job (by name) or for the sweep (None).
    """

    def __init__(
        self, store: Store, facts: SweepFacts, folder: Path, *, tell: Callable[[str], None] | None = None
    ) -> None:
        """Start the thread, which makes or finds the runs and records what an earlier process left.

        Args:
            store: Where to.
            facts: About the sweep.
            folder: The sweep's own; what is not recorded yet lies in its folder `spool`.
            tell: Shows the user a line, from any thread: the store is away, or back. It is logged in any case.

        Raises:
            TrackingError: Nothing can be written to `folder`.
        """
        self._uri = store.uri
        self._id = facts.id
        self._patience_s = store.config.patience_s
        self._show = tell
        self._tree = RunTree(store, facts)
        try:
            self._spool = Spool(folder / SPOOL)
        except OSError as error:
            raise TrackingError(f"Nothing can be kept in {folder / SPOOL}: {error}") from error
        self._changed = threading.Condition()
        # All of these are changed while `_changed` is held.
        self._is_open = False
        self._ending: RunStatus | None = None
        self._is_abandoned = False
        self._away: tuple[float, Exception] | None = None
        self._was_away = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()

    def __call__(self, event: SweepEvent, at_ms: int | None = None) -> None:
        """Record an event of now, or of another moment (milliseconds since 1970)."""
        if not isinstance(event, TrialPaused):  # of which nothing is recorded
            self._put(Told(event=event, at_ms=int(time.time() * 1000) if at_ms is None else at_ms))

    def figure(self, job: str | None, path: str, draw: "Callable[[], Figure]") -> None:
        """Draw a figure and keep it, if it can be drawn; the ending of `path` says the format."""
        drawn = io.BytesIO()
        with self.aside(f"{path} of {job or 'all jobs'}"):
            draw().savefig(drawn, format=path.rpartition(".")[2])
            self._put(Filed(job=job, path=path, data=drawn.getvalue()))

    @contextmanager
    def aside(self, what: str) -> Iterator[None]:
        """Make what only shows that which is recorded without it: if that fails, it is told, and no more.

        Raises:
            TrackingError: As always; nothing at all can be recorded.
        """
        try:
            yield
        except TrackingError:
            raise
        except Exception as error:
            self._tell(f"{what}: could not be made ({reason(error)}). All else is recorded.")

    def table(self, job: str | None, path: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep rows as a table that the MLflow UI shows; `path` ends in .json."""
        self._put(Filed(job=job, path=path, data=table_bytes(rows), is_table=True))

    def json(self, job: str | None, path: str, value: Any) -> None:
        """Keep plain data."""
        self._put(Filed(job=job, path=path, data=json_bytes(value)))

    def text(self, job: str | None, path: str, text: str) -> None:
        """Keep a text."""
        self._put(Filed(job=job, path=path, data=text.encode()))

    def measure(self, job: str | None, metrics: Mapping[str, float], tags: Mapping[str, str] | None = None) -> None:
        """Log metrics and tags that are known once."""
        self._put(Measured(job=job, metrics=dict(metrics), tags=dict(tags or {}), at_ms=int(time.time() * 1000)))

    def describe(self, job: str | None, markdown: str) -> None:
        """Set the description that the MLflow UI shows above a run."""
        self._put(Described(job=job, markdown=markdown))

    def run_id(self, job: str | None) -> str:
        """Wait until the run is there and return its id."""
        self.flush()
        return self._tree.owner(job).id

    def flush(self) -> None:
        """Wait until everything is recorded; while the store is away, for `tracking.patience_s`.

        Raises:
            TrackingError: The store refused something, or stayed away. What is not recorded stays on disk.
        """
        self._wait(lambda: self._is_open and not self._spool, self._patience_s)

    def close(self, status: RunStatus = "FINISHED", *, patience_s: float | None = None) -> None:
        """Record what is waiting, end every run that is still running, and stop the thread.

        Args:
            status: Of runs that were cut short: FINISHED makes a job without a tested winner FAILED.
            patience_s: How long to wait while the store is away. None: `tracking.patience_s`.

        Raises:
            TrackingError: The store refused something, or stayed away. What is not recorded stays on disk.
        """
        with self._changed:
            self._ending = status
            self._changed.notify_all()
        try:
            self._wait(lambda: not self._thread.is_alive(), self._patience_s if patience_s is None else patience_s)
        finally:
            with self._changed:
                self._is_abandoned = True
                self._changed.notify_all()
            self._thread.join(_GRACE_S)
            self._spool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
            return
        try:
            self.close("KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED", patience_s=_GRACE_S)
        except TrackingError as second:
            _log.error("%s", second)  # the error that ended the sweep matters more
            if self._show is not None and not isinstance(error, TrackingError):
                self._show(str(second))

    def _put(self, record: Record) -> None:
        self._raise()
        try:
            self._spool.put(record)
        except OSError as error:
            raise TrackingError(f"Nothing can be kept in {self._spool.folder}: {error}") from error
        with self._changed:
            self._changed.notify_all()

    def _raise(self) -> None:
        if self._error is not None:
            raise TrackingError(f"Recording in {self._uri} stopped: {self._error}") from self._error

    def _wait(self, is_done: Callable[[], bool], patience_s: float) -> None:
        """Wait until something holds that the thread brings about; patience counts while the store is away."""
        begun, told = time.monotonic(), False
        with self._changed:
            while not is_done():
                self._raise()
                left_s = 1.0
                if self._away is not None:
                    since, error = self._away
                    left_s = max(since, begun) + patience_s - time.monotonic()
                    if left_s <= 0:
                        raise TrackingError(
                            f"The tracking store {self._uri} does not answer ({reason(error)}). "
                            f"{self._waiting()}. RESUME={self._id} records what is missing."
                        )
                    if not told:
                        waiting = f"Waiting up to {patience_s:g} s for the tracking store {self._uri}"
                        self._tell(f"{waiting}. {self._waiting()}.")
                    told = True
                # The end of a thread notifies nobody.
                self._changed.wait(min(left_s, 0.1 if self._ending else 1.0))
        self._raise()

    def _waiting(self) -> str:
        count = len(self._spool)
        if not count:
            return "All is recorded but how the runs ended"
        return f"{count} {'record waits' if count == 1 else 'records wait'} in {self._spool.folder}"

    def _tell(self, text: str) -> None:
        _log.warning("%s", text)
        if self._show is not None:
            self._show(text)

    def _work(self) -> None:
        """The thread."""
        try:
            self._persist(self._tree.open)
            with self._changed:
                self._is_open = True
                self._changed.notify_all()
            while records := self._next():
                try:
                    self._persist(partial(self._tree.write, records))
                except MlflowException as error:
                    if not _is_note(records) or error.error_code not in _REFUSED:
                        raise
                    self._tell(
                        f"The tracking store {self._uri} refuses a note ({reason(error)}); all else is recorded."
                    )
                with self._changed:
                    self._spool.drop(len(records))
                    self._changed.notify_all()
            if self._was_away:
                self._persist(self._tree.find)  # a request may have been taken up long after it was sent
            self._persist(partial(self._tree.close, self._ending or "FINISHED"))
        except _Abandoned:
            pass
        except Exception as error:  # raised in the main thread at its next call
            self._fail(error)

    def _next(self) -> list[Record]:
        """Wait for the records to write next; none are left when the sweep has ended."""
        while True:
            with self._changed:
                while not self._spool:
                    if self._ending is not None:
                        return []
                    self._changed.wait()
                if self._is_abandoned:
                    raise _Abandoned
            if records := self._spool.first(_MOST_TOGETHER):
                return records[: batch_size(records)]

    def _persist(self, step: Callable[[], None]) -> None:
        """Take a step, again and again while the store is away."""
        attempts = 0

        def pause(error: Exception, attempt: int) -> None:
            nonlocal attempts
            attempts = attempt
            with self._changed:
                self._was_away = True
                if self._away is None:
                    self._away = (time.monotonic(), error)
                    self._changed.notify_all()
            if attempt == 2:  # once is nothing: a connection that was idle for too long
                self._tell(
                    f"The tracking store {self._uri} does not answer ({reason(error)}). "
                    f"Training goes on; what is not recorded is kept in {self._spool.folder} until it does."
                )
            with self._changed:
                self._changed.wait_for(lambda: self._is_abandoned, delay_s(attempt))
                if self._is_abandoned:
                    raise _Abandoned from error

        def again() -> None:
            if attempts:
                self._tree.find()  # the store may have done what it could not reply to
            step()

        outlast(again, pause)
        with self._changed:
            away, self._away = self._away, None
            self._changed.notify_all()
        if away is not None and attempts > 1:
            self._tell(f"The tracking store {self._uri} answers again, after {time.monotonic() - away[0]:.0f} s.")

    def _fail(self, error: Exception) -> None:
        try:
            self._tree.close("FAILED")  # no run may stay running
        except Exception as second:
            _log.warning("The runs could not be ended: %s", second)
        with self._changed:
            self._error = error
            self._changed.notify_all()


def _is_note(records: Sequence[Record]) -> bool:
    """Whether nothing else depends on the records: a description, or a file that only people look at."""
    return all(isinstance(one, Described) or (isinstance(one, Filed) and not one.is_table) for one in records)


class _Abandoned(Exception):
    """Nobody waits for the store any more."""

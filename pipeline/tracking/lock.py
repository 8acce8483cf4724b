"""One at a time per registered name: MLflow moves one alias at a time and has no compare-and-set.

Beside a SQLite store it is a file lock, which the system takes back from a process that dies. Over HTTP it is a lease:
a tag on the registered model with the holder and the end of its time. The server cannot set a tag only if it is not
there. So a holder writes its claim, waits, and looks whether it is still its own: of two that write at the same time
the later one has it. Both hold it only if a request of the one is under way for longer than `_SETTLE_S`, or if their
clocks differ by most of `_LEASE_S`. Then there is still the look at the champion before each move (`promotion`), which
lets the second of two pass only if it comes within the milliseconds between look and move. Where that is too much,
let one process at a time promote: Kubernetes' `concurrencyPolicy: Forbid`, which `make schedule` writes.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator

from filelock import FileLock, Timeout
from mlflow.exceptions import MlflowException

from pipeline.errors import TrackingError
from pipeline.tracking.store import Store

_LEASE = "lease"
_LEASE_S = 60.0
"""Longer than moving aliases takes; what a holder that was killed leaves is in the way for so long."""
_SETTLE_S = 1.0
_POLL_S = 0.5


@contextlib.contextmanager
def exclusive(store: Store, name: str) -> Iterator[None]:
    """Hold the lock of a registered name; a TrackingError if another holds it for longer than `tracking.patience_s`."""
    patience_s = max(store.config.patience_s, _LEASE_S + 2 * _SETTLE_S)
    if store.is_local:
        file = store.uri.removeprefix("sqlite:///") + f".{name}.lock"
        try:
            with FileLock(file, timeout=patience_s):
                yield
        except Timeout as error:
            raise TrackingError(
                f"Another process holds {file} for {patience_s:g} s. Stop it, and try again."
            ) from error
        return
    # The same when it is tried again after an outage.
    mine = f"{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}"
    _take(store, name, mine, time.monotonic() + patience_s)
    try:
        yield
    finally:
        with contextlib.suppress(MlflowException):  # else its time runs out
            if _holder(store, name) == mine:
                store.client.delete_registered_model_tag(name, _LEASE)


def _take(store: Store, name: str, mine: str, deadline: float) -> None:
    while True:
        holder = _holder(store, name)
        if holder in (None, mine):
            with contextlib.suppress(MlflowException):  # of two claims at once the server may refuse one
                store.client.set_registered_model_tag(name, _LEASE, f"{mine} {time.time() + _LEASE_S:.0f}")
            time.sleep(_SETTLE_S)
            if _holder(store, name) == mine:
                return
        if time.monotonic() > deadline:
            who = "Nobody is let to hold" if holder in (None, mine) else f"{holder} holds"
            raise TrackingError(f"{who} the lease of {name}. Stop it, or delete the model's tag `{_LEASE}`.")
        time.sleep(_POLL_S)


def _holder(store: Store, name: str) -> str | None:
    """Who holds the lease, if its time is not over."""
    text = store.client.get_registered_model(name).tags.get(_LEASE, "")
    holder, _, until = text.partition(" ")
    return holder if holder and float(until) > time.time() else None

"""One holder at a time: a file lock beside SQLite, a lease on a real server."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from pipeline.config import TrackingConfig
from pipeline.errors import TrackingError
from pipeline.tracking.lock import exclusive
from pipeline.tracking.store import Store, open_store
from tests.processes import forked
from tests.unit.tracking.server import Server, without_models

NAME = "sentiment"
SETTLE_S = 0.3


@pytest.fixture(scope="module")
def server(mlflow_server: Server) -> str:
    """Address of an MLflow server without models."""
    return without_models(mlflow_server).uri


@pytest.fixture
def remote(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The server's store with the name in it, and a lock that takes less time."""
    monkeypatch.setattr("pipeline.tracking.lock._SETTLE_S", SETTLE_S)
    monkeypatch.setattr("pipeline.tracking.lock._POLL_S", 0.05)
    store = open_store(TrackingConfig(uri=server))
    store.client.create_registered_model(NAME)
    yield store
    store.client.delete_registered_model(NAME)


def impatient(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Nobody waits for a lease that lasts a minute."""
    monkeypatch.setattr("pipeline.tracking.lock._LEASE_S", 0.0)
    return replace(store, config=replace(store.config, patience_s=0.2))


def in_turn(store: Store, others: Store) -> list[str]:
    """What two holders do, of which the second comes while the first holds the lock."""
    told: list[str] = []
    taken = threading.Event()

    def second() -> None:
        taken.wait(30)
        told.append("asks")
        with exclusive(others, NAME):
            told.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with exclusive(store, NAME):
        taken.set()
        time.sleep(1.0)
        told.append("first")
    thread.join(30)
    return told


def hold(uri: str, holds: Event) -> None:
    """Hold the lock in a process of its own until it is killed."""
    with exclusive(open_store(TrackingConfig(uri=uri)), NAME):
        holds.set()
        time.sleep(600)


def held_by_a_process_that_is_killed(uri: str) -> None:
    processes = forked()
    holds = processes.Event()
    process = processes.Process(target=hold, args=(uri, holds))
    process.start()
    assert holds.wait(90)
    process.kill()
    process.join(30)


def lease(store: Store) -> str | None:
    found: str | None = store.client.get_registered_model(NAME).tags.get("lease")
    return found


def test_second_holder_of_a_file_waits_for_the_first(store: Store) -> None:
    assert in_turn(store, store) == ["asks", "first", "second"]


def test_other_names_do_not_wait(store: Store) -> None:
    with exclusive(store, NAME), exclusive(store, "topic"):
        pass


@pytest.mark.faults
def test_file_lock_of_a_process_that_was_killed_is_free_at_once(store: Store) -> None:
    held_by_a_process_that_is_killed(store.uri)
    begun = time.monotonic()
    with exclusive(store, NAME):
        assert time.monotonic() - begun < 1


def test_file_that_is_held_for_too_long_is_named(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("pipeline.tracking.lock._SETTLE_S", 0.0)
    waiting = impatient(store, monkeypatch)
    with exclusive(store, NAME), pytest.raises(TrackingError, match=rf"{tmp_path}/mlflow.db.sentiment.lock for 0.2 s"):
        ExitStack().enter_context(exclusive(waiting, NAME))


def test_lock_is_given_back_after_an_error(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), exclusive(store, NAME):
        raise ZeroDivisionError
    begun = time.monotonic()
    with exclusive(store, NAME):
        assert time.monotonic() - begun < 1


@pytest.mark.server
def test_second_holder_of_a_lease_waits_for_the_first_and_none_is_left(remote: Store, server: str) -> None:
    other = open_store(TrackingConfig(uri=server))
    assert in_turn(remote, other) == ["asks", "first", "second"]
    assert lease(remote) is None


@pytest.mark.server
def test_lease_is_given_back_after_an_error(remote: Store) -> None:
    with pytest.raises(ZeroDivisionError), exclusive(remote, NAME):
        assert lease(remote) is not None
        raise ZeroDivisionError
    assert lease(remote) is None


@pytest.mark.faults
@pytest.mark.server
def test_lease_of_a_process_that_was_killed_runs_out(
    remote: Store, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_by_a_process_that_is_killed(server)
    left = lease(remote)
    assert left is not None
    assert 50 < float(left.partition(" ")[2]) - time.time() < 61
    # As if it had been taken for 3 s.
    until = time.time() + 3
    remote.client.set_registered_model_tag(NAME, "lease", f"{left.partition(' ')[0]} {until:.3f}")
    with exclusive(remote, NAME):
        assert until < time.time() < until + 3
        assert str(lease(remote)).partition(" ")[0] != left.partition(" ")[0]


@pytest.mark.server
def test_holder_of_a_lease_that_lasts_too_long_is_named(remote: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with exclusive(remote, NAME):
        holder = str(lease(remote)).partition(" ")[0]
        monkeypatch.setattr("pipeline.tracking.lock._SETTLE_S", 0.0)
        other = exclusive(impatient(remote, monkeypatch), NAME)
        with (
            ThreadPoolExecutor(1) as pool,
            pytest.raises(TrackingError, match=f"{holder} holds the lease of sentiment.*delete.*tag `lease`"),
        ):
            pool.submit(other.__enter__).result()


@pytest.mark.server
def test_lease_that_somebody_else_has_taken_over_is_left_alone(remote: Store) -> None:
    theirs = f"somebody-else {time.time() + 60:.0f}"
    with exclusive(remote, NAME):
        remote.client.set_registered_model_tag(NAME, "lease", theirs)
    assert lease(remote) == theirs


@pytest.mark.server
def test_of_many_that_claim_a_lease_at_once_one_has_it(remote: Store, server: str) -> None:
    """All see that nobody holds it before any of them writes."""
    inside, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(4)
    held: list[int] = []

    def claim(number: int) -> None:
        nonlocal inside, most
        store = open_store(TrackingConfig(uri=server))
        together.wait(30)
        with exclusive(store, NAME):
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.2)
            held.append(number)
            with lock:
                inside -= 1

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (most, sorted(held)) == (1, [0, 1, 2, 3])

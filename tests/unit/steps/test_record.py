"""The recorder of a sweep, which is opened while the first trials run."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.errors import ConfigError, TrackingError, fault
from pipeline.steps import record


class Recorder:
    """Remembers what it is told, and how it was left."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, int]] = []
        self.left: list[Any] = []

    def __call__(self, event: Any, at_ms: int) -> None:
        self.told.append((event, at_ms))

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.left.append(kind)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    made = Recorder()
    monkeypatch.setattr(record, "open_store", lambda tracking: tracking)
    monkeypatch.setattr(record, "open_recorder", lambda *_: made)
    monkeypatch.setattr("pipeline.tracking.registry.check_owners", lambda *_: None)
    return made


def opened_with(tracking: Any) -> Any:
    parts: list[Any] = [SimpleNamespace(tracking=tracking), SimpleNamespace(jobs=[]), None, None]
    return record.recording(*parts)


def test_events_that_are_told_before_it_is_open_are_recorded_in_their_order(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    monkeypatch.setattr(record, "open_store", lambda tracking: (gate.wait(10), tracking)[1])
    clock = SimpleNamespace(time=iter([1.0, 2.0, 3.0]).__next__)
    monkeypatch.setattr("pipeline.steps.record.time", clock)
    events: list[Any] = ["first", "second", "third"]
    with opened_with("store") as sink:
        sink(events[0])
        sink(events[1])
        assert recorder.told == []
        gate.set()
        assert sink.opened() == ("store", recorder)
        assert recorder.told == [("first", 1000), ("second", 2000)]
        sink(events[2])
    assert recorder.told[2:] == [("third", 3000)]
    assert recorder.left == [None]


@pytest.mark.parametrize(
    "error", [TrackingError("away"), ConfigError(fault("TASKS", "a", "is another's", "Rename it"))]
)
def test_a_store_that_cannot_be_used_ends_the_sweep_at_the_next_event(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr("pipeline.tracking.registry.check_owners", fail)
    with pytest.raises(type(error)) as raised, opened_with("store") as sink:
        while True:
            sink("event")
    assert raised.value is error
    assert recorder.left == []


def test_what_ends_the_sweep_ends_its_runs(recorder: Recorder) -> None:
    with pytest.raises(KeyboardInterrupt), opened_with("store"):
        raise KeyboardInterrupt
    assert recorder.left == [KeyboardInterrupt]

"""What an actor is told by its group of workers: answers in order, and what was raised."""

import queue
import threading
from typing import Any

import pytest
from ray import cloudpickle

from pipeline.cluster.parallel import WorkerGroup, _Raised
from pipeline.errors import SweepError, TrainingDiverged


def group(*answers: object, error: BaseException | None = None) -> Any:
    """A group whose workers have ended, after these answers."""
    made: Any = object.__new__(WorkerGroup)
    made._orders, made._answers = (queue.Queue(), queue.Queue()), queue.Queue()
    made._raised, made._error, made._thread = {}, error, threading.Thread()
    for answer in answers:
        made._answers.put(cloudpickle.dumps(answer))
    made._answers.get = lambda timeout: _get(made, timeout)
    return made


def _get(made: Any, timeout: float) -> object:
    from ray.util.queue import Empty

    try:
        return queue.Queue.get(made._answers, timeout=0.01)
    except queue.Empty:
        raise Empty from None


@pytest.mark.parametrize("error", [SweepError("The shared checkpoint was changed."), TrainingDiverged("nan")])
def test_what_all_workers_raise_alike_is_raised(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)):
        group(error).ask("epoch")


def test_an_order_goes_to_every_worker_and_the_first_one_answers() -> None:
    asked = group("scored")
    assert asked.ask("test", 1, "bundle") == "scored"
    assert [cloudpickle.loads(one.get(timeout=1)) for one in asked._orders] == [("test", (1, "bundle"))] * 2


def test_what_one_worker_raises_is_raised_when_it_was_that_which_ended_the_group() -> None:
    ended = RuntimeError("workers failed")
    ended.worker_failures = {1: "of a private class"}  # type: ignore[attr-defined]
    raised = ValueError("in a worker")
    with pytest.raises(ValueError, match="in a worker"):
        group(_Raised(1, raised), error=ended).ask("epoch")


def test_what_the_others_raise_when_a_worker_has_died_is_not_blamed() -> None:
    ended = RuntimeError("a worker has died")
    ended.worker_failures = {0: "killed"}  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="a worker has died"):
        group(_Raised(1, ValueError("connection closed")), error=ended).ask("epoch")
    with pytest.raises(RuntimeError, match="ended by themselves"):
        group().ask("epoch")

from typing import Any

import pytest

from pipeline.core.engine.events import TrialStarted
from pipeline.reports.spent import TESTS, TRAINING, Spent


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def spent(clock: Clock) -> Spent:
    """A sweep whose search begins after 10 s."""
    spent, clock.now = Spent(0.0, clock), 4.0
    spent.begin("preparing")
    clock.now = 10.0
    spent.begin("search")
    return spent


def test_every_second_is_told_once(spent: Spent, clock: Clock, teller: Any) -> None:
    """Two trials side by side, whose epochs take 4 s each, and the test of the better one."""
    for at, event in (
        (12.0, TrialStarted(trial=teller.trial(0))),
        (13.0, TrialStarted(trial=teller.trial(1))),
        (18.0, teller.epoch(1, 0.7, 0)),  # of the seconds 14 to 18
        (19.5, teller.epoch(1, 0.6, 1)),  # 15.5 to 19.5
        (24.5, teller.epoch(2, 0.8, 0)),  # 20.5 to 24.5
        (25.0, teller.end(0)),
        (28.0, teller.tested()),
    ):
        clock.now = at
        spent(event)
    clock.now = 30.0
    spent.begin("registering")
    clock.now = 33.0
    assert spent.seconds() == {
        TRAINING: 9.5,
        TESTS: 3.0,
        "until the first step": 4.0,
        "after the last test": 2.0,
        "start": 4.0,
        "preparing": 6.0,
        "search": 1.5,
        "registering": 3.0,
    }
    assert spent.line() == (
        "Took 33.0 s: 9.5 s of training and validation, 3.0 s of tests; else 20.5 s: until the first step 4.0 s, "
        "after the last test 2.0 s, start 4.0 s, preparing 6.0 s, search 1.5 s, registering 3.0 s."
    )
    assert spent.metrics() == {"outside_s": 20.5} | {
        f"spent_s.{name.replace(' ', '_')}": seconds for name, seconds in spent.seconds().items()
    }


def test_an_epoch_of_an_earlier_process_took_no_time_now(spent: Spent, clock: Clock, teller: Any) -> None:
    clock.now = 12.0
    spent(TrialStarted(trial=teller.trial(0)))
    clock.now = 12.5
    spent(teller.epoch(1, 0.7))  # which says that it took 4 s
    clock.now = 17.5
    spent(teller.epoch(2, 0.8))
    assert spent.seconds()[TRAINING] == 4.5


def test_a_sweep_without_any_training_is_told_too(spent: Spent, clock: Clock) -> None:
    clock.now = 11.0
    assert spent.line() == (
        "Took 11.0 s: 0.0 s of training and validation, 0.0 s of tests; else 11.0 s: start 4.0 s, preparing 6.0 s, "
        "search 1.0 s."
    )


def test_the_shares_of_a_pack_that_are_told_at_once_add_up(spent: Spent, clock: Clock, teller: Any) -> None:
    """Two trials that were trained together for 8 s, each of which says 4 s."""
    clock.now = 11.0
    for number in (0, 1):
        spent(TrialStarted(trial=teller.trial(number)))
    clock.now = 19.5
    for number in (0, 1):
        spent(teller.epoch(1, 0.7, number))
        clock.now += 0.01
    assert spent.seconds()[TRAINING] == pytest.approx(8.0, abs=0.05)

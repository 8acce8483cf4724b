from typing import Any

from pipeline.core.engine.events import TrialPaused, TrialStarted


def test_trial_goes_from_running_over_paused_to_its_end(teller: Any) -> None:
    teller.tell(TrialStarted(trial=teller.trial()))
    [result] = teller.results.of(teller.job)
    assert (result.status, result.is_over) == ("running", False)
    teller.tell(TrialPaused(trial=teller.trial()))
    assert (result.status, result.is_over) == ("paused", False)
    teller.end(status="pruned", reason="pruned at epoch 1: 2nd of 2")
    assert (result.status, result.reason, result.is_over) == ("pruned", "pruned at epoch 1: 2nd of 2", True)


def test_trials_come_in_their_order(teller: Any) -> None:
    teller.epoch(1, 0.7, 2)
    teller.epoch(1, 0.6, 0)
    assert [result.trial.index for result in teller.results.of(teller.job)] == [0, 2]


def test_best_is_that_of_the_best_epoch(teller: Any) -> None:
    teller.epoch(1, 0.7)
    teller.epoch(2, 0.6, best=False)
    teller.epoch(1, 0.65, 1)
    [result, _] = teller.results.of(teller.job)
    assert (result.best_primary, result.best_epoch, result.curve) == (0.7, 1, {1: 0.7, 2: 0.6})
    assert teller.results.best(teller.job) == 0.7


def test_replayed_epoch_costs_nothing(teller: Any) -> None:
    teller.epoch(1, 0.7)
    teller.epoch(1, 0.7)
    teller.epoch(2, 0.8, 1)
    assert teller.results.seconds(teller.job) == 8.0


def test_job_without_reports_has_no_best(teller: Any) -> None:
    teller.fail(0)
    assert teller.results.best(teller.job) is None
    assert teller.results.of("another") == []


def test_winner_is_remembered(teller: Any) -> None:
    tested = teller.tested(1)
    assert teller.results.winners == {teller.job: tested}

import pytest

from pipeline.config import Range, SearchConfig
from pipeline.rules.forecast import Lasting, forecast
from pipeline.rules.search import plan_of
from tests.played import played_job

RATES = {"engine.learning_rate": Range(log_uniform=[1e-4, 1e-3])}
LASTING = {"a": Lasting(epoch_s=10.0, test_s=1.0), "b": Lasting(epoch_s=4.0, test_s=2.0)}


@pytest.mark.parametrize(
    ("scheduler", "trials", "slots", "seconds"),
    [
        ("none", 3, 1, 3 * 4 * 10 + 1),
        ("none", 3, 2, 2 * 4 * 10 + 1),  # the third trial has a slot to itself, and the other stands empty
        ("none", 3, 8, 4 * 10 + 1),
        ("halving", 4, 1, (4 + 2 + 1 * 2) * 10 + 1),  # rungs at epochs 1, 2 and 4
        ("halving", 4, 2, (2 + 1 + 2) * 10 + 1),
        ("asha", 1, 1, 4 * 10 + 1),
    ],
)
def test_slots_that_stand_empty_and_pruned_trials_are_counted(
    scheduler: str, trials: int, slots: int, seconds: float
) -> None:
    search = SearchConfig(scheduler=scheduler, trials=trials, reduction=2, space=RATES)  # type: ignore[arg-type]
    assert forecast([played_job("a")], search, slots, LASTING) == pytest.approx(seconds)


def test_the_jobs_fill_the_slots_together() -> None:
    search = SearchConfig(scheduler="none", trials=1, space=RATES)
    jobs = [played_job("a", epochs=1), played_job("b", epochs=2)]
    assert forecast(jobs, search, 1, LASTING) == pytest.approx(10 + 1 + 8 + 2)
    assert forecast(jobs, search, 2, LASTING) == pytest.approx(11)


def test_one_epoch_is_a_rung_and_the_end() -> None:
    search = SearchConfig(trials=4, space=RATES)
    assert forecast([played_job("a", epochs=1)], search, 2, LASTING) == pytest.approx(2 * 10 + 1)


def test_the_cohorts_of_optuna_come_one_after_another() -> None:
    search = SearchConfig(algorithm="optuna", scheduler="none", trials=4, cohort=2, space=RATES)
    assert forecast([played_job("a", epochs=1)], search, 4, LASTING) == pytest.approx(2 * 10 + 1)


def test_a_time_budget_ends_it() -> None:
    search = SearchConfig(scheduler="none", trials=3, space=RATES, time_budget_s=15)
    assert forecast([played_job("a")], search, 1, LASTING) == pytest.approx(20 + 1)


def test_what_all_trials_of_a_job_need_once_is_paid_by_the_first() -> None:
    search, lasting = (
        SearchConfig(scheduler="none", trials=2, space=RATES),
        {"a": Lasting(epoch_s=10, test_s=1, once_s=7)},
    )
    assert forecast([played_job("a", epochs=1)], search, 1, lasting) == pytest.approx(7 + 2 * 10 + 1)
    assert forecast([played_job("a", epochs=1)], search, 2, lasting) == pytest.approx(7 + 10 + 1)


def test_asha_is_not_counted_as_if_it_pruned_none() -> None:
    jobs, found = [played_job("a", epochs=5)], []
    for scheduler in ("asha", "halving", "none"):
        search = SearchConfig(scheduler=scheduler, trials=8, space=RATES)
        found.append(forecast(jobs, search, 1, LASTING))
    assert found[0] == found[1] < found[2] == 8 * 5 * 10 + 1


def test_trials_of_other_lengths_take_other_times() -> None:
    search = SearchConfig(scheduler="none", trials=2, space={"engine.epochs": Range(choice=[2, 20])})
    assert forecast([played_job("a", epochs=5)], search, 1, LASTING) == pytest.approx(22 * 10 + 1)
    assert plan_of(search, 5).epochs == 22

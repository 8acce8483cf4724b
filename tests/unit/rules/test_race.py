import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from pipeline.core.engine.events import TrialEnded, TrialPaused, TrialReported, TrialStarted
from pipeline.rules.halving import Standing
from pipeline.rules.lanes import select
from pipeline.rules.race import TIME_IS_UP, Place, Race, score_of
from tests.played import evaluated, played_job
from tests.unit.rules.raced import SEARCH, Runner, epoch_of, listed, next_place, report, runner, step, told


def test_halving_trains_the_best_to_the_end_and_prunes_the_rest() -> None:
    outcome = runner(jobs="a").run()
    assert sorted(epochs for epochs, _ in outcome.values()) == [1, 1, 1, 2, 4, 4]
    assert sorted(why for _, why in outcome.values()) == [
        "",
        "",
        "pruned at epoch 1: 4th of 6",
        "pruned at epoch 1: 5th of 6",
        "pruned at epoch 1: 6th of 6",
        "pruned at epoch 2: 3rd of 3",
    ]


@pytest.mark.parametrize("algorithm", ["random", "grid", "optuna"])
def test_every_searcher_ends_with_a_test_of_each_job(algorithm: Literal["random", "grid", "optuna"]) -> None:
    search = dataclasses.replace(SEARCH, algorithm=algorithm, trials=5, cohort=2, grid_points=5)
    runs = [runner(search=search, seed=seed) for seed in range(5)]
    outcomes = [run.run() for run in runs]
    assert all(len(outcome) == 10 for outcome in outcomes)
    assert all(outcome == outcomes[0] for outcome in outcomes)
    for run in runs:
        assert sorted(place.job for place in run.tested) == ["a", "b"]
        for place in run.tested:
            scores = {p: params["method.dropout"] for p, params in run.seen.items() if p.job == place.job}
            assert place == max(scores, key=lambda p: scores[p])


def test_each_cohort_is_halved_by_itself() -> None:
    search = dataclasses.replace(SEARCH, algorithm="optuna", trials=4, cohort=2)
    outcome = runner(search=search, jobs="a").run()
    assert sorted(epochs for place, (epochs, _) in outcome.items() if place.index < 2) == [1, 4]
    assert sorted(epochs for place, (epochs, _) in outcome.items() if place.index >= 2) == [1, 4]


def test_slots_stay_filled_while_trials_wait_at_their_rungs() -> None:
    run = runner(jobs="abc", slots=4)
    run.run()
    assert run.most_running == 4


def test_a_failed_trial_is_out_of_the_race_whenever_it_fails() -> None:
    def failing(candidate: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        if candidate["index"] == 2 and epoch == 1:
            return {"failed": "the loss is not a number", "done": True}
        return step(candidate, epoch)

    outcomes = [runner(step=failing, seed=seed).run() for seed in range(5)]
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert outcomes[0][Place("a", 2)] == (0, "")
    assert sum(epochs == 4 for epochs, _ in outcomes[0].values()) == 4


def test_a_job_without_a_score_has_no_test() -> None:
    def failing(candidate: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        return {"failed": "no", "done": True} if candidate["job"] == "b" else step(candidate, epoch)

    run = runner(step=failing)
    run.run()
    assert [place.job for place in run.tested] == ["a"]
    assert run.race.outcome().missing == {
        "a": "the winner of a could not be tested (no test here)",
        "b": "b has no trial with a score (no)",
    }


def test_a_failed_trial_does_not_win_with_its_earlier_epochs() -> None:
    def failing(candidate: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        return {"failed": "no", "done": True} if epoch == 2 else step(candidate, epoch)

    run = runner(step=failing, jobs="a", search=dataclasses.replace(SEARCH, trials=1))
    assert run.run() == {Place("a", 0): (1, "")}
    assert run.tested == []


def test_early_stopping_ends_a_trial_between_rungs() -> None:
    def stopping(candidate: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        if epoch == 4:
            return {"done": True, "score": candidate["params"]["method.dropout"], "reason": "early stopping"}
        return step(candidate, epoch)

    outcome = runner(step=stopping, jobs="a").run()
    assert sorted(epochs for epochs, _ in outcome.values()) == [1, 1, 1, 2, 3, 3]


def test_without_a_scheduler_every_trial_trains_to_its_end() -> None:
    search = dataclasses.replace(SEARCH, scheduler="none", trials=3)
    assert set(runner(search=search).run().values()) == {(4, "")}


def test_asha_judges_each_job_by_itself_and_all_cohorts_of_it_together() -> None:
    def shifted(candidate: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        score = candidate["params"]["method.dropout"] + (10 if candidate["job"] == "a" else 0)
        return epoch_of(epoch, score)

    search = dataclasses.replace(SEARCH, scheduler="asha", trials=8)
    outcome = runner(search=search, step=shifted, slots=1).run()
    for job in "ab":
        ended = [(epochs, why) for place, (epochs, why) in outcome.items() if place.job == job]
        assert any(epochs == 4 for epochs, _ in ended)
        assert any(why == "pruned at epoch 1: behind those before it" for _, why in ended)

    def worse(candidate: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        return epoch_of(epoch, -float(candidate["index"]))

    one_by_one = dataclasses.replace(search, algorithm="optuna", cohort=1, trials=3)
    assert [epochs for epochs, _ in runner(search=one_by_one, step=worse, jobs="a").run().values()] == [4, 1, 1]


def test_asha_does_not_prune_a_trial_where_it_went_on_before_the_sweep_was_resumed() -> None:
    def trained_before(candidate: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        return step(candidate, epoch) | {"went_on": epoch < 2}

    search = dataclasses.replace(SEARCH, scheduler="asha", trials=8)
    outcome = runner(search=search, step=trained_before, jobs="a", slots=1).run()
    assert {epochs for epochs, _ in outcome.values()} == {2, 4}


def test_the_time_budget_ends_running_trials_after_their_epoch_and_waiting_ones_at_once() -> None:
    clock = SimpleNamespace(now=0.0)

    def timed(candidate: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        clock.now += 1
        return step(candidate, epoch)

    race = Race([played_job("a")], dataclasses.replace(SEARCH, time_budget_s=3.5), lambda: clock.now)
    run = Runner(race, step=timed, slots=2, seed=0)
    outcome = run.run()
    assert clock.now == 5  # two were running when the time was up
    assert sorted(outcome.values()) == [(0, TIME_IS_UP)] + [(1, TIME_IS_UP)] * 5
    assert Place("a", 5) not in run.seen
    assert len(run.tested) == 1


def test_the_clock_starts_when_the_first_trial_runs() -> None:
    clock = SimpleNamespace(now=100.0)
    race = Race([played_job("a")], dataclasses.replace(SEARCH, time_budget_s=5), lambda: clock.now)
    place = next_place(race)
    clock.now = 200.0
    assert not race.cut(place)
    race.start(place)
    clock.now = 204.0
    race.start(place)
    assert not race.cut(place)
    clock.now = 205.5
    assert race.cut(place)


def test_jobs_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    race, _ = listed(monkeypatch, "abc", 2)
    assert [next_place(race) for _ in range(6)] == [Place(job, index) for index in (0, 1) for job in "abc"]
    assert race.suggest() is None
    assert not race.finished


def test_the_next_cohort_waits_for_all_scores_of_the_last_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    race, (proposer,) = listed(monkeypatch, "a", 3, 1)
    places = [next_place(race) for _ in range(3)]
    race.end(places[2], epoch_of(4, 0.2))
    report(race, places[0], epoch_of(1, 0.1))
    race.end(places[0], {"score": 0.1, "done": True, "reason": "early stopping"})
    assert race.suggest() is None
    race.lose([places[1]], "its process ended 3 times")
    assert proposer.learnt == []
    assert next_place(race) == Place("a", 3)
    assert proposer.learnt == [[0.1, None, 0.2]]


def test_the_winner_is_tested_once_all_trials_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    race, _ = listed(monkeypatch, "a", 2)
    first, second = next_place(race), next_place(race)
    report(race, second, epoch_of(3, 0.7))
    race.end(second, epoch_of(4, 0.9))
    assert race.suggest() is None
    race.end(first, epoch_of(4, 0.5))
    assert race.suggest() == [{"job": "a", "index": 1, "params": {}, "bundle": Path("bundle-4")}]
    assert race.suggest() is None
    assert not race.finished
    race.lose([second], "its process ended 3 times")
    assert race.suggest() is None
    assert race.finished
    assert race.outcome().missing == {"a": "the winner of a could not be tested (its process ended 3 times)"}


def test_a_search_without_trials_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    race, _ = listed(monkeypatch, "a")
    assert race.suggest() is None
    assert race.finished


def test_events_are_told_once_and_in_order() -> None:
    race = Race([played_job("a")], dataclasses.replace(SEARCH, trials=2), lambda: 0.0)
    place = next_place(race)
    race.start(place)
    assert report(race, place, epoch_of(1, 0.5)) == []
    assert [type(event) for event in told(race)] == [TrialStarted, TrialReported, TrialPaused]
    assert told(race) == []


def test_the_end_sums_up_the_epochs_and_counts_the_last_one_once(monkeypatch: pytest.MonkeyPatch) -> None:
    race, _ = listed(monkeypatch, "a", 1)
    place = next_place(race)
    for epoch, score in enumerate((0.5, 0.7), start=1):
        report(race, place, epoch_of(epoch, score))
    assert race.candidate(place) == {"job": "a", "index": 0, "params": {}, "told": 2, "best": 0.7}
    report(race, place, epoch_of(3, 0.7, best=False))
    race.end(place, epoch_of(3, 0.7, best=False, reason="early stopping"))
    *reports, ended = told(race)
    assert isinstance(ended, TrialEnded)
    assert len(reports) == 3
    assert (ended.status, ended.reason) == ("done", "early stopping")
    assert (ended.epochs, ended.best_epoch, ended.best_primary) == (3, 2, 0.7)
    assert (ended.bundle, ended.train_s) == (Path("bundle-3"), 6.0)


def test_a_trial_that_nothing_is_known_of_begins_at_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    race, _ = listed(monkeypatch, "a", 1)
    assert race.suggest() == [{"job": "a", "index": 0, "params": {}, "told": 0, "best": -math.inf}]


def test_what_stops_one_trial_stops_all(monkeypatch: pytest.MonkeyPatch) -> None:
    race, _ = listed(monkeypatch, "a", 1)
    race.end(next_place(race), {"stop": "Nothing can be written any more", "done": True})
    assert race.stopped == "Nothing can be written any more"
    assert told(race) == []


def test_the_best_score_wins_then_the_lower_loss_then_the_lower_number() -> None:
    def chosen(*shown: tuple[float | None, float]) -> int | None:
        standings = [Standing(epoch=1, share=0.5, score=score, loss=loss) for score, loss in shown]
        return select(dict(enumerate(standings)))

    assert chosen((None, 0.1), (0.9, 0.5), (0.5, 0.1), (0.9, 0.5)) == 1
    assert chosen((0.9, 0.5), (0.9, 0.4), (0.8, 0.1)) == 1
    assert chosen((-1.0, math.inf)) == 0
    assert chosen((None, 0.1)) is None
    assert chosen() is None


def test_ties_at_the_first_rung_go_to_the_loss_and_so_does_the_race() -> None:
    def still_zero(candidate: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        dropout = candidate["params"]["method.dropout"]
        report = dataclasses.replace(evaluated(epoch, dropout if epoch > 1 else 0.0), loss=1 - dropout), ()
        return epoch_of(epoch, report[0].primary, report=report)

    for seed in range(3):
        run = runner(step=still_zero, jobs="a", seed=seed)
        assert sorted(epochs for epochs, _ in run.run().values()) == [1, 1, 1, 2, 4, 4]
        best = max(run.seen, key=lambda place: run.seen[place]["method.dropout"])
        assert run.tested == [best]


def test_what_is_no_number_is_no_score() -> None:
    assert score_of({"score": 0.5}) == 0.5
    assert score_of({"score": float("nan")}) is None
    assert score_of({"score": float("-inf")}) is None
    assert score_of({"failed": "no", "score": 0.5}) is None
    assert score_of({}) is None

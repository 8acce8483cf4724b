from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.cluster.searcher import Candidates, Place, score_of, select
from pipeline.rules.search import Params


class Listed:
    """Proposes the cohorts that it is given, and keeps what it learns."""

    def __init__(self, *cohorts: list[Params]) -> None:
        self.cohorts = list(cohorts)
        self.learnt: list[list[float | None]] = []

    def propose(self) -> list[Params] | None:
        return self.cohorts.pop(0) if self.cohorts else None

    def learn(self, scores: Sequence[float | None]) -> None:
        self.learnt.append(list(scores))


def next_trial(candidates: Candidates, trial_id: str) -> Mapping[str, Any]:
    suggested = candidates.suggest(trial_id)
    assert isinstance(suggested, dict)
    return suggested


def test_jobs_take_turns() -> None:
    two: list[Params] = [{"x": 0}, {"x": 1}]
    candidates = Candidates({"a": Listed(two), "b": Listed(two), "c": Listed(two)}, over=lambda: False)
    order = [next_trial(candidates, str(i)) for i in range(6)]
    assert [config["job"] for config in order] == ["a", "b", "c", "a", "b", "c"]
    assert [config["index"] for config in order] == [0, 0, 0, 1, 1, 1]
    assert candidates.suggest("6") is None


def test_the_next_cohort_waits_for_all_scores_of_the_last_in_order() -> None:
    proposer = Listed([{"x": 0}, {"x": 1}, {"x": 2}], [{"x": 3}])
    candidates = Candidates({"a": proposer}, over=lambda: False)
    for i in range(3):
        assert next_trial(candidates, str(i))["cohort"] == (0, 3)
    candidates.on_trial_complete("2", {"score": 0.2})
    candidates.on_trial_result("0", {"score": 0.1})
    candidates.on_trial_complete("0")  # pruned while it waited
    assert candidates.suggest("3") is None
    candidates.on_trial_complete("1", error=True)
    assert proposer.learnt == []
    config = next_trial(candidates, "3")
    assert proposer.learnt == [[0.1, None, 0.2]]
    assert (config["index"], config["cohort"], config["params"]) == (3, (3, 4), {"x": 3})


def test_the_winner_is_tested_once_all_trials_have_ended() -> None:
    candidates = Candidates({"a": Listed([{"x": 0}, {"x": 1}])}, over=lambda: False)
    next_trial(candidates, "0")
    next_trial(candidates, "1")
    candidates.on_trial_result("1", {"score": 0.7, "bundle": "early"})
    candidates.on_trial_complete("1", {"score": 0.9, "bundle": "late"})
    assert candidates.suggest("2") is None
    candidates.on_trial_complete("0", {"score": 0.5, "bundle": "other"})
    assert next_trial(candidates, "2") == {"job": "a", "index": 1, "params": {"x": 1}, "bundle": "late"}
    assert candidates.suggest("3") is None
    candidates.on_trial_complete("2", {"tested": ...})
    assert candidates.suggest("3") == "FINISHED"


def test_a_failed_trial_does_not_win_with_its_earlier_epochs() -> None:
    candidates = Candidates({"a": Listed([{"x": 0}])}, over=lambda: False)
    next_trial(candidates, "0")
    candidates.on_trial_result("0", {"score": 0.9, "bundle": "b"})
    candidates.on_trial_complete("0", {"failed": "the loss is not a number"})
    assert candidates.suggest("1") == "FINISHED"


def test_a_search_without_trials_is_finished() -> None:
    assert Candidates({"a": Listed()}, over=lambda: False).suggest("0") == "FINISHED"


def test_when_the_time_is_up_nothing_starts_but_the_test() -> None:
    time = {"up": False}
    candidates = Candidates({"a": Listed([{"x": 0}, {"x": 1}])}, over=lambda: time["up"])
    next_trial(candidates, "0")
    time["up"] = True
    assert candidates.suggest("1") is None
    candidates.on_trial_complete("0", {"score": 0.5, "bundle": "b"})
    assert next_trial(candidates, "1")["bundle"] == "b"
    assert candidates.never_started() == [(Place("a", 1), {"x": 1})]


def test_the_best_score_wins_and_the_lower_trial_among_equals() -> None:
    assert select({3: 0.5, 1: 0.9, 0: None, 2: 0.9}) == 1
    assert select({0: -1.0}) == 0
    assert select({0: None}) is None
    assert select({}) is None


def test_what_is_no_number_is_no_score() -> None:
    assert score_of({"score": 0.5}) == 0.5
    assert score_of({"score": float("nan")}) is None
    assert score_of({"score": float("-inf")}) is None
    assert score_of({"failed": "no", "score": 0.5}) is None
    assert score_of({}) is None

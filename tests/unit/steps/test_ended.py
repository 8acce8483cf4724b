"""A search in two goes: what has ended in the first is not run in the second."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import ClusterConfig, Range, SearchConfig
from pipeline.core.engine.events import JobTested, Sink, SweepEvent, TrialEnded, TrialReported
from pipeline.core.engine.trials import Job, Trial
from pipeline.errors import SweepError
from pipeline.rules.race import TIME_IS_UP, Outcome
from pipeline.steps.ended import search_rest
from pipeline.steps.here import run_on
from tests.played import played_job
from tests.unit.steps.test_here import GRID, Player

JOBS = [played_job("a"), played_job("b/c")]
BUDGET = dataclasses.replace(GRID, scheduler="none", time_budget_s=5.5)
ASHA = SearchConfig(algorithm="grid", scheduler="asha", space={"method.width": Range(choice=[64, 16])})


class Go:
    """One go at the search of both jobs in a folder. An epoch takes a second of a clock that the test has."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, search: SearchConfig = BUDGET) -> None:
        self.folder, self.search = folder, search
        self.now = 0.0
        self.trained: list[str] = []
        self.told: list[SweepEvent] = []
        self.cut_at: type[Any] | None = None
        patch.setattr("pipeline.steps.here.time.monotonic", lambda: self.now)

    def __call__(self) -> Outcome:
        return search_rest(self._run, JOBS, self.folder, self._sink)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.told if isinstance(event, kind)]

    def _run(self, jobs: Sequence[Job], sink: Sink) -> Outcome:
        cluster = ClusterConfig(name="here")
        return run_on(
            lambda: Player(self._before), jobs, search=self.search, cluster=cluster, folder=self.folder, sink=sink
        )

    def _before(self, trial: Trial, epoch: int) -> None:
        self.now += 1
        self.trained.append(trial.key)
        (self.folder / "trials" / trial.key / f"bundle-{epoch}").mkdir(parents=True, exist_ok=True)

    def _sink(self, event: SweepEvent) -> None:
        if self.cut_at is not None and isinstance(event, self.cut_at):
            raise KeyboardInterrupt
        self.told.append(event)


@pytest.mark.parametrize("search", [BUDGET, GRID, ASHA], ids=["time budget", "halving", "asha"])
def test_a_job_with_a_tested_winner_is_told_again_and_not_trained_again(
    search: SearchConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Go(tmp_path, monkeypatch, search)
    first.cut_at = JobTested
    with pytest.raises(KeyboardInterrupt):
        first()  # tested, and cut off before anything could be recorded of it
    assert first.of(JobTested) == []

    second = Go(tmp_path, monkeypatch, search)
    outcome = second()
    tested = [event.trial.key for event in second.of(JobTested)]
    assert {trial.partition("-")[0] for trial in second.trained} == {"b.c"}
    assert [winner.trial.key for winner in outcome.winners] == tested
    assert [winner.trial.job for winner in outcome.winners] == ["a", "b/c"]
    before = [event for event in first.told if isinstance(event, TrialReported | TrialEnded) and event.trial.job == "a"]
    assert [event for event in second.told if event.trial.job == "a"][:-1] == before

    third = Go(tmp_path, monkeypatch, search)
    assert third() == outcome
    assert third.trained == []
    assert third.told == [event for event in second.told if isinstance(event, TrialReported | TrialEnded | JobTested)]


def test_trials_that_time_left_no_room_for_are_told_before_the_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Go(tmp_path, monkeypatch)
    first()
    told = [event for event in first.told if event.trial.job == "a"]
    assert isinstance(told[-1], JobTested)
    ends = [(event.trial.key, event.reason) for event in told if isinstance(event, TrialEnded)]
    assert len(ends) == 4 and ("a-03", TIME_IS_UP) in ends


@pytest.mark.parametrize("what", ["cut off", "no bundle"])
def test_what_cannot_be_gone_on_from_is_searched_again(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = Go(tmp_path, monkeypatch, GRID)
    winner = first().winners[0]
    file = tmp_path / "ended" / "a.jsonl"
    if what == "cut off":
        file.write_text(file.read_text("utf-8")[:-40], "utf-8")
    else:
        winner.bundle.rmdir()
    second = Go(tmp_path, monkeypatch, GRID)
    assert second().winners == [winner, *first.of(JobTested)[1:]]
    assert {trial.partition("-")[0] for trial in second.trained} == {"a"}
    assert ("a.jsonl cannot be read" in caplog.text) == (what == "cut off")


def test_a_folder_that_cannot_be_written_to_ends_the_search_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ended").touch()
    one = Go(tmp_path, monkeypatch, GRID)
    with pytest.raises(SweepError, match=r"Nothing can be written any more \(Not a directory: .*ended"):
        one()
    assert one.of(JobTested) == []

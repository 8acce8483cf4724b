"""What is made of the winners of a sweep."""

import dataclasses
import io
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from pipeline.config import GateConfig
from pipeline.core.data.rows import Row
from pipeline.errors import SweepError
from pipeline.reports.results import SweepResults
from pipeline.reports.tables import LeaderboardRow
from pipeline.rules.halving import TIED
from pipeline.rules.versions import Registered
from pipeline.steps import conclude
from pipeline.tracking.recorder import SweepFacts
from pipeline.tracking.store import Store
from tests.unit.tracking.conftest import a_row, recording


def ending_of(story: Any, facts: SweepFacts, *names: str) -> conclude.Ending:
    """A sweep whose jobs of these names have the same winner."""
    results = SweepResults()
    winners = [SimpleNamespace(**{**fields_of(story.tested()), "job": name}) for name in names]
    prepared: Any = SimpleNamespace(
        job_of=lambda winner: SimpleNamespace(**{**fields_of(story.job), "name": winner.job})
    )
    results(story.epoch(1))
    results(story.end())
    results.trials |= dict.fromkeys(names, results.trials[story.job.name])
    return conclude.Ending(sweep_id=facts.id, prepared=prepared, results=results, winners=winners)  # type: ignore[arg-type]


def fields_of(one: Any) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__dataclass_fields__}


def test_a_winner_that_cannot_be_registered_does_not_keep_the_others_from_it(
    store: Store, facts: SweepFacts, story: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def register(ending: Any, job: Any, *_: Any) -> Registered:
        if job.name == "bad/one":
            raise ValueError("no such name\nand more")
        return Registered(name="good", version=1, alias="champion", reason="the first of its name")

    def fail(*_: Any, **__: Any) -> Any:
        raise ValueError("cannot be drawn")

    monkeypatch.setattr(conclude, "_registered", register)
    monkeypatch.setattr("pipeline.reports.plots.search_figure", fail)
    told: list[str] = []
    with recording(store, facts, told.append) as recorder:
        monkeypatch.setattr(recorder, "_put", lambda record: None)  # of jobs that no run is there for
        rows, failed = conclude.conclude(ending_of(story, facts, "bad/one", "good/one"), GateConfig(), store, recorder)
    assert [row.job for row in rows] == ["good/one"]
    assert failed == {"bad/one": "the winner of bad/one could not be registered (no such name)"}
    assert len([line for line in told if line.startswith("search.png of ")]) == 2


@pytest.mark.parametrize(
    ("tied", "said"),
    [(0, "in a tie"), (1, "1 of its trials was pruned in a tie"), (2, "2 of its trials were pruned in a tie")],
)
def test_a_tie_that_pruned_is_told_and_a_winner_that_is_at_its_baseline(tied: int, said: str, store: Store) -> None:
    trials = [SimpleNamespace(reason=f"pruned at epoch 1: 3rd of 4, {TIED if n < tied else ''}") for n in range(3)]
    winner = SimpleNamespace(trial=SimpleNamespace(job="mood/default"))
    task = SimpleNamespace(example=lambda _: "some text")
    job = SimpleNamespace(task=task, dataset=SimpleNamespace(test=SimpleNamespace(rows=[Row({}, "f:1", "d", "k")])))
    ending: Any = SimpleNamespace(
        sweep_id="one",
        prepared=SimpleNamespace(job_of=lambda _: job),
        results=SimpleNamespace(of=lambda _: trials),
        winners=[winner],
    )
    values: dict[str, Any] = {"job": "mood/default", "method": "houlsby", "width": 8, "layers": "all"}
    values |= {
        "learning_rate": 1e-3,
        "epoch_s": 1,
        "metric": "accuracy",
        "validation": 0.8,
        "test": 0.8,
        "low": 0.7,
        "high": 0.9,
        "baseline": 0.75,
    }
    values |= {"chance": 0.25, "share": 0.01, "bundle_bytes": 1, "seconds": 1, "name": "mood", "version": 1}
    row = LeaderboardRow(**values, alias="champion", reason="first")
    out = io.StringIO()
    conclude.show([row], ending, store, Console(file=out, width=200))
    assert (said in out.getvalue()) == bool(tied)
    assert ("raise search.first_rung" in out.getvalue()) == bool(tied)
    assert "not clearly better than the checkpoint without any training (0.800 against 0.750)" in out.getvalue()


def test_a_score_below_its_baseline_is_told_as_such(store: Store) -> None:
    task = SimpleNamespace(example=lambda _: "some text")
    job = SimpleNamespace(task=task, dataset=SimpleNamespace(test=SimpleNamespace(rows=[Row({}, "f:1", "d", "k")])))
    ending: Any = SimpleNamespace(
        sweep_id="one",
        prepared=SimpleNamespace(job_of=lambda _: job),
        results=SimpleNamespace(of=lambda _: []),
        winners=[SimpleNamespace(trial=SimpleNamespace(job="mood/default"))],
    )
    values: dict[str, Any] = {"job": "mood/default", "method": "houlsby", "width": 8, "layers": "all"}
    values |= {
        "learning_rate": 1e-3,
        "epoch_s": 1,
        "metric": "accuracy",
        "validation": 0.8,
        "test": 0.7,
        "low": 0.6,
        "high": 0.9,
        "baseline": 0.75,
    }
    values |= {"chance": None, "share": 0.01, "bundle_bytes": 1, "seconds": 1, "name": "mood", "version": 1}
    out = io.StringIO()
    row = LeaderboardRow(**values, alias="champion", reason="first")
    conclude.show([row], ending, store, Console(file=out, width=200))
    assert "mood/default: below its baseline (0.700 against 0.750)" in out.getvalue()


@pytest.mark.parametrize(
    ("item", "shown"),
    [
        ("a short text", "a short text"),
        ("word " * 100, "word " * 31 + "word"),
        ({"question": "Who?", "context": "long " * 300}, {"question": "Who?", "context": "long " * 15 + "long"}),
        ({"options": ["a", "o" * 90], "n": 3}, {"options": ["a", "o" * 40], "n": 3}),
    ],
)
def test_what_is_shown_to_be_pasted_is_short(item: Any, shown: Any) -> None:
    assert conclude._short(item) == shown


@pytest.mark.parametrize(("first", "rows"), [(True, 2), (False, 2), (True, 1_000)])
def test_what_a_first_champion_s_few_test_rows_can_show_is_told_and_stands_above_its_run(
    first: bool, rows: int, store: Store, facts: SweepFacts, story: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered = Registered(name="sentiment", version=1, alias="champion", reason="the first", first=first)
    monkeypatch.setattr(conclude, "_registered", lambda *_: registered)
    ending = ending_of(story, facts, story.job.name)
    dataset = story.job.dataset
    tested = dataclasses.replace(dataset.test, rows=tuple(a_row(f"test {i}") for i in range(rows)))
    job = dataclasses.replace(story.job, dataset=dataclasses.replace(dataset, test=tested))
    ending = dataclasses.replace(ending, prepared=SimpleNamespace(job_of=lambda _: job))  # type: ignore[arg-type]
    with recording(store, facts) as recorder:
        recorder(story.tested())
        ((row,), _) = conclude.conclude(ending, GateConfig(), store, recorder)
        run_id = recorder.run_id(job.name)
    note = "2 test rows can show nothing, and are too few for gate.min_rows (100): later passes will promote only "
    note = f"{note}what is shown to be better. Give about 930 test rows" if first and rows == 2 else ""
    assert row.note == note
    assert store.client.get_run(run_id).data.tags.get("mlflow.note.content", "") == note
    out = io.StringIO()
    conclude.show([row], ending, store, Console(file=out, width=300))
    assert (f"sentiment/films: {note}\n" in out.getvalue()) == bool(note)
    assert ("test rows" in out.getvalue()) == bool(note)


def test_a_store_that_is_away_ends_them_all(
    store: Store, facts: SweepFacts, story: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def register(*_: Any) -> Registered:
        raise SweepError("the store is away") from ConnectionError("refused")

    monkeypatch.setattr(conclude, "_registered", register)
    with recording(store, facts) as recorder, pytest.raises(SweepError, match="away"):
        conclude.conclude(ending_of(story, facts, "a/a", "b/b"), GateConfig(), store, recorder)

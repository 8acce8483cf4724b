"""What is made of the winners of a sweep."""

from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.config import GateConfig
from pipeline.errors import SweepError
from pipeline.reports.results import SweepResults
from pipeline.rules.versions import Registered
from pipeline.steps import conclude
from pipeline.tracking.recorder import SweepFacts
from pipeline.tracking.store import Store
from tests.unit.tracking.conftest import recording


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


def test_a_store_that_is_away_ends_them_all(
    store: Store, facts: SweepFacts, story: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def register(*_: Any) -> Registered:
        raise SweepError("the store is away") from ConnectionError("refused")

    monkeypatch.setattr(conclude, "_registered", register)
    with recording(store, facts) as recorder, pytest.raises(SweepError, match="away"):
        conclude.conclude(ending_of(story, facts, "a/a", "b/b"), GateConfig(), store, recorder)

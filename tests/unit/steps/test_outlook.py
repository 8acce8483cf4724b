"""How long a sweep is said to take, by what its epochs were measured to take."""

import dataclasses
from typing import Any

import pytest

from pipeline.config import CompareConfig, SweepConfig
from pipeline.config.overrides import read_config
from pipeline.core.adapters.checkpoint import Resident
from pipeline.core.engine.trials import trial_of
from pipeline.steps import outlook as step
from pipeline.steps.measure import Pace
from pipeline.steps.prepare import Prepared
from tests.tiny import tiny_job


@pytest.fixture
def asked(resident: Resident, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that gives the outlook of a command on a job whose sub-tokens take 1 ms in training."""
    job = tiny_job("mood", resident.checkpoint)
    tokens = {name: sum(one["length"] for one in encoded.examples) for name, encoded in job.encoded.items()}
    monkeypatch.setattr(step, "age_s", lambda: 3.0)
    pace = Pace(train_s=1e-3, eval_s=5e-4, test_s=8e-4, fill_s=2e-3, memory_bytes=100)
    monkeypatch.setattr(step, "measure_together", lambda *_: ([pace], 7.0))

    def ask(*words: str, command: str = "sweep", slots: int = 2) -> tuple[step.Outlook, dict[str, int]]:
        kind = CompareConfig if command == "compare" else SweepConfig
        config = read_config(command, kind, ["tasks=[sentiment]", "engine.epochs=2", *words])
        settings = dataclasses.replace(job.settings, engine=config.engine)
        mine = dataclasses.replace(job, settings=settings)
        parts = {"checkpoint": resident.checkpoint, "tokenizer": resident.tokenizer, "base": resident.base}
        prepared = Prepared(**parts, wanted=(), slots=slots, jobs=[mine])
        return step.outlook(config, prepared, [(mine, trial_of(mine, 0, {}))]), tokens

    return ask


def test_the_search_is_played_with_what_was_measured(asked: Any) -> None:
    found, tokens = asked("search.trials=3", "search.scheduler=none")
    epoch_s = tokens["train"] * 1e-3 + tokens["validation"] * 5e-4
    once_s = (tokens["train"] + tokens["validation"]) * 2e-3  # beside the first, which takes longer, run the other two
    assert found.search_s == pytest.approx(max(2 * 2 * epoch_s, 2 * epoch_s + once_s) + tokens["test"] * 8e-4)
    assert found.costs["mood/d"].seconds == pytest.approx(once_s + 3 * 2 * epoch_s / 2)
    assert found.costs["mood/d"].memory_bytes == 200
    slowness = 7 / step._STARTED_S
    assert found.outside_s == pytest.approx(3 + 7 + slowness * (step._RAY_S + step._STORE_S + step._JOB_S))
    joined, _ = asked("cluster=existing", "cluster.address=auto")
    assert joined.outside_s == pytest.approx(3 + 7 + slowness * (step._STORE_S + step._JOB_S)), "no Ray is started"


def test_what_may_take_less_is_said_to_take_at_most_so_long(asked: Any) -> None:
    assert asked("engine.patience=1")[0].line(2).startswith("At most ")
    assert asked()[0].line(2).startswith("About ")


def test_a_comparison_trains_the_winners_on_more_seeds(asked: Any) -> None:
    once, _ = asked("seeds=1", command="compare", slots=1)
    thrice, tokens = asked("seeds=3", command="compare", slots=1)
    again = 2 * (tokens["train"] * 1e-3 + tokens["validation"] * 5e-4) + tokens["test"] * 8e-4
    assert thrice.search_s - once.search_s == pytest.approx(2 * again)

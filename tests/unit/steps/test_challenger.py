"""How a challenger is trained."""

import dataclasses
from typing import Any, Literal

import pytest

from pipeline.config import (
    ChallengerConfig,
    EngineConfig,
    RetrainConfig,
)
from pipeline.config.overrides import read_config
from pipeline.core.engine.trials import Settings
from pipeline.rules.ladder import Work, attempts
from pipeline.steps.challenger import cold_epochs_of, engine_of, rates, searched_by, space_around
from pipeline.steps.survey import (
    on_attempt,
)
from tests.unit.steps.test_survey import COLD


def test_the_learning_rate_of_warm_starts_is_the_same_in_every_pass() -> None:
    record = COLD
    for _ in range(3):
        rate, learning_rate = rates(record, ChallengerConfig(rate=0.3), grown=False)
        assert rate == 0.3
        assert learning_rate == pytest.approx(0.0006)
        engine = dataclasses.replace(record.engine, learning_rate=learning_rate)
        record = dataclasses.replace(record, engine=engine, rate=rate)
    rate, learning_rate = rates(record, ChallengerConfig(start="cold"), grown=True)
    assert rate == 1
    assert learning_rate == pytest.approx(0.002)


def test_a_new_label_has_a_learning_rate_of_its_own() -> None:
    challenger = ChallengerConfig(rate=0.1, new_label_rate=0.5)
    for grown, expected in ((True, [0.5, 0.001]), (False, [0.1, 0.0002])):
        assert rates(COLD, challenger, grown=grown) == pytest.approx(expected)
    still = dataclasses.replace(challenger, start="still", still_rate=5.0)
    assert rates(COLD, still, grown=True) == pytest.approx([5.0, 0.01])


def test_a_challenger_has_its_champions_own_engine_but_for_what_the_user_sets() -> None:
    own = EngineConfig(batch_size=32, weight_decay=0.1, head_dropout=0.3, schedule="cosine", epochs=7)
    champion = dataclasses.replace(COLD, engine=own)
    plain = read_config("retrain", RetrainConfig, ["tasks=[ner]"])
    assert engine_of(plain, champion) == dataclasses.replace(own, epochs=plain.engine.epochs)
    words = ["tasks=[ner]", "engine.batch_size=16", "engine.epochs=3", "engine.head_dropout=0.1"]  # two are defaults
    said = read_config("retrain", RetrainConfig, words)
    assert engine_of(said, champion) == dataclasses.replace(own, epochs=3, batch_size=16, head_dropout=0.1)


@pytest.mark.parametrize(
    ("champion", "here", "said", "expected"),
    [
        ("bfloat16", "bfloat16", False, "bfloat16"),
        ("bfloat16", "float32", False, "float32"),
        ("float32", "bfloat16", False, "float32"),
        ("float32", "bfloat16", True, "bfloat16"),
        ("auto", "bfloat16", False, "bfloat16"),  # of before
    ],
)
def test_a_challenger_has_its_champions_precision_where_the_nodes_have_it(
    champion: Any, here: Any, said: bool, expected: str
) -> None:
    config = read_config("retrain", RetrainConfig, ["tasks=[ner]", *([f"engine.precision={here}"] if said else [])])
    config = dataclasses.replace(config, engine=dataclasses.replace(config.engine, precision=here))
    record = dataclasses.replace(COLD, engine=dataclasses.replace(COLD.engine, precision=champion))
    assert engine_of(config, record).precision == expected


def test_what_is_searched_around_a_champion_is_checked_before_the_pass_begins() -> None:
    config = read_config("retrain", RetrainConfig, ["tasks=[ner]", "challenger.start=cold", "challenger.trials=3"])
    searched = searched_by(COLD, 3)
    space = space_around(config, Settings(method=COLD.method, engine=COLD.engine), searched, 1)
    assert sorted(space) == ["engine.learning_rate", "method.width"]
    reduced = dataclasses.replace(COLD.method, reduction_factor=16)  # which is a width of its own
    space = space_around(config, Settings(method=reduced, engine=COLD.engine), searched, 1)
    assert sorted(space) == ["engine.learning_rate"]


@pytest.mark.parametrize("start", ["warm", "cold"])
@pytest.mark.parametrize("searched", [{}, {"engine.learning_rate": [1e-3, 3e-3], "method.width": [24.0, 64.0]}])
@pytest.mark.parametrize("end", [0, -1])
def test_no_pass_leaves_what_the_first_search_tried(
    start: str, searched: dict[str, list[float]], end: Literal[0, -1]
) -> None:
    words = ["tasks=[ner]", f"challenger.start={start}", "challenger.trials=3", "challenger.rate=0.3"]
    config = read_config("retrain", RetrainConfig, words)
    record = dataclasses.replace(COLD, searched=searched)
    first = searched_by(record, config.challenger.spread)
    for _ in range(6):  # each of whose winners is at the end of what was tried
        within = searched_by(record, config.challenger.spread)
        assert within == first
        rate, learning_rate = rates(record, config.challenger, grown=False)
        engine = dataclasses.replace(record.engine, learning_rate=learning_rate)
        space = space_around(config, Settings(method=record.method, engine=engine), within, rate)
        around = space["engine.learning_rate"].named
        widths = space["method.width"].named if start == "cold" else [record.method.width]
        engine = dataclasses.replace(engine, learning_rate=around[end])
        method = dataclasses.replace(record.method, width=widths[end])
        record = dataclasses.replace(record, engine=engine, method=method, rate=rate, searched=within)
    assert record.engine.learning_rate / record.rate == pytest.approx(first["engine.learning_rate"][end])
    assert first["method.width"][0] <= record.method.width <= first["method.width"][1]


def test_a_champion_that_does_not_know_its_cold_start_was_one() -> None:
    engine = dataclasses.replace(COLD.engine, epochs=7)
    assert cold_epochs_of(dataclasses.replace(COLD, engine=engine)) == 7
    assert cold_epochs_of(dataclasses.replace(COLD, engine=engine, cold_epochs=5)) == 5


def test_an_attempt_is_trained_for_its_own_epochs_and_keeps_those_of_the_cold_start() -> None:
    config = read_config("retrain", RetrainConfig, ["tasks=[ner]", "engine.batch_size=8", "challenger.budget=9"])
    planned = attempts(config.challenger, Work(old=3000, new=600, epochs=2, cold_epochs=5))
    longer = on_attempt(config, planned[-2])
    assert engine_of(longer, COLD).epochs == 4 and longer.challenger.replay == 1

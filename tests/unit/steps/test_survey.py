"""What a challenger is trained with."""

import dataclasses
import json
from pathlib import Path
from typing import Literal

import pytest

from pipeline.config import (
    ChallengerConfig,
    CheckpointConfig,
    EngineConfig,
    MethodConfig,
    Range,
    RetrainConfig,
    TaskConfig,
)
from pipeline.config.overrides import read_config
from pipeline.core.data.load import load
from pipeline.core.engine.bundle import BundleRecord
from pipeline.core.engine.trials import Settings
from pipeline.errors import ConfigError
from pipeline.steps.survey import data_of, engine_of, rates, searched_by, space_around

COLD = BundleRecord(
    job="mood/default",
    task=TaskConfig(name="mood", kind="classification"),
    labels=["good", "bad"],
    method=MethodConfig(name="houlsby"),
    engine=EngineConfig(learning_rate=0.002),
    checkpoint=CheckpointConfig(name="any", source="path", location="any"),
    checkpoint_sha256="0" * 64,
    seed=0,
    epoch=1,
    validation={},
    data={},
    num_trained=1,
    num_checkpoint=1,
)


def test_the_learning_rate_of_warm_starts_is_the_same_in_every_pass() -> None:
    record = COLD
    for _ in range(3):
        rate, learning_rate = rates(record, ChallengerConfig(rate=0.3), ["bad"])
        assert rate == 0.3
        assert learning_rate == pytest.approx(0.0006)
        engine = dataclasses.replace(record.engine, learning_rate=learning_rate)
        record = dataclasses.replace(record, engine=engine, rate=rate)
    rate, learning_rate = rates(record, ChallengerConfig(start="cold"), ["bad", "new"])
    assert rate == 1
    assert learning_rate == pytest.approx(0.002)


def test_a_champion_keeps_the_cut_that_it_was_made_with(tmp_path: Path) -> None:
    (tmp_path / "mood").mkdir()
    rows = [{"text": f"text {one}", "label": "good", "doc": one % 50} for one in range(300)]
    (tmp_path / "mood" / "train.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows), "utf-8")
    config = read_config("retrain", RetrainConfig, ["tasks=[ner]", f"data.source={tmp_path}"])
    now = dataclasses.replace(COLD.task, group="doc")
    alone, grouped = (load(task, "default", config.data) for task in (COLD.task, now))
    assert alone.fingerprints != grouped.fingerprints
    before = dataclasses.replace(COLD, task=now, cut=1)
    for champion, cut in ((COLD, alone), (before, alone), (dataclasses.replace(before, cut=2), grouped)):
        assert data_of(config, now, "default", champion).fingerprints == cut.fingerprints


def test_a_new_label_has_a_learning_rate_of_its_own() -> None:
    challenger = ChallengerConfig(rate=0.1, new_label_rate=0.5)
    for labels, expected in ((["good", "bad", "mixed"], [0.5, 0.001]), (["good"], [0.1, 0.0002])):
        assert rates(COLD, challenger, labels) == pytest.approx(expected)


def test_a_challenger_has_its_champions_own_engine_but_for_what_the_user_sets() -> None:
    own = EngineConfig(batch_size=32, weight_decay=0.1, head_dropout=0.3, schedule="cosine", epochs=7)
    champion = dataclasses.replace(COLD, engine=own)
    plain = read_config("retrain", RetrainConfig, ["tasks=[ner]"])
    assert engine_of(plain, champion) == dataclasses.replace(own, epochs=plain.engine.epochs)
    words = ["tasks=[ner]", "engine.batch_size=16", "engine.epochs=3", "engine.head_dropout=0.1"]  # two are defaults
    said = read_config("retrain", RetrainConfig, words)
    assert engine_of(said, champion) == dataclasses.replace(own, epochs=3, batch_size=16, head_dropout=0.1)


def test_what_is_searched_around_a_champion_is_checked_before_the_pass_begins() -> None:
    config = read_config("retrain", RetrainConfig, ["tasks=[ner]", "challenger.start=cold", "challenger.trials=3"])
    searched = searched_by(COLD, 3)
    space = space_around(config, Settings(method=COLD.method, engine=COLD.engine), searched, 1)
    assert sorted(space) == ["engine.learning_rate", "method.width"]
    reduced = dataclasses.replace(COLD.method, reduction_factor=16)
    with pytest.raises(ConfigError, match=r"search\.space\.method\.width: has no effect beside"):
        space_around(config, Settings(method=reduced, engine=COLD.engine), searched, 1)


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
        rate, learning_rate = rates(record, config.challenger, record.labels)
        engine = dataclasses.replace(record.engine, learning_rate=learning_rate)
        space = space_around(config, Settings(method=record.method, engine=engine), within, rate)
        around = space["engine.learning_rate"].named
        widths = space["method.width"].named if start == "cold" else [record.method.width]
        engine = dataclasses.replace(engine, learning_rate=around[end])
        method = dataclasses.replace(record.method, width=widths[end])
        record = dataclasses.replace(record, engine=engine, method=method, rate=rate, searched=within)
    assert record.engine.learning_rate / record.rate == pytest.approx(first["engine.learning_rate"][end])
    assert first["method.width"][0] <= record.method.width <= first["method.width"][1]


def test_what_a_search_tries_is_kept_by_its_ends() -> None:
    assert Range(log_uniform=[1e-3, 1e-2]).ends == [1e-3, 1e-2]
    assert Range(choice=[96, 24, 48]).ends == [24.0, 96.0]
    assert [Range(choice=values).ends for values in ([8], ["all", "top-2"], [True, False], [1, "a"])] == [
        [],
        [],
        [],
        [],
    ]

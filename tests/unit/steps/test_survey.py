"""What a challenger is trained with."""

import dataclasses

import pytest

from pipeline.config import ChallengerConfig, CheckpointConfig, EngineConfig, MethodConfig, RetrainConfig, TaskConfig
from pipeline.config.overrides import read_config
from pipeline.core.engine.bundle import BundleRecord
from pipeline.core.engine.trials import Settings
from pipeline.errors import ConfigError
from pipeline.steps.survey import rates, space_around

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


def test_a_new_label_has_a_learning_rate_of_its_own() -> None:
    challenger = ChallengerConfig(rate=0.1, new_label_rate=0.5)
    for labels, expected in ((["good", "bad", "mixed"], [0.5, 0.001]), (["good"], [0.1, 0.0002])):
        assert rates(COLD, challenger, labels) == pytest.approx(expected)


def test_what_is_searched_around_a_champion_is_checked_before_the_pass_begins() -> None:
    config = read_config("retrain", RetrainConfig, ["tasks=[ner]", "challenger.start=cold", "challenger.trials=3"])
    space = space_around(config, Settings(method=COLD.method, engine=COLD.engine))
    assert sorted(space) == ["engine.learning_rate", "method.width"]
    reduced = dataclasses.replace(COLD.method, reduction_factor=16)
    with pytest.raises(ConfigError, match=r"search\.space\.method\.width: has no effect beside"):
        space_around(config, Settings(method=reduced, engine=COLD.engine))

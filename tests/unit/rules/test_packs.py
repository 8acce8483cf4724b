"""Which candidates are trained together."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import ClusterConfig
from pipeline.core.engine.trials import Trial, trial_of
from pipeline.rules.packs import key_of, most_together, packs_of
from tests.played import played_job

JOB = played_job("a")


def trials(count: int) -> list[Trial]:
    return [trial_of(JOB, index, {}) for index in range(count)]


@settings(max_examples=60, derandomize=True, database=None, deadline=None)
@given(st.lists(st.integers(0, 2), max_size=20), st.integers(1, 8))
def test_every_trial_is_in_one_pack_of_its_like_and_the_packs_are_few_and_even(keys: list[int], most: int) -> None:
    waiting = trials(len(keys))
    packs = packs_of(waiting, keys, most)
    assert sorted(trial.index for pack in packs for trial in pack) == list(range(len(keys)))
    for key in set(keys):
        own = [pack for pack in packs if keys[pack[0].index] == key]
        assert all(keys[trial.index] == key for pack in own for trial in pack)
        assert len(own) == -(-keys.count(key) // most)
        assert max(map(len, own)) <= most and max(map(len, own)) - min(map(len, own)) <= 1
        members = [trial.index for pack in own for trial in pack]
        assert members == sorted(members), "the order is kept"


@pytest.mark.parametrize(
    ("params", "shares"),
    [
        ({"engine.learning_rate": 1e-4, "engine.epochs": 9, "method.width": 64, "method.dropout": 0.5}, True),
        ({"engine.batch_size": 8}, False),
        ({"engine.eval_batch_size": 8}, False),
        ({"engine.precision": "bfloat16"}, False),
        ({"method.name": "houlsby"}, True),
        ({"method.name": "full"}, False),
        ({"method.name": "prompt"}, False),
    ],
)
def test_what_is_computed_for_all_at_once_must_be_alike(params: dict[str, Any], shares: bool) -> None:
    one, other = trial_of(JOB, 0, {}), trial_of(JOB, 1, params)
    assert (key_of(JOB, one, 2) == key_of(JOB, other, 2)) == shares
    assert key_of(JOB, one, 2) != key_of(JOB, one, 3)
    writes = dataclasses.replace(JOB, task=type("Writes", (), {"decoding": "beams"})())
    assert key_of(writes, one, 2) != key_of(writes, other, 2)


def test_how_many_are_trained_together() -> None:
    nodes = [{"CPU": 8.0, "GPU": 2.0}]

    def most(waiting: int = 7, **changes: Any) -> int:
        return most_together(ClusterConfig(**changes), nodes, waiting)

    assert most() == 1  # on CPUs
    assert most(pack=4) == 4
    assert most(gpus_per_trial=1.0) == 4  # dealt out to two slots
    assert most(gpus_per_trial=0.5) == 2
    assert most(gpus_per_trial=1.0, pack=1) == 1
    assert most(num_workers=2) == 1
    assert most(name="here", gpus_per_trial=1.0) == 7

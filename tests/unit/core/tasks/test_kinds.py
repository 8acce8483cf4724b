"""The table of kinds against the config."""

from __future__ import annotations

from typing import get_args

import pytest

from pipeline.config import FIELDS, METRICS, Kind, TaskConfig
from pipeline.core.tasks.kinds import TASK_KINDS, restore


def test_every_kind_of_the_config_has_a_class() -> None:
    assert set(TASK_KINDS) == set(get_args(Kind))


@pytest.mark.parametrize("kind", get_args(Kind))
def test_the_target_is_the_last_field_of_the_kind(kind: Kind) -> None:
    config = TaskConfig(name="any", kind=kind)
    assert list(FIELDS[kind])[-1] == TASK_KINDS[kind](config).target == list(config.columns)[-1]


@pytest.mark.parametrize("kind", get_args(Kind))
def test_a_restored_task_has_the_labels_of_its_bundle(kind: Kind) -> None:
    config = TaskConfig(name="any", kind=kind, metric=METRICS[kind][-1])
    task = restore(config, ["O", "B-x", "I-x"])
    assert type(task) is TASK_KINDS[kind]
    assert (task.config, task.labels) == (config, ("O", "B-x", "I-x"))

"""One run, beside what other commands write at the same time."""

import uuid
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from pipeline.tracking.run import create_run
from pipeline.tracking.store import Store

SPLITS = {"train": ("abc", 30), "test": ("def", 10)}


def test_data_that_another_command_logs_between_mlflows_look_and_its_insertion(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = create_run(store, "one", {}), create_run(store, "other", {})
    made = uuid.uuid4

    def meanwhile() -> Any:
        monkeypatch.setattr(uuid, "uuid4", made)
        other.datasets("sentiment/films", "data", SPLITS)
        return made()

    monkeypatch.setattr(uuid, "uuid4", meanwhile)  # MLflow asks for an id when it has found no such data
    one.datasets("sentiment/films", "data", SPLITS)
    inputs = [store.client.get_run(run.id).inputs.dataset_inputs for run in (one, other)]
    assert [sorted(found.dataset.digest for found in some) for some in inputs] == [["abc", "def"], ["abc", "def"]]


def test_any_other_refusal_is_told(store: Store) -> None:
    run = create_run(store, "one", {})
    store.client.delete_run(run.id)
    with pytest.raises(MlflowException, match="must be in the 'active' state"):
        run.datasets("sentiment/films", "data", SPLITS)

"""A real SQLite store, and a sweep of one job made by hand."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.tracking import hand

from pipeline.config import TrackingConfig
from pipeline.engine.bundle import write_bundle
from pipeline.tracking.store import Store, open_store


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables and nothing in them: making them takes seconds."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        store = open_store(TrackingConfig(experiment="unused"))
        store.client.delete_experiment(store.experiment_id)
    return folder / "mlflow.db"


@pytest.fixture
def tracking(empty_database: Path, tmp_path: Path) -> TrackingConfig:
    """Where a fresh store of the test's own is."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db", artifacts=str(tmp_path / "mlartifacts"))


@pytest.fixture
def store(tracking: TrackingConfig) -> Store:
    """The store, opened."""
    return open_store(tracking)


@pytest.fixture
def bundle(tmp_path: Path) -> Callable[..., Path]:
    """A factory of bundles on disk."""

    def make(name: str = "bundle", **changes: Any) -> Path:
        folder = tmp_path / "bundles" / name
        if not folder.exists():
            write_bundle(folder, hand.record(**changes), {"head.weight": torch.zeros(2, 4)})
        return folder

    return make


@pytest.fixture
def runs(store: Store) -> Callable[[], Mapping[str, Any]]:
    """All runs of the store by name."""

    def read() -> Mapping[str, Any]:
        found = store.client.search_runs([store.experiment_id])
        names = [run.info.run_name for run in found]
        assert len(names) == len(set(names)), f"a run was made twice: {names}"
        return dict(zip(names, found, strict=True))

    return read

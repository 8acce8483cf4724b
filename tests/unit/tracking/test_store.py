import sqlite3
from pathlib import Path

import pytest

from pipeline.config import TrackingConfig
from pipeline.errors import ConfigError, TrackingError
from pipeline.tracking.store import open_store, require_store
from tests.powercut import PowerCut


def test_artifacts_of_a_local_store_have_an_absolute_place(tracking: TrackingConfig, tmp_path: Path) -> None:
    store = open_store(tracking)
    experiment = store.client.get_experiment(store.experiment_id)
    assert experiment.name == "adapters"
    assert experiment.artifact_location == str(tmp_path / "mlartifacts")


def test_the_folders_of_a_store_are_there_after_a_power_cut(
    tracking: TrackingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before an experiment names that of the artifacts, and so before anything is recorded that is kept in it."""
    cut = PowerCut(monkeypatch)
    open_store(tracking)
    require_store(TrackingConfig(uri=f"sqlite:///{tmp_path}/deep/store/mlflow.db"))
    assert {"mlartifacts", "deep/store"} <= {*cut.disk(tmp_path).files("least")}


def test_relative_address_is_resolved_once(
    tracking: TrackingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(TrackingConfig(uri="sqlite:///mlflow.db", artifacts="somewhere"))
    assert store.uri == f"sqlite:///{tmp_path}/mlflow.db"
    location = store.client.get_experiment(store.experiment_id).artifact_location
    assert location == str(tmp_path / "somewhere")


def test_opening_again_finds_the_same_experiment(tracking: TrackingConfig) -> None:
    assert open_store(tracking).experiment_id == open_store(tracking, create=False).experiment_id


def test_reading_where_nothing_was_recorded_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tracking\.uri.*holds nothing yet.*make sweep"):
        open_store(TrackingConfig(uri=f"sqlite:///{tmp_path}/none.db"), create=False)
    assert list(tmp_path.iterdir()) == []


def test_reading_an_experiment_that_is_not_there_makes_none(tracking: TrackingConfig) -> None:
    with pytest.raises(ConfigError, match=r"tracking\.experiment"):
        open_store(tracking, create=False)


@pytest.mark.parametrize("uri", ["mlruns", "file:///tmp/mlruns", "sqlite:///", "postgresql://host/db"])
def test_other_kinds_of_store_are_refused_with_the_remedy(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"tracking\.uri.*sqlite:///mlflow\.db"):
        open_store(TrackingConfig(uri=uri))


def test_file_that_is_no_database_is_refused_at_once(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    file.write_text("not a database, but long enough to be one")
    with pytest.raises(TrackingError, match=r"mlflow\.db is no SQLite file"):
        open_store(TrackingConfig(uri=f"sqlite:///{file}"))


def test_database_of_another_mlflow_is_refused_with_its_message(tracking: TrackingConfig) -> None:
    with sqlite3.connect(tracking.uri.removeprefix("sqlite:///")) as connection:
        connection.execute("update alembic_version set version_num = 'from-the-future'")
    with pytest.raises(TrackingError, match="out-of-date database schema"):
        open_store(tracking)


def test_server_that_is_away_is_named_with_the_remedy() -> None:
    with pytest.raises(TrackingError, match=r"http://127\.0\.0\.1:9 cannot be reached.*mlflow server"):
        open_store(TrackingConfig(uri="http://127.0.0.1:9"))


def test_deleted_experiment_is_refused_with_the_remedy(tracking: TrackingConfig) -> None:
    store = open_store(tracking)
    store.client.delete_experiment(store.experiment_id)
    with pytest.raises(TrackingError, match="mlflow experiments restore"):
        open_store(tracking)

"""The same over HTTP: a real server, which keeps the artifacts itself."""

from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pytest

from pipeline.config import TrackingConfig
from pipeline.core.data.ledger import Ledger, read_ledger
from pipeline.core.engine.bundle import read_bundle
from pipeline.tracking import lookup
from pipeline.tracking.lookup import champions, fetch
from pipeline.tracking.recorder import SweepFacts
from pipeline.tracking.registry import champion_of
from pipeline.tracking.store import Store, open_store
from tests.unit.tracking.conftest import TASK, enrol, recording, verdict
from tests.unit.tracking.server import Server, without_models

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def server(mlflow_server: Server) -> str:
    """Address of an MLflow server without models."""
    return without_models(mlflow_server).uri


@pytest.fixture
def remote(server: str) -> Store:
    """The server's store."""
    return open_store(TrackingConfig(uri=server, artifacts="never-used", experiment="over http"))


def test_sweep_is_recorded_and_resumed_over_http(remote: Store, facts: SweepFacts, story: Any, tmp_path: Path) -> None:
    events = [story.epoch(1), story.epoch(2), story.end(), story.tested()]
    for known in (events[:2], events):
        with recording(remote, facts) as recorder:
            for event in known:
                recorder(event)
            recorder.table(None, "leaderboard.json", [{"job": "sentiment/films"}])
    found = {run.info.run_name: run for run in remote.client.search_runs([remote.experiment_id])}
    assert len(found) == 3
    trial = found["00 sentiment/films"]
    assert trial.info.status == "FINISHED"
    assert len(remote.client.get_metric_history(trial.info.run_id, "train/loss")) == 4
    assert {item.path for item in remote.client.list_artifacts(trial.info.run_id, "bundle")} == {
        "bundle/bundle.json",
        "bundle/weights.safetensors",
    }
    assert not (tmp_path / "never-used").exists()


def test_champion_travels_through_the_server(remote: Store, facts: SweepFacts, story: Any) -> None:
    seen = Ledger(trained=(story.job.dataset.train.rows[0],))

    for sweep, number in (("one", None), ("two", 1)):
        present = champion_of(remote, "sentiment")
        assert (None if present is None else present.version) == number
        if present is not None:
            [row] = read_ledger(present.files.ledger, TASK).trained
            assert row.fields == seen.trained[0].fields
        registered = enrol(remote, sweep, story.tested(), verdict("champion", ledger=seen))
    assert (registered.version, registered.alias) == (2, "champion")
    folder = fetch(remote, "sentiment")
    assert read_bundle(folder).record == read_bundle(story.bundle()).record
    assert (folder.parent / "ledger" / "ledger.json").is_file()
    assert folder.is_relative_to(lookup._downloads()), "which goes with the process"
    beside = fetch(remote, "sentiment")
    lookup.release(folder)
    assert not folder.exists() and beside.is_dir(), "another call's"
    lookup.release(story.bundle())
    assert story.bundle().is_dir(), "what was not downloaded stays"
    lookup.release(beside)
    assert not beside.exists() and fetch(remote, "sentiment").is_dir()
    assert [(version.name, version.version) for version in champions(remote)] == [("sentiment", 2)]


def test_process_wide_tracking_address_is_left_alone(remote: Store, facts: SweepFacts) -> None:
    before = mlflow.get_tracking_uri()
    with recording(remote, facts):
        pass
    assert mlflow.get_tracking_uri() == before
    assert mlflow.active_run() is None

"""The same over HTTP: a real server, which keeps the artifacts itself."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import mlflow.pyfunc
import pytest

from pipeline.config import TrackingConfig
from pipeline.engine.bundle import read_bundle
from pipeline.tracking.registry import champions, fetch, register
from pipeline.tracking.runs import SweepFacts, SweepRecorder
from pipeline.tracking.store import Store, open_store

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def server(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an MLflow server with nothing recorded in it."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_database, folder / "server.db")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = [
        "--backend-store-uri",
        f"sqlite:///{folder}/server.db",
        "--artifacts-destination",
        str(folder / "art"),
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port), *arguments],
        cwd=folder,
        env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
        stdout=(folder / "log.txt").open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    uri = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{uri}/health", process, folder / "log.txt")
        yield uri
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            with urlopen(url, timeout=2):
                return
        except (URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(f"the server did not answer: {log.read_text()}")


@pytest.fixture
def remote(server: str) -> Store:
    """The server's store."""
    return open_store(TrackingConfig(uri=server, artifacts="never-used"))


def test_sweep_is_recorded_and_resumed_over_http(remote: Store, facts: SweepFacts, story: Any, tmp_path: Path) -> None:
    events = [story.epoch(1), story.epoch(2), story.end(), story.tested()]
    for known in (events[:2], events):
        with SweepRecorder(remote, facts) as recorder:
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
    scores = iter([(0.8, 0.7)])
    for sweep in ("one", "two"):
        run = remote.client.create_run(remote.experiment_id)
        registered = register(remote, sweep, story.job, story.tested(), run.info.run_id, lambda *_: next(scores))
    assert (registered.version, registered.alias) == (2, "champion")
    folder = fetch(remote, "sentiment")
    assert read_bundle(folder).record == read_bundle(story.bundle()).record
    assert (folder.parent / "validation.jsonl").is_file()
    assert [(version.name, version.version) for version in champions(remote)] == [("sentiment", 2)]


def test_process_wide_tracking_address_is_left_alone(remote: Store, facts: SweepFacts) -> None:
    before = mlflow.get_tracking_uri()
    with SweepRecorder(remote, facts):
        pass
    assert mlflow.get_tracking_uri() == before
    assert mlflow.active_run() is None

"""What is looked through before the service is started, and what is shown when it answers."""

import os
import shlex
import signal
import socket
from pathlib import Path
from unittest import mock

import pytest
from mlflow import MlflowClient

from pipeline.config import TrackingConfig
from pipeline.config.serve import ServeConfig, ServingConfig
from pipeline.errors import ConfigError
from pipeline.reports.console import console
from pipeline.serving.limits import digest_of
from pipeline.serving.state import Table
from pipeline.steps.serve import Registry, _store, asked_to_end, asking, open_service
from tests.ports import free_port
from tests.unit.serving.clients import standing


@pytest.fixture(scope="module")
def tracking(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> TrackingConfig:
    """A store with two names of ours, of which one has a champion, and one of somebody else."""
    import shutil

    root = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{shutil.copy(empty_database, root / 'mlflow.db')}"
    client = MlflowClient(uri, uri)
    client.create_experiment("adapters", artifact_location=str(root / "artifacts"))
    for name, tags in (("mood", {"task": "mood"}), ("later", {"task": "later"}), ("theirs", {})):
        client.create_registered_model(name, tags=tags)
    for name in ("mood", "theirs"):
        client.create_model_version(name, source=str(root / name))
        client.set_registered_model_alias(name, "champion", "1")
    return TrackingConfig(uri=uri, artifacts=str(root / "artifacts"))


def config(tracking: TrackingConfig, root: Path, *tasks: str, port: int = 0, **serve: object) -> ServeConfig:
    return ServeConfig(
        tasks=list(tasks) or ["*"],
        port=port or free_port(),
        tracking=tracking,
        runs=str(root / "runs"),
        serve=ServingConfig(**serve),  # type: ignore[arg-type]
    )


def test_the_registry_tells_the_aliases_of_our_names_alone(tracking: TrackingConfig) -> None:
    assert Registry(tracking=tracking).aliases() == {"mood": {"champion": 1}}


def test_a_registry_that_does_not_answer_is_not_waited_for_as_long_as_what_is_recorded(
    tracking: TrackingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")  # as pipeline.tracking has it
    _store.cache_clear()
    Registry(tracking=tracking).aliases()
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "10"
    _store.cache_clear()


def test_a_name_without_champion_is_refused_before_anything_is_started(
    tracking: TrackingConfig, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        open_service(config(tracking, tmp_path, "mood", "moot"), console())
    assert str(caught.value).startswith("TASKS: 'moot' has no champion yet. Run `make sweep TASKS=moot` first.")
    assert not (tmp_path / "runs").exists()


def test_a_port_that_is_taken_is_told_before_anything_is_started(tracking: TrackingConfig, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(ConfigError) as caught:
        open_service(config(tracking, tmp_path, port=server.getsockname()[1]), console())
    assert "cannot be listened at on 127.0.0.1 (Address already in use). Give another one: PORT=8001" in str(
        caught.value
    )


def test_the_token_leaves_the_environment_and_only_its_digest_is_kept(
    tracking: TrackingConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mock.patch.dict(os.environ, {"SERVE_TOKEN": "t0p-secret"}):
        service = open_service(config(tracking, tmp_path, host="0.0.0.0"), console())
        assert "SERVE_TOKEN" not in os.environ
    assert service.token_digest == digest_of("t0p-secret")
    assert "t0p-secret" not in repr(service)
    assert "t0p-secret" not in capsys.readouterr().out


def test_whoever_opens_it_to_others_without_a_token_is_told(
    tracking: TrackingConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    open_service(config(tracking, tmp_path, host="0.0.0.0"), console())
    assert "Whoever reaches 0.0.0.0 can ask: set SERVE_TOKEN in the environment" in capsys.readouterr().out


def test_one_line_of_curl_is_shown_for_each_kind_that_answers(tracking: TrackingConfig, tmp_path: Path) -> None:
    table = Table(
        tasks={
            one.name: one
            for one in (
                standing("whole", champion="is a whole copy"),
                standing("mood"),
                standing("mood.films"),
                standing("qa", "extractive_qa", ("question", "context")),
            )
        }
    )
    first, second, rest = asking(config(tracking, tmp_path, port=8123), table, has_token=True)
    assert shlex.split(first) == [
        "curl",
        "http://127.0.0.1:8123/v1/tasks/mood/predict",
        "-H",
        "Authorization: Bearer $SERVE_TOKEN",
        "-d",
        '{"inputs": "I loved every minute of it."}',
    ]
    assert "/v1/tasks/qa/predict" in second
    assert "http://127.0.0.1:8123/docs" in rest


def test_sigterm_asks_for_the_end_and_a_second_one_does_not_wait() -> None:
    with asked_to_end() as ended:
        os.kill(os.getpid(), signal.SIGTERM)
        assert ended.wait(5)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            signal.sigtimedwait([], 1)

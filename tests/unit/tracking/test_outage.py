import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository

from pipeline.tracking.outage import delay_s, is_outage, outlast, patiently, reason


class Answering(BaseHTTPRequestHandler):
    status = 200

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.status == 0:
            self.close_connection = True
            return
        body = b'{"error_code": "SOME_CODE", "message": "said so"}'
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = answer

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def answering() -> Iterator[str]:
    """Address of a server that answers everything with `Answering.status`, 0 being a connection that is closed."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def error_of(uri: str) -> Exception:
    with pytest.raises(Exception) as raised:
        MlflowClient(uri).log_batch("0" * 32, metrics=[Metric("loss", 0.5, 1, 1)])
    return raised.value


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_server_that_is_busy_or_broken_is_an_outage(
    status: int, answering: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Answering, "status", status)
    error = error_of(answering)
    assert is_outage(error)
    assert reason(error) == f"status {status}"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409])
def test_request_that_is_refused_is_none(status: int, answering: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Answering, "status", status)
    assert not is_outage(error_of(answering))


def test_connection_that_is_refused_or_closed_or_gets_no_reply_is_an_outage(
    answering: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Answering, "status", 0)
    errors = {"connection closed without a reply": error_of(answering)}
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        errors["connection refused"] = error_of(f"http://127.0.0.1:{silent.getsockname()[1]}")
        silent.listen()
        errors["no reply in time"] = error_of(f"http://127.0.0.1:{silent.getsockname()[1]}")
    for words, error in errors.items():
        assert is_outage(error), error
        assert reason(error) == words


@pytest.mark.parametrize(("status", "passes"), [(503, True), (0, True), (403, False)])
def test_artifacts_are_judged_alike(
    status: int, passes: bool, answering: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setattr(Answering, "status", status)
    file = tmp_path_factory.mktemp("artifact") / "weights.bin"
    file.write_bytes(b"0" * 2**20)
    with pytest.raises(Exception) as raised:
        HttpArtifactRepository(f"{answering}/api/2.0/mlflow-artifacts/artifacts/0/run").log_artifact(str(file))
    assert is_outage(raised.value) is passes


def test_file_that_is_missing_is_none_and_a_locked_database_is_an_outage() -> None:
    assert not is_outage(FileNotFoundError("bundle.json"))
    assert not is_outage(MlflowException("(sqlite3.OperationalError) disk I/O error"))
    assert is_outage(MlflowException("(sqlite3.OperationalError) database is locked"))


def test_delays_double_up_to_a_bound() -> None:
    assert [delay_s(attempt) for attempt in (1, 2, 3, 4, 5, 6, 10_000)] == [0.5, 1, 2, 4, 5, 5, 5]


def test_step_is_tried_until_it_works_and_the_pauses_count_the_attempts() -> None:
    left, pauses = [ConnectionError("refused")] * 3, []

    def step() -> str:
        if left:
            raise left.pop()
        return "done"

    assert outlast(step, lambda error, attempt: pauses.append(attempt)) == "done"
    assert pauses == [1, 2, 3]


def test_other_errors_are_raised_at_once() -> None:
    def step() -> None:
        raise ValueError("no such metric")

    with pytest.raises(ValueError, match="no such metric"):
        outlast(step, lambda *_: pytest.fail("there is nothing to wait for"))


def test_patience_ends_with_what_the_store_raised() -> None:
    def step() -> None:
        raise ConnectionRefusedError("still away")

    with pytest.raises(ConnectionRefusedError, match="still away"):
        patiently(step, 0.1)

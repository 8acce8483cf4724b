"""A real MLflow server that can be killed and started again, and a proxy that loses its replies."""

import http.client
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal
from urllib.error import URLError
from urllib.request import urlopen

from mlflow import MlflowClient

Fate = Literal["answered", "lost", "late"]
"""Of a request: `late` hangs up, and hands it on LATE_S afterwards."""
LATE_S = 0.3
Row = tuple[str, str, int, float]
"""Name of a run, metric, step, value."""


class Server:
    """An MLflow server on a SQLite file, at an address that it keeps."""

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        with socket.socket() as probe:
            probe.bind((host, 0))
            self.port = probe.getsockname()[1]
        self.host, self.uri = host, f"http://{host}:{self.port}"
        self.folder, self.database = folder, folder / "server.db"

    def start(self) -> None:
        """Start it and wait until it answers."""
        store = ["--host", self.host, "--backend-store-uri", f"sqlite:///{self.database}"]
        store += ["--artifacts-destination", str(self.folder / "art")]
        log = self.folder / "server.txt"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(self.port), *store],
            cwd=self.folder,
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
            stdout=log.open("a"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            assert self.process.poll() is None, log.read_text()
            try:
                with urlopen(f"{self.uri}/health", timeout=2):
                    return
            except (URLError, OSError):
                time.sleep(0.1)
        raise AssertionError(f"the server did not answer: {log.read_text()}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it and its workers."""
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """End it in the middle of whatever it does."""
        self.signal(signal.SIGKILL)
        self.process.wait(30)

    def points(self, sweep_id: str) -> list[Row]:
        """Every metric point of a sweep, as the table has them: one that is there twice is listed twice.

        The sweep's own run, which has its id for a name, is called `sweep`, so that sweeps can be compared.
        """
        query = """
            SELECT CASE runs.name WHEN tags.value THEN 'sweep' ELSE runs.name END,
                   metrics.key, metrics.step, metrics.value FROM metrics
            JOIN runs ON runs.run_uuid = metrics.run_uuid
            JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = 'sweep_id' AND tags.value = ?
            ORDER BY metrics.rowid
        """
        with closing(sqlite3.connect(self.database)) as base:
            return list(base.execute(query, (sweep_id,)))

    def runs(self, sweep_id: str, stage: Literal["active", "deleted"] = "active") -> dict[str, str]:
        """Name -> status of a sweep's runs, or of those in the bin; none may be there twice."""
        query = """
            SELECT runs.name, runs.status FROM runs
            JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = 'sweep_id' AND tags.value = ?
            WHERE runs.lifecycle_stage = ?
        """
        with closing(sqlite3.connect(self.database)) as base:
            found = list(base.execute(query, (sweep_id, stage)))
        assert len(found) == len(dict(found)), f"a run was made twice: {found}"
        return dict(found)


def without_models(server: Server) -> Server:
    """The server, after other tests have registered models."""
    client = MlflowClient(server.uri)
    for model in client.search_registered_models():
        client.delete_registered_model(model.name)
    return server


@contextmanager
def serving(folder: Path, empty_database: Path | None = None, host: str = "127.0.0.1") -> Iterator[Server]:
    """Run a server until the block ends; with the tables made already it starts sooner."""
    server = Server(folder, host)
    if empty_database is not None:
        shutil.copy(empty_database, server.database)
    server.start()
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.signal(signal.SIGCONT)
            server.kill()


@contextmanager
def losing(server: Server, fate: Callable[[str, int], Fate], port: int = 0) -> Iterator[tuple[str, Counter[str]]]:
    """Run a proxy that hands on every request, but not every reply.

    Args:
        server: Where requests go.
        fate: (endpoint, how often it was asked, from 1) -> what becomes of the request.
        port: Of one that was there before; 0: any.

    Yields:
        Its address, and the requests so far by endpoint: `runs/create`, `artifacts`.
    """
    asked: Counter[str] = Counter()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            endpoint = "artifacts" if "mlflow-artifacts" in self.path else self.path.partition("/mlflow/")[2]
            asked[endpoint] += 1
            this = fate(endpoint, asked[endpoint])
            if this == "late":
                self.connection.shutdown(socket.SHUT_RDWR)
                time.sleep(LATE_S)
            onward = http.client.HTTPConnection("127.0.0.1", server.port)
            onward.request(self.command, self.path, body, dict(self.headers))
            reply = onward.getresponse()
            data = reply.read()
            onward.close()
            if this != "answered":
                self.close_connection = True
                return
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.headers.get("Content-Type", "application/json"))
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

        def log_message(self, format: str, *args: object) -> None:
            pass

    proxy = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    # It looks as often whether it shall end.
    threading.Thread(target=proxy.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{proxy.server_address[1]}", asked
    finally:
        proxy.shutdown()
        proxy.server_close()

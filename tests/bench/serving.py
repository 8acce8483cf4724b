"""The service beside MLflow's own model server: `python -m tests.bench.serving <tracking uri> <task>`; minutes.

Both answer the same task's champion, one text a request, from 1, 8 and 32 clients in turn, ours with one process that
answers. MLflow's server has one model; ours has every champion of the registry, and is asked for that one, and, where
there are several of its kind, for all of them in turn.
"""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from pipeline.config import TrackingConfig
from pipeline.config.serve import ServeConfig
from pipeline.reports.console import console
from pipeline.steps.serve import open_service, serving
from tests.ports import free_port

CLIENTS, SECONDS, WARM_UP_S = (1, 8, 32), 8.0, 2.0
TEXTS = ["I loved every minute of it.", "The plot was dull, and the sound worse.", "Fast, fun and wonderfully silly."]


def measured(port: int, path_of: Callable[[int], str], body_of: Callable[[str], Any], clients: int) -> list[float]:
    """Seconds of each request of some clients, one after another, for as long as is measured."""
    found: list[float] = []
    lock, end = threading.Lock(), time.monotonic() + WARM_UP_S + SECONDS

    def ask(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while (begin := time.monotonic()) < end:
            body = json.dumps(body_of(TEXTS[number % len(TEXTS)]))
            connection.request("POST", path_of(number), body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = response.read()
            assert response.status == 200, content
            number += 1
            if begin > end - SECONDS:
                with lock:
                    found.append(time.monotonic() - begin)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@contextlib.contextmanager
def mlflow_server(uri: str, name: str) -> Iterator[int]:
    """MLflow's own server of a champion."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/{name}@champion"]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # MLflow looks for uvicorn there
    variables = {**os.environ, "MLFLOW_TRACKING_URI": uri, "PATH": path}
    process = subprocess.Popen(command, env=variables, start_new_session=True)
    try:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.5)
            assert process.poll() is None, "MLflow's server has ended"
        yield port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        process.wait()


def row(title: str, clients: int, seconds: Sequence[float]) -> list[str]:
    """A row of the table."""
    low, middle, high = np.percentile(np.array(seconds) * 1e3, [50, 95, 99])
    return [title, str(clients), f"{low:.1f}", f"{middle:.1f}", f"{high:.1f}", f"{len(seconds) / SECONDS:.0f}"]


def _paths(tasks: Sequence[str]) -> Callable[[int], str]:
    """Where the request of a number goes: to the tasks in turn."""
    return lambda number: f"/v1/tasks/{tasks[number % len(tasks)]}/predict"


def main(uri: str, task: str) -> None:
    """Measure both, and show the table."""
    table = Table("server", "clients", "p50 ms", "p95 ms", "p99 ms", "rows/s", box=None)
    with tempfile.TemporaryDirectory() as folder:
        config = ServeConfig(port=free_port(), tracking=TrackingConfig(uri=uri), runs=str(Path(folder) / "runs"))
        shown = console()
        with serving(open_service(config, shown), shown) as (tasks, _, _):
            kind = tasks.tasks[task].kind
            names = [one.name for one in tasks.tasks.values() if one.kind == kind and not one.versions[0].reason]
            measurements = [(f"make serve, {task}", [task])]
            if len(names) > 1:
                measurements.append((f"make serve, {len(names)} tasks in turn", names))
            for title, asked in measurements:
                for clients in CLIENTS:
                    seconds = measured(config.port, _paths(asked), lambda text: {"inputs": text}, clients)
                    table.add_row(*row(title, clients, seconds))
    with mlflow_server(uri, task) as port:
        for clients in CLIENTS:
            seconds = measured(port, lambda number: "/invocations", lambda text: {"inputs": [text]}, clients)
            table.add_row(*row(f"mlflow models serve, {task}", clients, seconds))
    console().print(table)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The MLflow UI on this machine: a server with all its processes, which go when it is stopped."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from types import FrameType

from pipeline.errors import TrackingError

_PATIENCE_S = 3
"""How long the server may take to end by itself."""
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, `kill`, and a terminal that is closed."""


def serve_ui(uri: str, port: int) -> None:
    """Run the UI on a store of this machine until it is stopped: by Ctrl-C, `kill`, or the end of its terminal.

    The server is in a session of its own, so that Ctrl-C reaches this process alone: in all of the server's processes
    it ends in a traceback each.

    Raises:
        TrackingError: The server ended by itself.
    """
    # It reads: what MLflow would run jobs with are eight more processes.
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | os.environ
    arguments = ["--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    before = {number: signal.signal(number, _stop) for number in _STOPS}
    server = None
    try:
        command = [sys.executable, "-m", "mlflow", "server", *arguments]
        server = subprocess.Popen(command, env=environment, start_new_session=True)
        code = server.wait()
    except KeyboardInterrupt:
        return
    finally:
        for number in before:
            signal.signal(number, signal.SIG_IGN)  # it is ending
        if server is not None:
            _end(server)
        for number, handler in before.items():
            signal.signal(number, handler)
    raise TrackingError(f"the MLflow UI on port {port} ended by itself, with exit code {code}, as is told above")


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _end(server: "subprocess.Popen[bytes]") -> None:
    """End a server and all that it has started."""
    server.terminate()
    with suppress(subprocess.TimeoutExpired):
        server.wait(_PATIENCE_S)
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()

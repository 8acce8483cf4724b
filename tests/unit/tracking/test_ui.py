"""The UI's server goes with the command, quietly, however the command is stopped."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

ROOT = Path(__file__).parents[3]
_SERVER = """#!/bin/sh
trap 'echo Traceback >&2; exit 1' INT HUP
trap 'exit 0' TERM
sleep 60 &
echo $! > child
echo "$@" > arguments.draft
mv arguments.draft arguments
wait
"""
"""Stands for Python that runs `mlflow server`: it has a child, and Ctrl-C makes it loud."""
_COMMAND = """
import sys
from pipeline.tracking.ui import serve_ui
sys.executable = sys.argv[1]
serve_ui("sqlite:///mlflow.db", 5123)
"""


def started(folder: Path, server: str = _SERVER) -> "subprocess.Popen[str]":
    """The command, in a process group of its own, with the server that is given."""
    program = folder / "python"
    program.write_text(server, "utf-8")
    program.chmod(0o755)
    return subprocess.Popen(
        [sys.executable, "-c", _COMMAND, str(program)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stopped_ui_ends_quietly_with_all_its_processes(number: signal.Signals, tmp_path: Path) -> None:
    command = started(tmp_path)
    deadline = time.monotonic() + 30
    while not (tmp_path / "arguments").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child = int((tmp_path / "child").read_text())

    os.killpg(command.pid, number)  # as a terminal does
    _, said = command.communicate(timeout=30)

    assert (command.returncode, said) == (0, "")
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE
    given = "-m mlflow server --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --port 5123 --workers 1"
    assert (tmp_path / "arguments").read_text() == f"{given}\n"


def test_a_server_that_ends_by_itself_is_an_error_with_its_exit_code(tmp_path: Path) -> None:
    command = started(tmp_path, "#!/bin/sh\nexit 3\n")

    _, said = command.communicate(timeout=30)

    last = said.splitlines()[-1]
    assert last.endswith(
        "TrackingError: the MLflow UI on port 5123 ended by itself, with exit code 3, as is told above"
    )

"""Commands as a user calls them, in a working directory of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline.config.commands import COMMANDS

ROOT = Path(__file__).parents[2]

Rows = Sequence[Mapping[str, Any] | str] | str
"""Rows of a jsonl file, some of them perhaps as they stand in it; or the text of a file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str


Call = Callable[..., Done]
"""(name of a command, *arguments) -> how it ended."""


class Workplace:
    """An empty working directory, and beside it a folder for data."""

    def __init__(self, root: Path) -> None:
        self.cwd, self.data = root / "work", root / "data"
        self.cwd.mkdir(parents=True)
        self.data.mkdir()

    def write(self, files: Mapping[str, Rows]) -> None:
        """Write files below `data`, jsonl where rows are given."""
        for name, rows in files.items():
            file = self.data / name
            file.parent.mkdir(parents=True, exist_ok=True)
            if not isinstance(rows, str):
                rows = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
            file.write_text(rows, "utf-8")

    def left(self) -> list[str]:
        """What stands in the working directory."""
        return sorted(path.name for path in self.cwd.iterdir())

    def start(self, *command: str, environment: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
        """Start a command of the pipeline with this Python, or another program, in a process group of its own."""
        if command[0] in COMMANDS:
            command = (sys.executable, "-m", "jobs", *command)
        return subprocess.Popen(
            command,
            cwd=self.cwd,
            env=_outer() | {"PYTHONPATH": str(ROOT)} | dict(environment or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str, stdin: str = "", environment: Mapping[str, str] | None = None) -> Done:
        """Run a process to its end."""
        process = self.start(*command, environment=environment)
        out, err = process.communicate(stdin)
        return Done(code=process.returncode, out=out, err=err)

    def make(self, *words: str, stdin: str = "", environment: Mapping[str, str] | None = None) -> Done:
        """Run the project's Makefile with this Python in place of `.venv`."""
        for name in ("pyproject.toml", "constraints.txt", "installed"):  # the last one is the newest
            (self.cwd / name).touch()
        given = [f"RUN={sys.executable} -m", "STAMP=installed", *words]
        return self.run("make", "-f", str(ROOT / "Makefile"), *given, stdin=stdin, environment=environment)

    def leaderboard(self) -> list[dict[str, Any]]:
        """The leaderboard that the only sweep has recorded, without times."""
        (file,) = self.cwd.glob("mlartifacts/**/leaderboard.json")
        return [{key: value for key, value in row.items() if key != "seconds"} for row in _rows_of(file)]

    def newest(self, table: str) -> list[dict[str, Any]]:
        """The rows of the table of a name that was recorded last; none before the first."""
        files = sorted(self.cwd.glob(f"mlartifacts/**/{table}.json"), key=lambda file: file.stat().st_mtime_ns)
        return _rows_of(files[-1]) if files else []

    def runs(self, kind: str) -> list[Run]:
        """The recorded runs of a kind: sweep, job or trial."""
        client = MlflowClient(f"sqlite:///{self.cwd}/mlflow.db")
        experiments = [found.experiment_id for found in client.search_experiments()]
        return list(client.search_runs(experiments, f"tags.kind = '{kind}'", max_results=1000))


def _rows_of(file: Path) -> list[dict[str, Any]]:
    table = json.loads(file.read_text("utf-8"))
    return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]


def _outer() -> dict[str, str]:
    """The environment without that of a make around the tests, which would announce its folders."""
    return {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}

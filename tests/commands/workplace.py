"""Commands as a user calls them, in a working directory of their own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO
from unittest import mock

from mlflow import MlflowClient
from mlflow.entities import Run

from jobs.__main__ import main
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
        for folder in (self.cwd, self.data):
            folder.mkdir(parents=True, exist_ok=True)

    def with_tables(self, database: Path) -> "Workplace":
        """Put a tracking store there, so that no command has to make its tables."""
        shutil.copy(database, self.cwd / "mlflow.db")
        return self

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

    def call(self, name: str, *words: str, environment: Mapping[str, str] | None = None) -> Done:
        """Call a command in this process, which saves the seconds that a new one needs to import torch."""
        with TemporaryFile() as out, TemporaryFile() as err:
            with chdir(self.cwd), mock.patch.dict(os.environ, environment or {}), _writing_to(out, err):
                try:
                    code = main([name, *words])
                except SystemExit as end:
                    code = int(end.code or 0)
            return Done(code=code, out=_text_of(out), err=_text_of(err))

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
        return [
            {key: value for key, value in row.items() if key not in ("seconds", "epoch_s")} for row in _rows_of(file)
        ]

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


@contextmanager
def _writing_to(out: BinaryIO, err: BinaryIO) -> Iterator[None]:
    """Send what is written to the standard output and error, also by C, to two files."""
    kept, streams = (os.dup(1), os.dup(2)), (sys.stdout, sys.stderr)
    for number, file in enumerate((out, err), start=1):
        streams[number - 1].flush()
        os.dup2(file.fileno(), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = streams
        for number, descriptor in enumerate(kept, start=1):
            os.dup2(descriptor, number)
            os.close(descriptor)


def _text_of(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode()


def _outer() -> dict[str, str]:
    """The environment without that of a make around the tests, which would announce its folders."""
    return {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}

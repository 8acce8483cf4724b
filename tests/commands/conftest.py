"""Commands as a user calls them, each in an empty working directory of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

Rows = Sequence[Mapping[str, Any] | str] | str
"""Rows of a jsonl file, some of them perhaps as they stand in it; or the text of a file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str


class Workplace:
    """An empty working directory, and beside it a folder for data."""

    def __init__(self, root: Path) -> None:
        self.cwd, self.data = root / "work", root / "data"
        self.cwd.mkdir()
        self.data.mkdir()

    def write(self, files: Mapping[str, Rows]) -> None:
        """Write files below `data`, jsonl where rows are given."""
        for name, rows in files.items():
            file = self.data / name
            file.parent.mkdir(parents=True, exist_ok=True)
            if not isinstance(rows, str):
                rows = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
            file.write_text(rows, "utf-8")

    def start(
        self, *command: str, environment: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> "subprocess.Popen[str]":
        """Start a process: `jobs.sweep ...` with this Python, or any other program by its name."""
        if command[0].startswith("jobs."):
            command = (sys.executable, "-m", *command)
        return subprocess.Popen(
            command,
            cwd=cwd or self.cwd,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | (environment or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: str, stdin: str = "", **options: Any) -> Done:
        """Run a process to its end."""
        process = self.start(*command, **options)
        out, err = process.communicate(stdin, timeout=240)
        return Done(code=process.returncode, out=out, err=err)

    def left(self) -> list[str]:
        """What stands in the working directory."""
        return sorted(path.name for path in self.cwd.iterdir())


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


@pytest.fixture
def call(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    """Call a command's `main` in this process, which saves the seconds that a new one needs to import torch."""

    def call(main: Callable[[], None], *arguments: str) -> Done:
        monkeypatch.chdir(workplace.cwd)
        monkeypatch.setattr(sys, "argv", ["command", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return Done(code=ended.value.code, out=out, err=err)

    return call

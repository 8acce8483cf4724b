import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from pipeline.reports.console import console

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("text", ["try[/2]", "[bold]x[/bold]", "a :warning: b", "$ \\[x]"])
def test_what_is_shown_is_shown_as_it_is(text: str) -> None:
    file = io.StringIO()
    table = Table(box=None)
    table.add_column("name")
    table.add_row(text)
    shown = console(file)
    shown.print(text)
    shown.print(table)
    assert [line.strip() for line in file.getvalue().splitlines()] == [text, "name", text]


_FULL = """
from pathlib import Path
from pipeline.reports.console import quiet
import sys
try:
    with quiet(Path("/dev/full")) as shown:
        print("what a library says")
        raise ValueError("told")
finally:
    print("and after", file=sys.stderr)
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_log_on_a_full_disk_leaves_standard_error_to_what_comes_after() -> None:
    command, buffered = [sys.executable, "-c", _FULL], {**os.environ, "PYTHONUNBUFFERED": ""}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=buffered, check=False)
    assert "and after" in done.stderr
    assert "ValueError: told" in done.stderr

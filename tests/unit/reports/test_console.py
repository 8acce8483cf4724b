import io

import pytest
from rich.table import Table

from pipeline.reports.console import console


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

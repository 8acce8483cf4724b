"""The settings of a command, as `--help` shows them."""

from collections.abc import Sequence

from rich.table import Table

from pipeline.config.settings import Setting


def settings_table(settings: Sequence[Setting]) -> Table:
    """A line a setting: key, what it may be, its default, what it is for."""
    table = Table(box=None, pad_edge=False)
    for column, style in (("setting", "bold"), ("is", ""), ("default", ""), ("what it is for", "")):
        table.add_column(column, style=style, overflow="fold")
    for one in settings:
        table.add_row(one.key, one.allowed or one.type, one.default, one.says)
    return table

"""How far a command is in many rows, on standard error: a bar on a terminal, else a line now and then."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")
_SILENCE_S = 30.0
"""Between two lines."""


def counted(
    rows: Iterable[T], total: int | None, what: str, *, clock: Callable[[], float] = time.monotonic
) -> Iterator[T]:
    """Yield the rows, and show how many there were.

    Args:
        rows: What is gone through.
        total: Their number, if it is known.
        what: What is done with them, as in `12 of 40 rows answered`.
        clock: Seconds, of which only differences matter.
    """
    shown = Console(stderr=True, highlight=False)
    if shown.is_terminal:
        if sys.stdout.isatty():  # what is shown there is progress enough, and a bar would stand in its way
            yield from rows
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=shown, transient=True) as progress:
            yield from progress.track(rows, total=total, description=f"Rows {what}")
        return
    last, of = clock(), "" if total is None else f" of {total:,}"
    for number, row in enumerate(rows, start=1):
        yield row
        if clock() - last >= _SILENCE_S:
            last = clock()
            print(f"{number:,}{of} rows {what}", file=sys.stderr, flush=True)

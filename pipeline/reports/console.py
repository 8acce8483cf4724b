"""Where a command shows something, and where the chatter of libraries goes."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from rich.console import Console

from pipeline.config.hints import as_typed


class _Console(Console):
    """Whose sentences name settings and commands as the user types them."""

    def print(self, *objects: Any, **how: Any) -> None:
        super().print(*(as_typed(one) if isinstance(one, str) else one for one in objects), **how)


@contextmanager
def quiet(log_file: Path) -> Iterator[Console]:
    """Send everything that libraries print, from Python or C, to `log_file`; yield a console that still shows."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with log_file.open("ab") as log, os.fdopen(os.dup(kept[0]), "w", encoding="utf-8") as shown:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            yield console(shown)
        finally:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError):  # where the log's disk is full: what comes now has to be seen all the more
                    stream.flush()
            for number, descriptor in enumerate(kept, start=1):
                os.dup2(descriptor, number)
                os.close(descriptor)


@contextmanager
def logged(log_file: Path) -> Iterator[Console]:
    """Send what libraries log to `log_file`, and leave standard output and error to whoever prints; yield a console."""
    root, handler = logging.getLogger(), logging.FileHandler(log_file, encoding="utf-8")
    loggers = [one for one in root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    own = {logger: logger.handlers for logger in loggers if logger.handlers}  # MLflow's writes to standard error
    for logger in own:
        logger.handlers = []
    for logger in (root, *own):
        logger.addHandler(handler)
    try:
        yield console()
    finally:
        for logger, handlers in own.items():
            logger.handlers = handlers
        root.removeHandler(handler)
        handler.close()


def console(file: IO[str] | None = None) -> Console:
    """A console on standard output, or on a file, that shows what it is given as it is: `[/2]` is no markup.

    Names, labels and messages of other programs are in most lines.
    """
    made = _Console(file=file, highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = 140  # a log file or a pipe: nobody's window is narrow
    return made

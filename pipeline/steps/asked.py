"""Where that stands what a registered version is asked: a text, an item, a file, or standard input.

Texts and items come from the environment (TEXT, ITEM, FILE) or standard input, so that nothing in them is taken for a
config override or by the shell.
"""

import dataclasses
import errno
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline.config import DataConfig
from pipeline.config.champions import EvaluateConfig
from pipeline.core.data.readers import READERS
from pipeline.core.data.readers.objects import single
from pipeline.errors import ConfigError, DataError, fault

Line = tuple[int, str | DataError]
"""A line's number, and its text or why it has none."""
_GIVE = "Give TEXT='...', ITEM='<json>', FILE=<file>, or one text, or one JSON object, a line on standard input"


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """Where that stands what is asked."""

    name: str
    """For messages: TEXT, ITEM, the file's name, or `standard input`."""
    item: Any = None
    """Of TEXT and ITEM: what they say."""
    file: Path | None = None
    lines: Iterator[Line] | None = None
    """Of standard input, but for blank ones; there is at least one."""


def asked() -> Asked:
    """Look what is asked; of a file nothing is read yet.

    Raises:
        ConfigError: More than one of TEXT, ITEM and FILE is given, nothing is, or FILE is not there.
        DataError: ITEM is not valid JSON, or standard input is empty.
    """
    named = {name: value for name in ("TEXT", "ITEM", "FILE") if (value := os.environ.get(name))}
    if len(named) > 1:
        raise ConfigError(fault(" and ".join(named), "", "exclude each other", "Give only one of them"))
    if "TEXT" in named:
        return Asked(name="TEXT", item=named["TEXT"])
    if "ITEM" in named:
        return Asked(name="ITEM", item=parsed(named["ITEM"], "ITEM"))
    if "FILE" in named:
        return Asked(name=named["FILE"], file=checked_file(named["FILE"]))
    if sys.stdin.isatty():
        raise ConfigError(fault("TEXT", "", "is missing", _GIVE))
    lines = _lines()
    first = next(lines, None)
    if first is None:
        raise DataError(fault("standard input", "", "is empty", _GIVE))
    return Asked(name="standard input", lines=chain([first], lines))


def checked_file(name: str) -> Path:
    """The file that FILE names; a ConfigError where it cannot be opened."""
    file = Path(name).expanduser()
    try:
        if not file.is_fifo():  # who writes there would take it for the reader, and end
            file.open("rb").close()
        elif not os.access(file, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        rule, remedy = f"cannot be read ({error.strerror})", f"Give a file in one of the formats {', '.join(READERS)}"
        raise ConfigError(fault("FILE", name, rule, remedy)) from error
    return file


def with_file(config: EvaluateConfig, *, is_here: bool = True) -> EvaluateConfig:
    """Take the file that is scored from FILE, unless the config names it.

    Args:
        config: Of the command.
        is_here: Whether the file is on this machine.

    Raises:
        ConfigError: It cannot be opened, there is DATA beside it, or settings are for a file and there is none.
    """
    config = dataclasses.replace(config, file=config.file or os.environ.get("FILE", ""))
    if not config.file:
        if faults := list(config.data.of_folder().faults("data")):
            raise ConfigError(faults)
        return config
    if config.data.source != DataConfig().source:
        raise ConfigError(fault("FILE and DATA", "", "exclude each other", "Give only one of them"))
    if is_here:
        checked_file(config.file)
    return config


def check_out(out: str, file: Path | None) -> None:
    """Refuse a place where no file can be written, or which is the file that is read."""
    place = Path(out).expanduser()
    if file is not None and place.exists() and place.samefile(file):
        raise ConfigError(fault("OUT", out, "is the FILE that is read", "Give another file"))
    if place.is_dir() or not place.parent.is_dir() or not os.access(place.parent, os.W_OK):
        raise ConfigError(fault("OUT", out, "cannot be written", "Give a file in a folder that you may write to"))


def parsed(text: str, where: str) -> Any:
    """What a piece of JSON says; a DataError where it is none."""
    try:
        return json.loads(text, object_pairs_hook=single)
    except (ValueError, RecursionError) as error:  # also brackets within brackets
        remedy = 'Write one JSON object, such as {"text": "..."}'
        raise DataError(fault(where, text[:60], f"is not valid JSON ({error})", remedy)) from error


def _lines() -> Iterator[Line]:
    for number, raw in enumerate(sys.stdin.buffer, start=1):  # not splitlines: a text may hold U+2028
        try:
            text = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError as error:
            rule = f"is not UTF-8 (byte {error.start + 1} of the line)"
            yield number, DataError(fault(f"standard input:{number}", "", rule, "Send it as UTF-8"))
            continue
        if text:
            yield number, text

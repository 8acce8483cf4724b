"""What is asked of a champion: a text, an item, or the lines of a file or of standard input.

It comes from the environment (TEXT, ITEM, FILE) or standard input, so that nothing in it is taken for a config
override or by the shell.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError, DataError, fault


def items() -> Iterator[tuple[str, Any]]:
    """Yield what is asked, each with its place for messages.

    Raises:
        ConfigError: More than one of TEXT, ITEM and FILE is given, nothing is, or FILE is not there.
        DataError: A line is not valid JSON.
    """
    given = {name: value for name in ("TEXT", "ITEM", "FILE") if (value := os.environ.get(name))}
    if len(given) > 1:
        raise ConfigError(fault(" and ".join(given), "", "exclude each other", "Give only one of them"))
    if "TEXT" in given:
        yield "TEXT", given["TEXT"]
    elif "ITEM" in given:
        yield "ITEM", _parsed(given["ITEM"], "ITEM")
    elif "FILE" in given:
        try:
            raw = Path(given["FILE"]).read_bytes()
        except OSError as error:
            rule, remedy = f"cannot be read ({error.strerror})", "Give a file with one JSON object, or one text, a line"
            raise ConfigError(fault("FILE", given["FILE"], rule, remedy)) from error
        yield from _lines(raw, given["FILE"])
    elif sys.stdin.isatty():
        remedy = "Give TEXT='...', ITEM='<json>', FILE=<jsonl>, or lines on standard input"
        raise ConfigError(fault("TEXT", "", "is missing", remedy))
    else:
        yield from _lines(sys.stdin.buffer.read(), "standard input")


def _lines(raw: bytes, name: str) -> Iterator[tuple[str, Any]]:
    """A line is JSON; one that begins like no JSON is a plain text."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(fault(name, "", f"is not UTF-8 (byte {error.start + 1})", "Save it as UTF-8")) from error
    if not text.strip():
        remedy = "Give one JSON object, or one text, a line; or TEXT='...', ITEM='<json>', FILE=<jsonl>"
        raise DataError(fault(name, "", "is empty", remedy))
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: a text may hold U+2028
        item = line.strip()
        if item:
            where = f"{name}:{number}"
            yield where, _parsed(item, where) if item[0] in '{["' else item


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # also brackets within brackets
        remedy = 'Write one JSON object, such as {"text": "..."}'
        raise DataError(fault(where, text[:60], f"is not valid JSON ({error})", remedy)) from error

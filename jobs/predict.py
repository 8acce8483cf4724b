"""`make predict`: the champion of a task answers one text or item, or many of them, JSON lines in and out.

What is asked comes from the environment (TEXT, ITEM, FILE) or standard input, so that nothing in it is taken for
a config override or by the shell.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline.config.commands import PredictConfig
from pipeline.config.overrides import entry
from pipeline.errors import ConfigError, DataError, Fault


@entry("predict", PredictConfig)
def main(config: PredictConfig, console: Console) -> None:
    if not config.name:
        remedy = "Name a task that has a champion (`make status` lists them): make predict TASK=sentiment TEXT='...'"
        raise ConfigError(Fault(where="TASK", value="", rule="is missing", remedy=remedy))
    asked = list(items())
    from transformers.utils import logging as transformers_logging

    from pipeline.core.adapters.checkpoint import open_checkpoint
    from pipeline.core.bank.predictor import Predictor
    from pipeline.core.engine.bundle import read_bundle
    from pipeline.tracking.registry import fetch
    from pipeline.tracking.store import open_store

    transformers_logging.set_verbosity_error()
    folder = fetch(open_store(config.tracking, create=False), config.name)
    predictor = Predictor(open_checkpoint(read_bundle(folder).record.checkpoint))
    for answer in predictor.predict(folder, [item for _, item in asked], where=[origin for origin, _ in asked]):
        print(json.dumps(answer, ensure_ascii=False))


def items() -> Iterator[tuple[str, Any]]:
    """Yield what is asked, each with its place for messages.

    Raises:
        ConfigError: More than one of TEXT, ITEM and FILE is given, nothing is, or FILE is not there.
        DataError: A line is not valid JSON.
    """
    given = {name: value for name in ("TEXT", "ITEM", "FILE") if (value := os.environ.get(name))}
    if len(given) > 1:
        rule = "exclude each other"
        raise ConfigError(Fault(where=" and ".join(given), value="", rule=rule, remedy="Give only one of them"))
    if "TEXT" in given:
        yield "TEXT", given["TEXT"]
    elif "ITEM" in given:
        yield "ITEM", _parsed(given["ITEM"], "ITEM")
    elif "FILE" in given:
        try:
            raw = Path(given["FILE"]).read_bytes()
        except OSError as error:
            rule, remedy = f"cannot be read ({error.strerror})", "Give a file with one JSON object, or one text, a line"
            raise ConfigError(Fault(where="FILE", value=given["FILE"], rule=rule, remedy=remedy)) from error
        yield from _lines(raw, given["FILE"])
    elif sys.stdin.isatty():
        remedy = "Give TEXT='...', ITEM='<json>', FILE=<jsonl>, or lines on standard input"
        raise ConfigError(Fault(where="TEXT", value="", rule="is missing", remedy=remedy))
    else:
        yield from _lines(sys.stdin.buffer.read(), "standard input")


def _lines(raw: bytes, name: str) -> Iterator[tuple[str, Any]]:
    """A line is JSON; one that begins like no JSON is a plain text."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        rule = f"is not UTF-8 (byte {error.start + 1})"
        raise DataError(Fault(where=name, value="", rule=rule, remedy="Save it as UTF-8")) from error
    if not text.strip():
        remedy = "Give one JSON object, or one text, a line; or TEXT='...', ITEM='<json>', FILE=<jsonl>"
        raise DataError(Fault(where=name, value="", rule="is empty", remedy=remedy))
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: a text may hold U+2028
        item = line.strip()
        if item:
            where = f"{name}:{number}"
            yield where, _parsed(item, where) if item[0] in '{["' else item


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        remedy = 'Write one JSON object, such as {"text": "..."}'
        fault = Fault(where=where, value=text[:60], rule=f"is not valid JSON ({error})", remedy=remedy)
        raise DataError(fault) from error


if __name__ == "__main__":
    main()

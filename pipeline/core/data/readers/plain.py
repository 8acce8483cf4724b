"""Rows from plain text: a text a line, for a task that is asked one; a line may be a JSON object instead."""

from collections.abc import Iterator
from typing import Any

from pipeline.core.data.readers.objects import DECODER, sure
from pipeline.core.data.readers.reading import Reading, Record
from pipeline.errors import fault


def read_plain(reading: Reading) -> Iterator[Record]:
    """Read the lines: each is the only field of its task, or an object with all fields.

    Raises:
        DataError: Labelled rows are wanted, which no plain text has.
    """
    if reading.labelled:
        rule = f"holds texts without a target, and {reading.task.name} ({reading.task.kind}) is to learn one"
        raise reading.stop(None, rule, "Give the split as jsonl, csv, tsv, parquet or json")
    fields = list(reading.columns.places)
    for number, line in reading.lines():
        text = line.strip()
        if not text:
            continue
        item = _object(text)
        if item is not None:
            yield number, sure(item, reading, number)
        elif len(fields) == 1:
            place = reading.columns.places[fields[0]]
            yield number, {place if isinstance(place, str) else fields[0]: text}
        else:
            rule, remedy = f"is no JSON object with {' and '.join(fields)}", "Write one JSON object a line"
            yield number, [fault(reading.at(number), text[:60], rule, remedy)]


def _object(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        value = DECODER.decode(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None

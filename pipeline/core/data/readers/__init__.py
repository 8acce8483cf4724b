"""Rows from files of every format, for training, evaluation and prediction alike.

A reader yields `(number, values)` by the file's own column names, or `(number, faults)` where one row is bad and the
rest can still be read; it raises where the file cannot be read further. Only blank lines are skipped, but for one
between the rows of a table of one column, which is an empty cell.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from pipeline.config import DataConfig, TaskConfig
from pipeline.core.data.readers.columnar import read_columnar
from pipeline.core.data.readers.conll import LINES, read_conll
from pipeline.core.data.readers.delimited import read_delimited
from pipeline.core.data.readers.objects import read_objects
from pipeline.core.data.readers.plain import read_plain
from pipeline.core.data.readers.reading import Reading, Record, Values
from pipeline.core.data.readers.text import COMPRESSIONS, format_of
from pipeline.core.data.rows import Row, make_row
from pipeline.core.data.tags import told, write_as_bio
from pipeline.errors import DataError, Fault, fault

__all__ = ["READERS", "Record", "Values", "is_read", "read", "read_values"]

READERS: Mapping[str, Callable[[Reading], Iterator[Record]]] = {
    "jsonl": read_objects,
    "ndjson": read_objects,
    "json": read_objects,
    "csv": read_delimited,
    "tsv": read_delimited,
    "parquet": read_columnar,
    "conll": read_conll,
    "conllu": read_conll,
    "bio": read_conll,
    "iob": read_conll,
    "iob2": read_conll,
    "txt": read_plain,
}
"""Suffix -> reader; each may be compressed, with `.gz` or `.zst` behind it. Of tagging, labelled `.txt` is conll."""


def is_read(path: Path) -> bool:
    """Whether a file is in a format that is read, by its suffix."""
    return format_of(path) in READERS


def read_values(
    path: Path,
    task: TaskConfig,
    data: DataConfig | None = None,
    *,
    labelled: bool = True,
    notes: list[str] | None = None,
) -> Iterator[Record]:
    """Read one file: for each row its number and its values by canonical field, with `id` and `group`, or its faults.

    Args:
        path: The file; its suffix says how it is read.
        task: Whose fields are read. Types are not checked: `make_row` and `Task.parse_item` do that.
        data: Columns and encoding that the command sets.
        labelled: Whether the target is wanted; without it a `text` may stand for tokens, and a file of plain text is
            one text a line.
        notes: Takes in what was found out about the file, when it has been read.

    Raises:
        DataError: The file cannot be read, or not further.
    """
    reading = reading_of(path, task, data, labelled=labelled)
    records = records_of(reading)
    if "tags" in reading.columns.places:
        records = iter(read := list(records))
        if scheme := write_as_bio([values for _, values in read if isinstance(values, dict)]):
            reading.facts.append(told(scheme))
    yield from records
    if notes is not None and reading.facts:
        notes.append(f"{path}: {'; '.join(reading.facts)}.")


def reading_of(path: Path, task: TaskConfig, data: DataConfig | None = None, *, labelled: bool = True) -> Reading:
    """Begin to read a file: nothing is opened yet."""
    data = data or DataConfig()
    return Reading(path, task, {**task.columns, **data.columns}, labelled, data.encoding)


def read(
    path: Path, task: TaskConfig, data: DataConfig | None = None, *, notes: list[str] | None = None
) -> Iterator[Row | Fault]:
    """Read the rows of one file in order, and a fault with the line for whatever is wrong; `notes` as above."""
    try:
        for number, values in read_values(path, task, data, notes=notes):
            yield from values if isinstance(values, list) else make_row(values, task, f"{path}:{number}")
    except DataError as error:
        yield from (replace(one, of_file=True) for one in error.faults)


def records_of(reading: Reading) -> Iterator[Record]:
    """Read the rows of a file, in canonical fields; tags are as they stand there.

    Raises:
        DataError: The file cannot be read, or not further.
    """
    suffix = format_of(reading.path)
    if suffix not in READERS:
        formats = f"{', '.join(f'.{one}' for one in READERS)}, each also with .{' or .'.join(COMPRESSIONS)}"
        raise DataError(fault(reading.path, "", "is in no format that is read", f"Give a file of {formats}"))
    reader = READERS[suffix]
    if suffix == "txt" and "tags" in reading.columns.places:
        reader = read_conll
    for number, values in reader(reading):
        if isinstance(values, list):
            yield number, values
        elif faults := reading.columns.missing(values, reading.at(number)):
            yield number, faults
        else:
            known = {"lines": values[LINES]} if LINES in values and reading.labelled else {}
            yield number, reading.columns.canonical(values) | known

"""Rows from files: `<folder>/{train,validation,test}.{jsonl,csv,parquet,conll}`.

A reader yields `(line, values)` by the file's own column names, or a fault where one row is bad and the rest
can still be read; it raises where the file cannot be read further. Only wholly blank lines are skipped.
"""

import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.config import TaskConfig
from pipeline.core.data.rows import SPLITS, Row, Source, SplitSource, make_row
from pipeline.errors import DataError, Fault, fault

Values = Mapping[str, Any]
Reader = Callable[[Path, TaskConfig], Iterator[tuple[int, Values] | Fault]]


def split_files(folder: Path) -> dict[str, list[Path]]:
    """List the files of each split that `folder` holds, in a format that is read."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.stem in SPLITS and path.suffix[1:] in READERS and path.is_file():
            found.setdefault(path.stem, []).append(path)
    return found


def open_folder(folder: Path, task: TaskConfig) -> Source:
    """Find the splits of one domain; their rows are read when they are iterated over.

    Raises:
        DataError: Two files for one split, or no file to train on.
    """
    found = split_files(folder)
    faults = []
    for name, paths in found.items():
        if len(paths) > 1:
            files = " and ".join(path.name for path in paths)
            faults.append(fault(folder, "", f"has two files for one split: {files}", f"Keep one {name} file"))
    if "train" not in found:
        files = ", ".join(path.name for paths in found.values() for path in paths)
        remedy = f"Add train.jsonl (or {', '.join(f'.{suffix}' for suffix in READERS if suffix != 'jsonl')})"
        faults.append(fault(folder, "", f"has {files} and no train file: there is nothing to train on", remedy))
    if faults:
        raise DataError(faults)
    splits = {name: SplitSource(str(paths[0]), read(paths[0], task)) for name, paths in found.items()}
    return Source(splits, tuple(_unread(folder)))


def read(path: Path, task: TaskConfig) -> Iterator[Row | Fault]:
    """Read one file: its rows in order, and a fault with the line for whatever is wrong."""
    reader = READERS[path.suffix[1:]]
    try:
        for record in reader(path, task):
            if isinstance(record, Fault):
                yield record
                continue
            line, values = record
            where = f"{path}:{line}"
            if missing := missing_fields(values, task, where):
                yield from missing
                continue
            named = {name: values[column] for name, column in task.field_names.items()}
            own = {"id": values.get("id"), "group": values.get(task.group or "")}
            yield from make_row({**named, **own}, task, where)
    except DataError as error:
        yield from error.faults


def missing_fields(there: Any, task: TaskConfig, where: str) -> list[Fault]:
    """Name every column of the task that is not among those there."""
    faults = []
    if task.group and task.group not in there:
        rule = (
            f"has no field `{task.group}`, by which rows are grouped (it has: {', '.join(map(str, there)) or 'none'})"
        )
        faults.append(fault(where, "", rule, f"Add it, or take `group` out of conf/task/{task.name}.yaml"))
    for name, column in task.field_names.items():
        if column not in there:
            rule = f"has no field `{column}` (it has: {', '.join(map(str, there)) or 'none'})"
            mapping = f"`fields: {{{name}: <its name in your files>}}`"
            remedy = f"Add it, or map it in conf/task/{task.name}.yaml by {mapping}"
            faults.append(fault(where, "", rule, remedy))
    return faults


def _unread(folder: Path) -> Iterator[str]:
    for path in sorted(folder.iterdir()):
        is_split, is_format = path.stem in SPLITS, path.suffix[1:] in READERS
        if path.is_file() and is_split != is_format:
            wanted = f"formats are {', '.join(READERS)}" if is_split else f"splits are {', '.join(SPLITS)}"
            yield f"{path} was not read: {wanted}."


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and decode the lines, with their line ends; a byte order mark is dropped."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                rule = f"is not UTF-8 (byte {error.start + 1} of the line)"
                raise _stop(f"{path}:{number}", rule, "Save the file as UTF-8") from error


def _stop(where: str, rule: str, remedy: str) -> DataError:
    return DataError(fault(where, "", rule, remedy))


def _reason(error: Exception) -> str:
    """Say what is wrong with a piece of JSON; its own line number would be taken for the file's."""
    return f"{error.msg} (character {error.pos + 1})" if isinstance(error, json.JSONDecodeError) else str(error)


def _read_jsonl(path: Path, task: TaskConfig) -> Iterator[tuple[int, Values] | Fault]:
    remedy = "Write one JSON object a line"
    for number, line in _lines(path):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            values = json.loads(line.rstrip())
        except (ValueError, RecursionError) as error:  # a number of 5,000 digits, 100,000 brackets
            yield fault(where, "", f"is not valid JSON: {_reason(error)}", remedy)
            continue
        if isinstance(values, dict):
            yield number, values
        else:
            yield fault(where, line.strip()[:60], "is no JSON object", remedy)


def _read_csv(path: Path, task: TaskConfig) -> Iterator[tuple[int, Values] | Fault]:
    csv.field_size_limit(sys.maxsize)  # a cell may hold a whole article
    rows = csv.reader((line for _, line in _lines(path)), strict=True)
    header: list[str] = []
    start = 1
    while True:
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            remedy = "Put text with quotes or line breaks in double quotes, and double the quotes in it"
            raise _stop(f"{path}:{start}", f"is not valid CSV: {error}", remedy) from error
        where, number, start = f"{path}:{start}", start, rows.line_num + 1
        if not cells:
            continue
        if not header:
            header = cells
            if faults := missing_fields(header, task, where):
                raise DataError(faults)
        elif len(cells) != len(header):
            rule = f"has {len(cells)} cells where the header has {len(header)}"
            yield fault(where, "", rule, "Put text with commas in double quotes")
        else:
            values, faults = _parse_cells(dict(zip(header, cells, strict=True)), task, where)
            yield from faults
            if not faults:
                yield number, values


def _parse_cells(cells: dict[str, str], task: TaskConfig, where: str) -> tuple[Values, list[Fault]]:
    """Parse the JSON in cells that hold no text; tokens and tags may be separated by spaces instead."""
    values: dict[str, Any] = dict(cells)
    faults = []
    for name, column in task.field_names.items():
        cell = cells[column].strip()
        if task.types[name] is str:
            continue
        if name in ("tokens", "tags") and not cell.startswith(('["', "[]")):
            values[column] = cell.split()
            continue
        try:
            values[column] = json.loads(cell)
        except (ValueError, RecursionError) as error:
            remedy = "Write lists, numbers and objects in a cell as JSON"
            faults.append(fault(where, cell[:60], f"is not valid JSON in column `{column}`: {_reason(error)}", remedy))
    return values, faults


def _read_parquet(path: Path, task: TaskConfig) -> Iterator[tuple[int, Values] | Fault]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if faults := missing_fields(names, task, str(path)):
                raise DataError(faults)
            wanted = [name for name in names if name in {*task.field_names.values(), "id", task.group}]
            batches = file.iter_batches(columns=wanted)
            yield from enumerate((values for batch in batches for values in batch.to_pylist()), start=1)
    except (
        pyarrow.ArrowException,
        OSError,
        ValueError,
        OverflowError,
    ) as error:  # a year 10,000
        raise _stop(str(path), f"is not valid Parquet: {error}", "Write the file again") from error


def _read_conll(path: Path, task: TaskConfig) -> Iterator[tuple[int, Values] | Fault]:
    """One token a line, token first and tag last; a blank line ends the sentence."""
    if "tags" not in task.field_names:
        rule = f"is a .conll file, which holds tagging; {task.name} is {task.kind}"
        raise _stop(str(path), rule, "Give the split as jsonl, csv or parquet")
    tokens: list[str] = []
    tags: list[str] = []
    start = 0
    for number, raw in _lines(path):
        line = raw.rstrip("\r\n")
        if not line.strip() or line.startswith("-DOCSTART-"):
            if tokens:
                yield start, {task.field_names["tokens"]: tokens, task.field_names["tags"]: tags}
            tokens, tags = [], []
            continue
        columns = line.split("\t") if "\t" in line else line.split()
        if len(columns) < 2 or not columns[-1]:
            remedy = "Give the token first and its tag last, separated by a tab or a space"
            yield fault(f"{path}:{number}", line[:60], "has a token without a tag", remedy)
            continue
        if not tokens:
            start = number
        tokens.append(columns[0])
        tags.append(columns[-1])
    if tokens:
        yield start, {task.field_names["tokens"]: tokens, task.field_names["tags"]: tags}


READERS: Mapping[str, Reader] = {
    "jsonl": _read_jsonl,
    "csv": _read_csv,
    "parquet": _read_parquet,
    "conll": _read_conll,
}

"""Records into a file, as jsonl, csv, tsv or parquet by its name: there whole, or not at all."""

import csv
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pipeline.files import new_file

if TYPE_CHECKING:
    from pyarrow import DataType, Table

Record = Mapping[str, Any]

_TOGETHER = 4096
"""Records of a parquet file that are in memory at once."""


def write_records(file: Path, records: Iterable[Record]) -> None:
    """Write plain data to a file, which replaces one that is there.

    Columns are named by the keys of all records, those of records with an `error` last. What is no text stands in a
    cell of csv as JSON, and what a record lacks is an empty one.

    Args:
        file: Its suffix is one of `FORMATS`.
        records: They are taken one after another and not kept in memory.
    """
    with new_file(file) as draft:
        FORMATS[file.suffix](draft, records)


def _write_jsonl(draft: Path, records: Iterable[Record]) -> None:
    with draft.open("w", encoding="utf-8", newline="\n") as out:
        out.writelines(json_line(record) for record in records)


def json_line(record: Record) -> str:
    """A record as one line, with its end."""
    return json.dumps(record, ensure_ascii=False) + "\n"


def _write_csv(draft: Path, records: Iterable[Record], delimiter: str = ",") -> None:
    with _kept() as kept, draft.open("w", encoding="utf-8", newline="") as out:
        plain, quoted = (
            csv.writer(out, delimiter=delimiter, lineterminator="\n", quoting=quoting)
            for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
        )
        columns = _keep(kept, records)
        plain.writerow(columns)
        for record in _read(kept):
            cells = [_cell(record.get(column)) for column in columns]
            # Before Python 3.13 a carriage return alone is not quoted, and ends a line for others.
            (quoted if any("\r" in cell for cell in cells) else plain).writerow(cells)


def _write_tsv(draft: Path, records: Iterable[Record]) -> None:
    _write_csv(draft, records, "\t")


def _write_parquet(draft: Path, records: Iterable[Record]) -> None:
    import pyarrow
    from pyarrow import parquet

    with _kept() as kept:
        columns = _keep(kept, records)
        # What a column holds is known when all of it has been seen: an error may stand in the last row alone.
        schemas = [_table(some, columns).schema for some in _batches(kept)]
        schema = pyarrow.unify_schemas(schemas, promote_options="permissive")
        types = _types_of_lists()
        for place, column in enumerate(schema):
            if column.name in types and column.type in (pyarrow.null(), pyarrow.list_(pyarrow.null())):
                schema = schema.set(place, column.with_type(types[column.name]))
        with parquet.ParquetWriter(draft, schema) as writer:
            for some in _batches(kept):
                writer.write_table(pyarrow.Table.from_pylist(some, schema=schema))


def _types_of_lists() -> "dict[str, DataType]":
    """The columns of answers that may be empty in every row: files of two days shall have the same types."""
    import pyarrow

    text, number = pyarrow.string(), pyarrow.int64()
    words = [("type", text), ("text", text), ("start", number), ("end", number)]
    places = [("start_char", number), ("end_char", number), ("score", pyarrow.float64())]
    entity = pyarrow.struct([*words, *places])
    return {"labels": pyarrow.list_(text), "tags": pyarrow.list_(text), "entities": pyarrow.list_(entity)}


def _table(records: list[Record], columns: list[str]) -> "Table":
    import pyarrow

    return pyarrow.table({column: [record.get(column) for record in records] for column in columns})


def _kept() -> IO[str]:
    return tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n")


def _keep(kept: IO[str], records: Iterable[Record]) -> list[str]:
    """Put the records on disk, a line each; return the names of all columns."""
    whole: dict[str, None] = {}
    faulty: dict[str, None] = {}
    for record in records:
        (faulty if "error" in record else whole).update(dict.fromkeys(record))
        kept.write(json_line(record))
    return list(whole | faulty)


def _read(kept: IO[str]) -> Iterator[Record]:
    kept.seek(0)
    yield from map(json.loads, kept)


def _batches(kept: IO[str]) -> Iterator[list[Record]]:
    records = _read(kept)
    while some := list(islice(records, _TOGETHER)):
        yield some


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


FORMATS: Mapping[str, Callable[[Path, Iterable[Record]], None]] = {
    ".jsonl": _write_jsonl,
    ".csv": _write_csv,
    ".tsv": _write_tsv,
    ".parquet": _write_parquet,
}

"""What a file is read as, for the tests of readers: its rows, their fields, its faults and notes."""

from pathlib import Path
from typing import Any

from pipeline.config import DataConfig, TaskConfig
from pipeline.core.data.readers import read, read_values
from pipeline.core.data.rows import Row
from pipeline.errors import DataError, Fault


def rows(path: Path, task: TaskConfig, data: DataConfig | None = None) -> list[Row]:
    """The rows of a file without faults."""
    records = list(read(path, task, data))
    assert all(isinstance(record, Row) for record in records), records
    return [record for record in records if isinstance(record, Row)]


def faults(path: Path, task: TaskConfig, data: DataConfig | None = None) -> list[Fault]:
    """The faults of a file."""
    return [record for record in read(path, task, data) if isinstance(record, Fault)]


def fields(path: Path, task: TaskConfig, data: DataConfig | None = None) -> list[dict[str, Any]]:
    """The fields of a file's rows."""
    return [dict(row.fields) for row in rows(path, task, data)]


def lines(path: Path, records: list[Row]) -> list[int]:
    """The numbers of rows' lines."""
    return [int(row.origin.removeprefix(f"{path}:")) for row in records]


def notes(path: Path, task: TaskConfig, data: DataConfig | None = None, *, labelled: bool = True) -> list[str]:
    """What is told of a file when it has been read, without its name."""
    found: list[str] = []
    for _ in read_values(path, task, data, labelled=labelled, notes=found):
        pass
    return [note.removeprefix(f"{path}: ") for note in found]


def asked(path: Path, task: TaskConfig, data: DataConfig | None = None) -> list[dict[str, Any]]:
    """The values of a file that is read for prediction, without what is not there; faults as text under `faults`."""
    found = []
    for _, values in read_values(path, task, data, labelled=False):
        if isinstance(values, list):
            found.append({"faults": "\n".join(map(str, values))})
        else:
            found.append({name: value for name, value in values.items() if value is not None})
    return found


def stopped(path: Path, task: TaskConfig, data: DataConfig | None = None) -> str:
    """The message of what keeps a file from being read."""
    try:
        list(read_values(path, task, data))
    except DataError as error:
        return str(error)
    raise AssertionError(f"{path} was read")

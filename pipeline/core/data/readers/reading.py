"""A file as a reader is given it: what is wanted of its rows, and where what it finds out about the file goes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.config import TaskConfig
from pipeline.config.task import Column
from pipeline.core.data.columns import Columns, columns_of
from pipeline.core.data.readers.text import lines
from pipeline.errors import DataError, Fault, fault

Values = dict[str, Any]
Record = tuple[int, Values | list[Fault]]
"""A row's number, and what it holds or what is wrong with it; the number is that of its line where it has one."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where tokens and tags are in conll; columns are numbered from 1."""

    width: int
    """Columns of a line."""
    tokens: int
    tags: int | None
    """None: there are no tags."""
    key: str = ""
    """The key of the tag, where its column holds several."""
    counting: tuple[int, ...] = ()
    """Columns at the beginning that count sentences, or the tokens of each."""
    others: tuple[int, ...] = ()
    """Further columns that hold tags."""


@dataclass(slots=True)
class Reading:
    """One file that is read."""

    path: Path
    task: TaskConfig
    given: Mapping[str, Column]
    """Canonical field -> column, as the task and the command say."""
    labelled: bool
    """Whether the target is wanted."""
    encoding: str | None
    like: Layout | None = None
    """Where the columns are in another file of the same source; conll alone."""
    facts: list[str] = field(default_factory=list)
    """What was found out, and is not what everybody would expect: clauses of a note."""
    columns: Columns = field(init=False)
    """Where the fields are; a reader adds what it learns of the file."""

    def __post_init__(self) -> None:
        self.columns = columns_of(self.task, self.given, labelled=self.labelled)

    def lines(self) -> Iterator[tuple[int, str]]:
        """The lines of the file, numbered, with their ends."""
        return lines(self.path, self.encoding, self.facts)

    def at(self, number: int) -> str:
        """The place of a row, for messages."""
        return f"{self.path}:{number}"

    def stop(self, number: int | None, rule: str, remedy: str) -> DataError:
        """What is raised where the file cannot be read further."""
        return DataError(fault(self.path if number is None else self.at(number), "", rule, remedy))


def of_one_name(count: int) -> tuple[str, str]:
    """Rule and remedy of a column that is read and stands there several times."""
    return f"has {count} columns of this name, and one of them is meant", "Rename the others"

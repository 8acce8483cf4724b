"""Rows that a registered version is asked about, and its answers, in order: nothing that is asked is left out.

A row that cannot be answered is an error in the place of its answer. A file that cannot be read, and a TEXT or ITEM
that cannot be answered, are refused as a whole.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any, final

from pipeline.config import DataConfig, TaskConfig
from pipeline.config.task import mapped_faults
from pipeline.core.adapters.checkpoint import load_checkpoint, open_checkpoint
from pipeline.core.bank.predictor import Predictor
from pipeline.core.data.readers import is_read, read_values
from pipeline.core.data.readers.text import lines
from pipeline.core.data.rows import Row
from pipeline.core.engine.bundle import Bundle
from pipeline.core.tasks.kinds import restore
from pipeline.core.tasks.task import Answer
from pipeline.errors import ConfigError, DataError, Fault, PipelineError, fault
from pipeline.steps.asked import Asked, parsed

_TOGETHER = 512
"""Rows that are in memory at once, and answered together."""
_OBJECT = re.compile(r'\{\s*["}]')
"""How a JSON object begins: a text may begin with a brace too."""


@final
class Questions:
    """What is asked, as rows of a bundle's task; iterated over once."""

    def __init__(self, asked: Asked, bundle: Bundle, data: DataConfig) -> None:
        """Read a file to its end, so that what is wrong with it as a whole is told before anything is answered.

        Raises:
            ConfigError: Columns are named that the task does not read, or of what is no file.
            DataError: A file has no rows or cannot be read, or a TEXT or ITEM cannot be answered.
        """
        record = bundle.record
        canonical = dataclasses.replace(record.task, columns={name: name for name in record.task.field_names})
        self._asked, self._config, self._data = asked, record.task, data
        self._task, self._canonical = (
            restore(config, record.labels, record.method.virtual_tokens) for config in (record.task, canonical)
        )
        self.notes: list[str] = []
        """What was found out about a file."""
        self.total: int | None = None
        """Rows; None where that is not known before the last one."""
        self._rows: Iterable[Row | Answer]
        if faults := list(_column_faults(asked, data, record.task)):
            raise ConfigError(faults)
        if asked.file is None and asked.lines is None:
            self.total, self._rows = 1, [self._task.parse_item(asked.item, where=asked.name)]
            return
        rows = self._parsed(self._records([]))
        if asked.file is not None and asked.file.is_file():
            self.total = sum(1 for _ in self._records(self.notes))
        first = list(islice(rows, 1))  # of a pipe, which can be read once alone
        if not first:
            raise DataError(fault(asked.name, "", "has no rows", "Give a file with at least one text or row"))
        self._rows = chain(first, rows)

    def __iter__(self) -> Iterator[Row | Answer]:
        """Yield each row; in place of one that cannot be answered its answer, which is its number and the error."""
        yield from self._rows

    def _records(self, notes: list[str]) -> Iterator[tuple[int, Any]]:
        """Line, or number, of each row, and the row: a line of text, values by field, or what is wrong with it."""
        file = self._asked.file
        if file is None:
            yield from self._asked.lines or ()
        elif is_read(file):
            yield from read_values(file, self._config, self._data, labelled=False, notes=notes)
        else:
            facts: list[str] = []
            yield from (
                (number, text) for number, line in lines(file, self._data.encoding, facts) if (text := line.strip())
            )
            if facts:
                notes.append(f"{file}: {'; '.join(facts)}.")

    def _parsed(self, records: Iterable[tuple[int, Any]]) -> Iterator[Row | Answer]:
        for number, found in records:
            where = f"{self._asked.name}:{number}"
            try:
                if isinstance(found, DataError):
                    raise found
                if isinstance(found, list):
                    raise DataError(found)
                yield (
                    self._canonical.parse_item(found, where=where)
                    if isinstance(found, Mapping)
                    else self._line(found, where)
                )
            except DataError as error:
                yield {"row": number, "error": " ".join(str(error).split("\n"))}

    def _line(self, text: str, where: str) -> Row:
        """A line of text: an item where it is JSON that can be one, which a JSON object has to be."""
        if _OBJECT.match(text):
            return self._task.parse_item(parsed(text, where), where=where)
        if text.startswith(('"', "[")):
            try:
                return self._task.parse_item(parsed(text, where), where=where)
            except DataError:  # a text begins so
                pass
        return self._task.parse_item(text, where=where)


def _column_faults(asked: Asked, data: DataConfig, task: TaskConfig) -> Iterator[Fault]:
    if asked.file is not None:
        yield from mapped_faults(data.columns, task)
        return
    for name, column in data.columns.items():
        rule = f"is for the columns of a FILE, and {asked.name} has none"
        yield fault(f"data.columns.{name}", column, rule, "Leave it out, or give FILE")


@final
class Answers:
    """The answers of a bundle to rows, in their order; iterated over once."""

    def __init__(self, bundle: Bundle, questions: Iterable[Row | Answer]) -> None:
        """Load the checkpoint of the bundle; what is asked and no row is its own answer."""
        self._bundle, self._left = bundle, iter(questions)
        self._predictor = Predictor(load_checkpoint(open_checkpoint(bundle.record.checkpoint)))
        self._num, self._num_unanswered, self._num_partial, self._first = 0, 0, 0, ""

    def __iter__(self) -> Iterator[Answer]:
        while some := list(islice(self._left, _TOGETHER)):
            said = iter(self._predictor.answer(self._bundle, [one for one in some if isinstance(one, Row)]))
            for one in some:
                answer = next(said) if isinstance(one, Row) else one
                self._num += 1
                self._num_partial += "truncated" in answer
                if "error" in answer:
                    self._num_unanswered += 1
                    self._first = self._first or answer["error"]
                yield answer

    @property
    def partial(self) -> str:
        """How many of the answers that were given so far are to a part of their text; empty where none is."""
        if not self._num_partial:
            return ""
        read = "reads" if self._num_partial == 1 else "read"
        of = f"{self._num_partial:,} of {self._num - self._num_unanswered:,} answers {read} only part of their text"
        return f'{of}, which is longer than the model reads; each says "truncated": true.'

    def raise_unanswered(self) -> None:
        """Raise a PipelineError where some of the answers were errors."""
        if self._num_unanswered:
            which = f"{self._num_unanswered} of {self._num} rows have no answer but an error"
            raise PipelineError(f"{which}. The first: {self._first}")

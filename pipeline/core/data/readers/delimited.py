"""Rows from csv and its kin: the delimiter is found, and cells that hold no text are parsed."""

import ast
import csv
import json
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from pipeline.core.data.readers.objects import reason
from pipeline.core.data.readers.reading import Reading, Record, of_one_name
from pipeline.core.data.readers.text import format_of
from pipeline.errors import DataError, Fault, fault

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_NONE = "\x1f"
"""Stands between the cells of a file with one column: no text has it."""


def read_delimited(reading: Reading) -> Iterator[Record]:
    """Read a file with a header and a row a line, or over several lines where a cell holds line breaks."""
    csv.field_size_limit(sys.maxsize)  # a cell may hold a whole article
    numbered = [(number, line) for number, line in reading.lines()]
    first = next((i for i, (_, line) in enumerate(numbered) if line.strip()), len(numbered))
    usual = "\t" if format_of(reading.path) == "tsv" else ","
    named = re.fullmatch(r'"?sep=([^\w"])"?', numbered[first][1].strip("\r\n ")) if first < len(numbered) else None
    if named:  # as Excel writes it
        numbered[first] = (numbered[first][0], "\n")
        first = next((i for i, (_, line) in enumerate(numbered) if line.strip()), len(numbered))
    if first == len(numbered):
        return
    delimiter = named[1] if named else _found(reading, numbered[first][1], usual)
    if delimiter not in (usual, _NONE):
        reading.facts.append(f"cells separated by {_DELIMITERS.get(delimiter, repr(delimiter))}")
    plain = delimiter in ("\t", _NONE) and _has_bare_quotes([line for _, line in numbered], delimiter)
    lines = (line for _, line in numbered)
    if not plain and _has_blanks_before_quotes([line for _, line in numbered], delimiter):
        reading.facts.append("blanks before quotation marks dropped")
        rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    elif plain:
        reading.facts.append("quotation marks taken as they stand")
        rows = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE, strict=True)
    else:
        rows = csv.reader(lines, delimiter=delimiter, strict=True)
    yield from _rows(reading, rows, delimiter)


def _rows(reading: Reading, rows: Any, delimiter: str) -> Iterator[Record]:
    header: list[str] = []
    blank: list[int] = []
    start = 1
    while True:
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            remedy = "Put text with quotes or line breaks in double quotes, and double the quotes in it"
            why = str(error).partition(" - ")[0]  # what follows is advice to who writes programs
            raise reading.stop(start, f"is not valid CSV: {why}", remedy) from error
        number, start = start, rows.line_num + 1
        if not any(map(str.strip, cells)) and (not header or len(cells) < min(len(header), 2)):
            if len(header) == 1 and not reading.labelled:  # some programs write an empty cell so
                blank.append(number)
            continue  # a blank line, also one of blanks
        for one in blank:  # between others: those at the end nobody asks
            rule = "is a blank line, which in a file of one column is a row without a text"
            yield one, [fault(reading.at(one), "", rule, "Write one, or remove the line")]
        blank.clear()
        if not header:
            header = [cell.strip() for cell in cells]
            _check_header(reading, header, number)
        elif len(cells) != len(header):
            noun = "cell" if len(cells) == 1 else "cells"
            rule = f"has {len(cells)} {noun} where the header has {len(header)}"
            what = _DELIMITERS.get(delimiter, f"`{delimiter}`")
            yield number, [fault(reading.at(number), "", rule, f"Put text with {what} in double quotes")]
        elif sorted(map(str.strip, cells)) == sorted(header):
            rule = "is a header again, as where two files were pasted together"
            yield number, [fault(reading.at(number), delimiter.join(cells)[:60], rule, "Remove the line")]
        else:
            values, faults = _parsed(dict(zip(header, cells, strict=True)), reading, number)
            yield number, faults or values


def _check_header(reading: Reading, header: Sequence[str], number: int) -> None:
    where = reading.at(number)
    faults = reading.columns.missing(header, where)
    for name in dict.fromkeys(header):
        if header.count(name) > 1 and name in reading.columns.tops():
            faults.append(fault(where, name, *of_one_name(header.count(name))))
    if faults and header[0].startswith('{"'):
        name = f"{reading.path.name.split('.')[0]}.jsonl"
        faults = [fault(where, "", f"is JSON, and its name ends in {reading.path.suffix}", f"Call it {name}")]
    elif len(header) == 1 and faults:
        faults = _one_cell(reading, header[0], where) or _headless(reading, faults)
    elif faults and "tokens" in reading.columns.places and {"token", "word"} & {name.lower() for name in header}:
        rule = f"looks like a table with a token a line (it has: {', '.join(header)})"
        remedy = "Write it as .conll, the token and its tag on a line and a blank line behind each sentence"
        faults = [fault(where, "", rule, f"{remedy}; or map a column of whole sentences by data.columns.tokens")]
    else:
        faults = _headless(reading, faults)
    if faults:
        raise DataError(faults)


def _headless(reading: Reading, faults: list[Fault]) -> list[Fault]:
    """The same faults; where no column is there, perhaps since the line is none of names, they say that."""
    if len(faults) < len(reading.columns.places) or not all("<its name" in one.remedy for one in faults):
        return faults
    more = "; if this line is a row, put one with the names of the columns before it"
    return [replace(one, remedy=one.remedy + more) for one in faults]


def _one_cell(reading: Reading, cell: str, where: str) -> list[Fault]:
    """One fault in place of those of each column, where a whole header is one cell: its delimiter is not known."""
    if cell in reading.columns.tops():
        return []  # all others are missing
    marks = [mark for mark in dict.fromkeys(cell) if not mark.isalnum() and mark not in '_-." ']
    named = next((mark for mark in marks if not reading.columns.missing(_split(cell, mark), "")), None)
    if named is None and len(reading.columns.places) == 1:
        return []  # it may be the only column of the file, under another name
    *known, last = _DELIMITERS.values()
    places = reading.columns.places.values()
    read = " and ".join(place if isinstance(place, str) else ", ".join(place) for place in places)
    verb = "is" if len(places) == 1 else "are"
    rule = f"is one cell, where {read} {verb} read: cells are separated by {', '.join(known)} or {last}"
    rule += f", not by `{named}`" if named else ""
    remedy = f"Put `sep={named or '<delimiter>'}` on a line before the header, or write the file with one of those"
    return [fault(where, cell[:60], rule, remedy)]


def _found(reading: Reading, header: str, usual: str) -> str:
    """The delimiter with which the header has all columns that are read; else the one that makes most cells of it."""
    candidates = [usual, *(one for one in _DELIMITERS if one != usual)]
    cells = {one: _split(header, one) for one in candidates}
    for one in candidates:
        if not reading.columns.missing(cells[one], ""):
            return one if len(cells[one]) > 1 or any(len(other) > 1 for other in cells.values()) else _NONE
    return max(candidates, key=lambda one: len(cells[one]))


def _split(line: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line.strip("\r\n")], delimiter=delimiter), [])]
    except csv.Error:
        return []


def _has_bare_quotes(lines: Sequence[str], delimiter: str) -> bool:
    """Whether quotation marks hold no cells together: each line has all cells of a row, and by the marks it has not."""
    rows = [line for line in lines if line.strip("\r\n")]
    if '"' not in "".join(rows) or len({row.count(delimiter) for row in rows}) > 1:
        return False
    try:
        widths = {len(cells) for cells in csv.reader(lines, delimiter=delimiter, strict=True) if cells}
    except csv.Error:
        return True
    return widths != {rows[0].count(delimiter) + 1}


def _has_blanks_before_quotes(lines: Sequence[str], delimiter: str) -> bool:
    """Whether cells are in quotation marks behind blanks: without the blanks each row has all cells, and some cell is
    not as it stands."""
    if not any(f'{delimiter} "' in line for line in lines):
        return False
    try:
        kept, dropped = (
            list(filter(None, csv.reader(lines, delimiter=delimiter, skipinitialspace=skip, strict=True)))
            for skip in (False, True)
        )
    except csv.Error:
        return False
    return len({len(cells) for cells in dropped}) == 1 and any(cell.startswith(' "') for row in kept for cell in row)


def _parsed(cells: dict[str, str], reading: Reading, number: int) -> tuple[dict[str, Any], list[Fault]]:
    """Parse what is no text: lists, objects and numbers; tokens and tags may be separated by blanks instead."""
    values: dict[str, Any] = dict(cells)
    faults = []
    for name, place in reading.columns.places.items():
        if isinstance(place, list):
            continue
        column = place if place in cells else place.split(".")[0]
        cell, wanted = cells.get(column, "").strip(" \t\r\n"), reading.task.types[name]
        if column not in cells or (wanted is str and column == place):
            continue
        try:
            values[column] = _value(cell, name, wanted)
        except (ValueError, RecursionError) as error:
            rule = f"is not valid JSON in column `{column}`: {reason(error)}"
            remedy = "Write lists and objects in a cell as JSON"
            faults.append(fault(reading.at(number), cell[:60], rule, remedy))
    return values, faults


def _value(cell: str, name: str, wanted: type) -> Any:
    if name in ("tokens", "tags") and not cell.startswith(('["', "['", "[]")):
        return [part for part in re.split(r"[ \t\r\n]+", cell) if part]
    if wanted in (int, float):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            return cell  # the letter of an option, or what will be refused
    is_tuple = wanted is list and cell.startswith("(") and cell.endswith(")")
    if not is_tuple and not cell.startswith(("[", "{")):
        return cell
    try:
        return json.loads(cell)
    except ValueError:
        try:
            return _printed(cell)
        except ValueError:
            if is_tuple:  # a label may stand in brackets
                return cell
            raise


def _printed(cell: str) -> Any:
    """Read a list or object that Python printed, as pandas writes it; what only looks like it is refused.

    Raises:
        ValueError: It is none, with what is wrong with it as JSON.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of escapes that are none
        try:
            value = ast.literal_eval(cell)
            if repr(value) == cell:
                return list(value) if isinstance(value, tuple) else value
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            pass
    return json.loads(cell)

"""Rows from conll: a token a line, a sentence up to a blank line. Columns are found by what stands in them.

That is CoNLL-2003 and its kin (token, part of speech, chunk, tag), CoNLL-U and its kin (a counting column first, ranges
and empty nodes, comments, the tag in MISC), and whatever lies between: GermEval, WNUT, Universal NER.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from pipeline.config.task import Column
from pipeline.core.data.readers.reading import Layout, Reading, Record, Values
from pipeline.core.data.tags import is_tag
from pipeline.errors import DataError, Fault, fault

_CHUNKS = frozenset(["NP", "VP", "PP", "ADJP", "ADVP", "SBAR", "PRT", "CONJP", "INTJ", "LST", "UCP"])
"""Types of phrases: BIO too, but no entities."""
_NO_TOKEN = re.compile(r"\d+[-.]\d+")
"""CoNLL-U: `1-2` is a range of tokens written as one, `1.1` an empty node."""
_MISC = 10
"""CoNLL-U: how many columns it has, of which the last holds `Key=Value|Key=Value`."""

LINES = "\n"
"""The key of the lines that a sentence's tokens stand on; no column is called so."""

Line = tuple[int, list[str]]
"""A line's number and cells."""


def read_conll(reading: Reading) -> Iterator[Record]:
    """Read the sentences; each has the number of its first token's line."""
    if "tags" not in reading.task.types:
        rule = f"is a conll file, which holds tagging; {reading.task.name} is {reading.task.kind}"
        raise reading.stop(None, rule, "Give the split as jsonl, csv or parquet")
    sentences = _sentences(reading)
    if not any(sentences):
        return
    reading.like = layout = _layout(reading, sentences)
    _tell(reading, layout)
    for sentence in sentences:
        lines = [line for line in sentence if not _is_comment(line, layout)]
        if layout.counting:
            lines = [line for line in lines if not _NO_TOKEN.fullmatch(line[1][: layout.counting[-1]][-1])]
        if not lines:
            continue
        faults = [one for line in lines for one in _line_faults(line, layout, reading)]
        tokens = [cells[layout.tokens - 1] for _, cells in lines if len(cells) == layout.width]
        values: Values = {"tokens": tokens}
        if reading.labelled and not faults:
            values["tags"] = [_tag(cells, layout) for _, cells in lines]
        places = reading.columns.places
        numbers = [number for number, _ in lines]
        first, last = numbers[0], numbers[-1]
        found = {str(places[name]): value for name, value in values.items()}
        found[LINES] = range(first, last + 1) if last - first + 1 == len(numbers) else numbers
        yield first, faults or found


def _layout(reading: Reading, sentences: Sequence[Sequence[Line]]) -> Layout:
    """Find the columns: those that are set, else a column that counts, the tags, and the tokens.

    Raises:
        DataError: There is no such column, or no column with tags.
    """
    lines = [line for sentence in sentences for line in sentence]
    plain = [cells for _, cells in lines if not cells[0].startswith("#")] or [cells for _, cells in lines]
    width = max(Counter(map(len, plain)).items(), key=lambda item: (item[1], item[0]))[0]
    rows = [cells for cells in plain if len(cells) == width]
    if reading.like is not None and reading.like.width == width:
        return reading.like
    counting = _counting(rows, width - 1 - reading.labelled)
    if counting:
        rows = [cells for cells in rows if not _NO_TOKEN.fullmatch(cells[counting[-1] - 1])]
    given = _given(reading, width, lines)
    found = [number for number in range(1, width + 1) if width > 1 and _has_tags(rows, number)]
    entities = [number for number in found if not _has_chunks(rows, number)] or found
    key = ""
    tags: int | None = given.get("tags")
    if tags is None and entities:
        # Of several the one with most entities: nested ones stand in a column of their own. Else the last.
        tags = max(entities, key=lambda number: (sum(cells[number - 1] not in ("O", "_") for cells in rows), number))
    if width == _MISC and counting and tags in (None, _MISC) and (key := _key(rows)):
        tags = _MISC
    tokens = given.get("tokens") or next(
        (number for number in range(1, width + 1) if number not in (*counting, tags)), width
    )
    if tags is None and reading.labelled:
        if width == 1 or (width == _MISC and counting):
            what = "no column with entity tags" if width > 1 else "one column: tokens without tags"
            remedy = "Write the token and its tag on a line, or name the column: columns: {tags: <its number>}"
            raise reading.stop(None, f"has {what}", remedy)
        tags = width if width != tokens else None
    others = tuple(number for number in entities if number != tags)
    return Layout(width, tokens, tags, key, counting, others)


def _sentences(reading: Reading) -> list[list[Line]]:
    """The cells of all lines that are not blank, by sentences; nothing but blank and tab separates."""
    sentences: list[list[Line]] = [[]]
    for number, raw in reading.lines():
        line = raw.rstrip("\r\n")
        if not line.strip() or line.startswith("-DOCSTART-"):
            sentences.append([])
        elif "\t" in line:
            sentences[-1].append((number, [cell.strip(" ") for cell in line.split("\t")]))
        else:
            sentences[-1].append((number, [cell for cell in line.split(" ") if cell]))
    return [sentence for sentence in sentences if sentence]


def _given(reading: Reading, width: int, lines: Sequence[Line]) -> Mapping[str, int]:
    """The columns that task or command set: by number, or by name where the file has a line of names."""
    names: list[str] = []
    if lines and lines[0][1][:3] == ["#", "global.columns", "="]:  # CoNLL-U Plus
        names = lines[0][1][3:]
    found: dict[str, int] = {}
    faults: list[Fault] = []
    for name in ("tokens", "tags"):
        column: Column = reading.given.get(name, name)
        if isinstance(column, str) and column in names:
            found[name] = names.index(column) + 1
        elif isinstance(column, int) and column <= width:
            found[name] = column
        elif isinstance(column, int):
            rule = f"has {width} columns, and columns says that `{name}` is number {column}"
            faults.append(fault(reading.path, "", rule, "Give the number of a column from 1"))
    if faults:
        raise DataError(faults)
    return found


def _counting(rows: Sequence[Sequence[str]], most: int) -> tuple[int, ...]:
    """The columns at the beginning, `most` at most, in which nothing but numbers stands."""
    found: list[int] = []
    for number in range(1, most + 1):
        if not all(cells[number - 1].isdecimal() or _NO_TOKEN.fullmatch(cells[number - 1]) for cells in rows):
            break
        found.append(number)
    return tuple(found)


def _has_tags(rows: Sequence[Sequence[str]], number: int) -> bool:
    """Whether tags stand in a column; a few slips are told later, with their lines."""
    cells = Counter(row[number - 1] for row in rows)
    tags = sum(count for cell, count in cells.items() if cell != "_" and is_tag(cell))
    return tags > 0 and tags + cells["_"] >= 0.9 * len(rows)


def _has_chunks(rows: Sequence[Sequence[str]], number: int) -> bool:
    types = {row[number - 1][2:] for row in rows if row[number - 1] not in ("O", "_")}
    return bool(types) and types <= _CHUNKS


def _key(rows: Sequence[Sequence[str]]) -> str:
    """The key in MISC under which tags stand."""
    values: dict[str, set[str]] = {}
    for row in rows:
        for key, value in _misc(row[-1]).items():
            values.setdefault(key, set()).add(value)
    return next((key for key, found in values.items() if all(map(is_tag, found))), "")


def _misc(cell: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in cell.split("|") if "=" in part)


def _tag(cells: Sequence[str], layout: Layout) -> str:
    """The tag in the cells of a line; there is a column of tags."""
    assert layout.tags is not None
    cell = cells[layout.tags - 1]
    if layout.key:
        return _misc(cell).get(layout.key, "O")
    return "O" if cell == "_" else cell


def _is_comment(line: Line, layout: Layout) -> bool:
    """Whether a line that begins with # is no token: it has other columns, or no tag where its tag should be."""
    _, cells = line
    if not cells[0].startswith("#"):
        return False
    if len(cells) != layout.width or layout.counting:
        return True
    return layout.tags is not None and not is_tag(_tag(cells, layout))


def _line_faults(line: Line, layout: Layout, reading: Reading) -> Iterator[Fault]:
    number, cells = line
    if len(cells) != layout.width:
        noun = "column" if len(cells) == 1 else "columns"
        rule = f"has {len(cells)} {noun} where the file has {layout.width}"
        remedy = "Give each token all its columns, separated by a tab or blanks, and a blank line after a sentence"
        yield fault(reading.at(number), "\t".join(cells)[:60], rule, remedy)
    elif not cells[layout.tokens - 1] or (layout.tags is not None and reading.labelled and not _tag(cells, layout)):
        rule = "has a token without a tag, or a tag without a token"
        yield fault(reading.at(number), "\t".join(cells)[:60], rule, "Give both")


def _tell(reading: Reading, layout: Layout) -> None:
    """Note where tokens and tags were found, unless they are the first and the last column."""
    if (layout.tokens, layout.tags) in ((1, layout.width), (1, None)) and not layout.others:
        return
    where = f"tokens: column {layout.tokens}"
    if layout.tags is not None and reading.labelled:
        where += f", tags: column {layout.tags}" + (f" ({layout.key})" if layout.key else "")
        if layout.others:
            others = " and ".join(map(str, layout.others))
            where += f" (there are tags in column {others} too; `columns` chooses)"
    reading.facts.append(f"{where} of {layout.width}")

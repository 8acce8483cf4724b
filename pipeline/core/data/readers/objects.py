"""Rows from JSON: an object a line, an array of objects, `{"data": [...]}`, and SQuAD's articles."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, final

from pipeline.core.data.readers.reading import Reading, Record, Values
from pipeline.core.data.readers.text import format_of
from pipeline.core.data.rows import SPLITS
from pipeline.errors import Fault, fault

_ONE_A_LINE = "Write one JSON object a line"


@final
class _Several:
    """Stands for the values of a key that an object has several times: which of them is meant, nobody knows."""

    def __str__(self) -> str:
        return "several values"


def _object(pairs: list[tuple[str, Any]]) -> Values:
    found = dict(pairs)
    if len(found) < len(pairs):
        found |= {key: _Several() for key, count in Counter(key for key, _ in pairs).items() if count > 1}
    return found


def single(pairs: list[tuple[str, Any]]) -> Values:
    """Of what is asked, an `object_pairs_hook` that takes each key once; a ValueError names one that is there twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice[:60]!r} stands several times in one object, and one of them is meant")
    return found


DECODER = json.JSONDecoder(object_pairs_hook=_object)
"""Of rows, for which `sure` then has to be asked."""


def read_objects(reading: Reading) -> Iterator[Record]:
    """Read a file of JSON, which is known by its first line: a whole object is one of many, each on its line."""
    numbered = list(reading.lines())
    full = [line.strip() for _, line in numbered if line.strip()]
    first = full[0] if full else ""
    whole = format_of(reading.path) == "json"
    try:
        begins = json.loads(first) if first else None
    except (ValueError, RecursionError):
        begins = None
    articles = isinstance(begins, dict) and len(full) == 1 and _holds_only_rows(begins, reading)
    if isinstance(begins, dict) and not articles and not (whole and len(full) == 1):
        yield from _one_a_line(reading, numbered)
        return
    try:
        values = list(_in_a_row("".join(line for _, line in numbered)))
    except (ValueError, RecursionError) as error:
        if whole:
            rule = f"is not valid JSON: {reason(error, with_line=True)}"
            raise reading.stop(None, rule, "Write an array of objects, or one JSON object a line") from error
        values = []
    rows = [row for value in values for row in _rows_of(value, reading)]
    alike = len({type(value) for value in values}) == 1 and (begins is None or articles or isinstance(values[0], list))
    if not whole and not (alike and rows and all(isinstance(row, dict) for row in rows)):
        yield from _one_a_line(reading, numbered)
        return
    if not whole:
        reading.facts.append("JSON in arrays or over several lines, not an object a line")
    elif len(values) > 1:
        reading.facts.append(f"{len(values)} JSON values one behind the other")
    if not rows and values:
        raise reading.stop(None, *_no_rows(values[0]))
    bare = _bare(reading)
    for number, row in enumerate(rows, start=1):
        if isinstance(row, dict):
            yield number, sure(row, reading, number)
        elif bare and isinstance(row, str):
            yield number, {bare: row}
        else:
            shown = json.dumps(row, ensure_ascii=False)[:60]
            yield number, [fault(reading.at(number), shown, "is no JSON object", "Write an array of objects")]


def reason(error: Exception, *, with_line: bool = False) -> str:
    """Say what is wrong with a piece of JSON; of one line the parser's own number would be taken for the file's."""
    if not isinstance(error, json.JSONDecodeError):
        return str(error)
    before = error.doc[: error.pos].rstrip()
    if before.endswith(",") and error.doc[error.pos : error.pos + 1] in ("]", "}"):
        line = f"line {before.count(chr(10)) + 1}" if with_line else f"character {len(before)}"
        return f"there is a comma behind the last item ({line}), where JSON has none"
    place = f"character {error.colno} of line {error.lineno}" if with_line else f"character {error.pos + 1}"
    return f"{error.msg} ({place})"


def _one_a_line(reading: Reading, numbered: list[tuple[int, str]]) -> Iterator[Record]:
    bare = _bare(reading)
    for number, line in numbered:
        if not line.strip():
            continue
        try:
            values = DECODER.decode(line.strip())
        except (ValueError, RecursionError) as error:  # a number of 5,000 digits, 100,000 brackets
            if bare and not line.lstrip().startswith("{"):
                yield number, {bare: line.strip()}
            else:
                rule = f"is not valid JSON: {reason(error)}"
                yield number, [fault(reading.at(number), "", rule, _ONE_A_LINE)]
            continue
        if isinstance(values, dict):
            yield number, sure(values, reading, number)
        elif bare:
            yield number, {bare: values}  # what is asked may be the bare text
        else:
            yield number, [fault(reading.at(number), line.strip()[:60], "is no JSON object", _ONE_A_LINE)]


def _in_a_row(text: str) -> Iterator[Any]:
    """The JSON values of a text, which may hold several, as files have that were pasted together."""
    place = 0
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        value, place = DECODER.raw_decode(text, place)
        yield value


def _bare(reading: Reading) -> str | None:
    """The column of the only thing that is asked, which may stand there alone, without an object around it."""
    places = list(reading.columns.places.values())
    return places[0] if not reading.labelled and len(places) == 1 and isinstance(places[0], str) else None


def sure(values: Values, reading: Reading, number: int) -> Values | list[Fault]:
    """The values of a row, or a fault for each key that is read and stands there several times."""
    twice = [key for key, value in values.items() if isinstance(value, _Several) and key in reading.columns.tops()]
    rule = "stands several times in this row, and one of them is meant"
    return [fault(reading.at(number), key, rule, "Remove the others") for key in twice] or values


def _holds_rows(value: Mapping[str, Any]) -> bool:
    return isinstance(value.get("data"), list)


def _holds_only_rows(value: Mapping[str, Any], reading: Reading) -> bool:
    """Whether an object has rows, and is none itself."""
    return _holds_rows(value) and bool(reading.columns.missing(value, ""))


def _rows_of(value: Any, reading: Reading) -> Iterator[Any]:
    """The rows in one JSON value: its items, what stands under `data`, or itself; of SQuAD's articles the questions."""
    items = value
    if isinstance(value, dict):
        items = value["data"] if _holds_rows(value) else [] if _is_table(value, reading) else [value]
    for item in items if isinstance(items, list) else []:
        if isinstance(item, dict) and isinstance(item.get("paragraphs"), list):
            yield from _questions(item)
        else:
            yield item


def _is_table(value: Mapping[str, Any], reading: Reading) -> bool:
    """Whether it is no row but a table by columns, or splits by name, as pandas writes them without `records`.

    Of lists it is one if all are equally long, and one of them stands for what is no list in a row.
    """
    if not value or value.keys() <= {*SPLITS} or all(isinstance(one, dict) for one in value.values()):
        return bool(value)
    lists = [one for one in value.values() if isinstance(one, list)]
    single = [name for name, place in reading.columns.places.items() if reading.task.types[name] not in (list, dict)]
    named = any(
        reading.columns.places[name] in value for name in single if isinstance(reading.columns.places[name], str)
    )
    return named and len(lists) == len(value) and len({len(one) for one in lists}) == 1


def _questions(article: Values) -> Iterator[Any]:
    for paragraph in article["paragraphs"]:
        if not isinstance(paragraph, dict) or not isinstance(paragraph.get("qas"), list):
            yield paragraph
            continue
        for asked in paragraph["qas"]:
            if isinstance(asked, dict):
                yield {"title": article.get("title"), "context": paragraph.get("context"), **asked}
            else:
                yield asked


def _no_rows(value: Any) -> tuple[str, str]:
    keys = ", ".join(map(str, list(value)[:8])) if isinstance(value, dict) else ""
    rule = f"holds no list of rows (its keys: {keys})" if keys else "holds no list of rows"
    return rule, 'Write an array of objects, {"data": [...]}, or one JSON object a line (pandas: orient="records")'

"""The shipped rows in every format, delimiter, encoding, column order, compression and tag scheme: the same rows."""

import csv
import gzip
import io
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from pipeline.config import DataConfig, TaskConfig
from pipeline.core.data.load import STARTER
from tests.reads import rows as read_rows

Row = dict[str, Any]
File = tuple[str, str | bytes]
"""Suffix and content."""

TASKS = {
    "sentiment/films": TaskConfig(name="sentiment", kind="classification"),
    "ner/news": TaskConfig(name="ner", kind="tagging"),
    "medqa/basics": TaskConfig(name="medqa", kind="multiple_choice"),
}
COUNT = 8
"""Rows of each."""
TEXTUAL = ("utf-8", "utf-8-sig", "utf-16", "cp1252", "latin-1", "utf-16-le")
NAMED = ("cp1252", "latin-1", "utf-16-le")
"""Encodings that no byte order mark tells."""
FIRST = {
    "sentiment/films": ["7073cc", "d31231", "7fbfb2", "81cc50", "f2575a", "807c7a", "7d4b96", "891380"],
    "ner/news": ["d0c738", "89a82e", "d3ca9b", "5b9688", "efb478", "7b27a6", "0541e7", "139499"],
    "medqa/basics": ["21bd4c", "7c1d43", "52fbfb", "4bd0fe", "d33505", "6c18c4", "f3c8b5", "e8793b"],
}
"""How the digests of the rows have always begun: splits are cut by them."""
PACKED: Mapping[str, Callable[[bytes], bytes]] = {
    "": lambda content: content,
    ".gz": lambda content: gzip.compress(content, 1),
    ".zst": lambda content: bytes(pyarrow.compress(content, "zstd", asbytes=True)),
}


def shipped(name: str, count: int = COUNT) -> list[Row]:
    lines = (STARTER / name / "train.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines[:count]]


def ordered(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """The columns in their order and turned round, with one more that nobody reads."""
    for turned in (False, True):
        names = [*rows[0], "unread"][:: -1 if turned else 1]
        yield [{name: row.get(name, "-") for name in names} for row in rows]


def as_json(rows: Sequence[Row]) -> Iterator[File]:
    one_a_line = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    yield "jsonl", one_a_line
    yield "ndjson", one_a_line.replace("\n", "\r\n")
    yield "json", one_a_line
    yield "json", json.dumps(rows, ensure_ascii=False)
    yield "json", json.dumps({"version": "1", "data": rows}, indent=1)
    yield "json", json.dumps(rows[:3]) + "\n" + json.dumps(rows[3:])
    yield "jsonl", json.dumps(rows, indent=2)


def as_delimited(rows: Sequence[Row], cell: Callable[[Any], str]) -> Iterator[File]:
    ends = itertools.cycle(("\n", "\r\n", "\r"))
    for suffix, delimiter in itertools.product(("csv", "tsv"), ",;\t|"):
        end = next(ends)
        buffer = io.StringIO(newline="")
        writer = csv.writer(buffer, delimiter=delimiter, lineterminator=end)
        writer.writerow([f" {name} " for name in rows[0]])
        writer.writerows([[cell(value) for value in row.values()] for row in rows])
        yield suffix, buffer.getvalue()
        if delimiter == ";":
            yield suffix, f"sep=;{end}{buffer.getvalue()}"


def as_parquet(rows: Sequence[Row]) -> Iterator[File]:
    table = pyarrow.Table.from_pylist(list(rows))
    wide = {pyarrow.string(): pyarrow.large_string()}
    large = pyarrow.schema([pyarrow.field(one.name, wide.get(one.type, one.type)) for one in table.schema])
    for form in (table, table.cast(large)):
        parquet.write_table(form, buffer := io.BytesIO(), row_group_size=6)
        yield "parquet", buffer.getvalue()


def with_classes(rows: Sequence[Row], column: str) -> File:
    """As `datasets` writes a column of classes: numbers, and their names in the file's metadata."""
    names = sorted({one for row in rows for one in ([row[column]] if isinstance(row[column], str) else row[column])})
    feature: Any = {"names": names, "_type": "ClassLabel"}
    numbered = []
    for row in rows:
        value = row[column]
        number = names.index(value) if isinstance(value, str) else [names.index(one) for one in value]
        numbered.append({**row, column: number})
    feature = feature if isinstance(rows[0][column], str) else {"feature": feature, "_type": "List"}
    metadata = {"huggingface": json.dumps({"info": {"features": {column: feature}}})}
    parquet.write_table(pyarrow.Table.from_pylist(numbered).replace_schema_metadata(metadata), buffer := io.BytesIO())
    return "parquet", buffer.getvalue()


def schemes(tags: Sequence[str]) -> dict[str, list[str]]:
    """The tags of a sentence, which are BIO, in every scheme."""
    written: dict[str, list[str]] = {"BIO": list(tags), "IOB1": [], "IOBES": [], "BILOU": [], "BMES": []}
    for i, tag in enumerate(tags):
        prefix, _, kind = tag.partition("-")
        before, after = tags[i - 1] if i else "O", tags[i + 1] if i + 1 < len(tags) else "O"
        last = after != f"I-{kind}"
        told = {"IOB1": "B" if prefix == "B" and before[2:] == kind else "I"}
        told["IOBES"] = ("S" if last else "B") if prefix == "B" else ("E" if last else "I")
        told["BILOU"] = ("U" if last else "B") if prefix == "B" else ("L" if last else "I")
        told["BMES"] = ("S" if last else "B") if prefix == "B" else ("E" if last else "M")
        for name, letter in told.items():
            written[name].append(tag if tag == "O" else f"{letter}-{kind}")
    return written


LAYOUTS: Mapping[str, Callable[[int, str, str], list[str]]] = {
    "token, tag": lambda i, token, tag: [token, tag],
    "number, token, tag": lambda i, token, tag: [str(i), token, tag],
    "number, token, tag, inner tag": lambda i, token, tag: [str(i), token, tag, "O"],
    "token, part, chunk, tag": lambda i, token, tag: [token, "NN", "I-NP", tag],
    "tag, token": lambda i, token, tag: [tag, token],
    "MISC": lambda i, token, tag: [str(i), token, *"_" * 7, f"SpaceAfter=No|NER={tag}"],
}


def as_conll(rows: Sequence[Row]) -> Iterator[File]:
    for (layout, line), blank, comment in itertools.product(LAYOUTS.items(), "\t ", ("", "# sent_id = 1\n")):
        text = "-DOCSTART- -X- -X- O\n\n"
        for row in rows:
            cells = [line(i, *one) for i, one in enumerate(zip(row["tokens"], row["tags"], strict=True), start=1)]
            text += comment + "".join(blank.join(one) + "\n" for one in cells) + "\n"
        for suffix in ("conllu",) if layout == "MISC" else ("conll", "bio", "iob2", "txt"):
            yield suffix, text


def options_of(rows: Sequence[Row]) -> Iterator[tuple[list[Row], dict[str, Any]]]:
    """Questions with options as an object and in columns, the answer as a letter or a key; and how they are mapped."""
    letters = "ABCDE"
    for row in (0, 1):
        answers = [letters[one["answer"]].lower() if row else letters[one["answer"]] for one in rows]
        listed = [{**one, "answer": answer} for one, answer in zip(rows, answers, strict=True)]
        yield listed, {}
        yield [{**one, "options": dict(zip(letters, one["options"], strict=False))} for one in listed], {}
        names = [f"op{letter}" for letter in letters[: max(len(one["options"]) for one in rows)]]
        apart = []
        for one in listed:
            options = dict(zip(names, [*one["options"], "", ""], strict=False))
            apart.append({**options, "question": one["question"], "key": one["answer"]})
        yield apart, {"options": names, "answer": "key"}


class Check:
    """Writes files in every encoding and compression, and reads them."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.task, self.count = folder, TASKS[name], 0
        self.digests = FIRST[name]

    def __call__(self, file: File, columns: Mapping[str, Any] | None = None, *, whole: bool = False) -> None:
        """Read a file; `whole`: in every encoding and compression, and else in those that come next."""
        suffix, content = file
        encodings: Sequence[str] = [""] if isinstance(content, bytes) else TEXTUAL
        ways = list(itertools.product(encodings, PACKED))
        for encoding, packing in ways if whole else [ways[self.count % len(ways)]]:
            self.count += 1
            raw = content if isinstance(content, bytes) else content.encode(encoding)
            path = self.folder / f"{self.count}.{suffix}{packing}"
            path.write_bytes(PACKED[packing](raw))
            data = DataConfig(
                source=str(self.folder), columns=columns or {}, encoding=encoding if encoding in NAMED else None
            )
            assert [row.digest[:6] for row in read_rows(path, self.task, data)] == self.digests, (path, encoding)


def lists(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def printed(value: Any) -> str:
    """As pandas writes what is in a cell."""
    return str(value)


def blanks(value: Any) -> str:
    return " ".join(value) if isinstance(value, list) else str(value)


def test_texts_are_the_same_rows_in_every_form(tmp_path: Path) -> None:
    check, rows = Check(tmp_path, "sentiment/films"), shipped("sentiment/films")
    for turned in ordered(rows):
        for file in [
            *as_json(turned),
            *as_delimited(turned, printed),
            *as_parquet(turned),
            with_classes(turned, "label"),
        ]:
            check(file)
    for file in [*list(as_json(rows))[:2], *list(as_delimited(rows, printed))[:2]]:
        check(file, whole=True)
    assert check.count > 100


@pytest.mark.parametrize("scheme", ["BIO", "IOB1", "IOBES", "BILOU", "BMES"])
def test_tags_are_the_same_rows_in_every_form_and_scheme(tmp_path: Path, scheme: str) -> None:
    check, rows = Check(tmp_path, "ner/news"), shipped("ner/news")
    rows = [{"tokens": row["tokens"], "tags": schemes(row["tags"])[scheme]} for row in rows]
    assert (scheme == "BIO") == (rows == shipped("ner/news"))
    for file in [*as_conll(rows), *as_json(rows), *as_parquet(rows), with_classes(rows, "tags")]:
        check(file)
    for cell in (lists, printed, blanks):
        for file in as_delimited(rows, cell):
            check(file)


def test_options_are_the_same_rows_in_every_form(tmp_path: Path) -> None:
    check, rows = Check(tmp_path, "medqa/basics"), shipped("medqa/basics")
    rows = [{name: row[name] for name in ("question", "options", "answer")} for row in rows]
    for written, columns in [(rows, {}), *options_of(rows)]:
        for turned in ordered(written):
            for file in [*as_json(turned), *as_parquet(turned), *as_delimited(turned, lists)]:
                check(file, columns)
            for file in as_delimited(turned, printed):
                check(file, columns)

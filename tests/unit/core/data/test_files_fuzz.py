"""Any file at all: rows and faults come of it, or one clear error, and never a traceback."""

import gzip
import io
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyarrow import parquet

from pipeline.config import TaskConfig
from pipeline.core.data.ledger import Ledger, read_ledger, write_ledger
from pipeline.core.data.readers import read, read_values
from pipeline.core.data.rows import Row, make_row
from pipeline.core.tasks.kinds import restore
from pipeline.errors import DataError, Fault
from tests.fuzz import DEEP, bounded, one_of, spoiled, texts, values, written

pytestmark = pytest.mark.long

GOOD: Mapping[str, dict[str, Any]] = {
    "classification": {"text": "a film", "label": "good"},
    "tagging": {"tokens": ["anna", "left"], "tags": ["B-PER", "O"]},
    "multiple_choice": {"question": "which", "options": ["a", "b"], "answer": 1},
    "extractive_qa": {"question": "who", "context": "anna left", "answers": {"text": ["anna"], "answer_start": [0]}},
}
SUFFIXES = ("jsonl", "json", "csv", "tsv", "parquet", "conll", "conllu", "jsonl.gz", "txt")
"""One of each reader, and of what it takes as it is."""
SPOILED = [(kind, suffix) for kind in GOOD for suffix in ("jsonl", "csv", "parquet")]
SPOILED += [("tagging", suffix) for suffix in ("tsv", "conll", "conllu")]
SPOILED += [("classification", "jsonl.gz"), ("classification", "json"), ("extractive_qa", "json")]
TASKS = {kind: TaskConfig(name=kind, kind=kind) for kind in GOOD}  # type: ignore[arg-type]


def good(kind: str, suffix: str) -> bytes:
    """A file of three rows."""
    row = GOOD[kind]
    if suffix.endswith(".gz"):
        return gzip.compress(good(kind, suffix.removesuffix(".gz")), mtime=0)
    if suffix == "conllu":
        misc = ("NER=B-PER|SpaceAfter=No", "_")
        lines = [f"{i}\tw{i}" + "\t_" * 7 + f"\t{one}\n" for i, one in enumerate(misc, start=1)]
        return ("# text = w1 w2\n" + "".join(lines) + "\n").encode() * 3
    if suffix == "json":
        return written([row] * 3)
    if suffix in ("jsonl", "ndjson"):
        return b"".join(written({**row, "id": number}) + b"\n" for number in range(3))
    if suffix in ("csv", "tsv"):
        cells = [value if isinstance(value, str) else json.dumps(value) for value in row.values()]
        line = ",".join('"' + cell.replace('"', '""') + '"' for cell in cells)
        return (",".join(row) + "\r\n" + (line + "\r\n") * 3).encode()
    if suffix == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist([row] * 3), buffer := io.BytesIO())
        return buffer.getvalue()
    return b"anna\tB-PER\nleft\tO\n\nben B-PER\n\n"


def check(folder: Path, kind: str, suffix: str, content: bytes) -> list[Row]:
    """Read it: all that comes is a row, which can be written, or a fault, which can be shown."""
    (file := folder / f"train.{suffix}").write_bytes(content)
    found = list(read(file, TASKS[kind]))
    for one in found:
        assert isinstance(one, Row | Fault)
        str(one).encode("utf-8", "backslashreplace")
        if isinstance(one, Row):
            json.dumps(dict(one.fields), ensure_ascii=False).encode("utf-8", "backslashreplace")
    return [one for one in found if isinstance(one, Row)]


@pytest.mark.parametrize(("kind", "suffix"), SPOILED)
def test_a_good_file_that_was_spoiled(kind: str, suffix: str, tmp_path: Path) -> None:
    assert len(check(tmp_path, kind, suffix, good(kind, suffix))) in (2, 3)

    @bounded
    @given(content=spoiled(good(kind, suffix)))
    def spoil(content: bytes) -> None:
        check(tmp_path, kind, suffix, content)

    spoil()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_bytes(suffix: str, tmp_path: Path) -> None:
    @bounded
    @given(content=st.binary(max_size=200) | texts.map(lambda text: text.encode("utf-8", "surrogatepass")))
    @example(content=DEEP.encode())
    @example(content=b"PAR1" + b"\xff" * 40 + b"PAR1")
    @example(content=b'text,label\n"' + b"a" * 200_000)
    def feed(content: bytes) -> None:
        check(tmp_path, "tagging", suffix, content)
        with suppress(DataError):
            for _, found in read_values(tmp_path / f"train.{suffix}", TASKS["tagging"], labelled=False):
                assert found

    feed()


@pytest.mark.parametrize("kind", GOOD)
def test_json_of_any_kind_under_the_right_names(kind: str, tmp_path: Path) -> None:
    fields = st.fixed_dictionaries({name: values | st.just(GOOD[kind][name]) for name in GOOD[kind]} | {"id": values})

    @bounded
    @given(row=fields)
    def feed(row: dict[str, Any]) -> None:
        check(tmp_path, kind, "jsonl", written(row) + b"\n")
        cells = [json.dumps(row[name]).replace('"', '""') for name in GOOD[kind]]
        line = ",".join(f'"{cell}"' for cell in cells)
        check(tmp_path, kind, "csv", f"{','.join(GOOD[kind])}\n{line}\n".encode())

    feed()


@pytest.mark.parametrize("kind", GOOD)
def test_columns_of_any_type_in_parquet(kind: str, tmp_path: Path) -> None:
    column = st.sampled_from(
        [
            pyarrow.array([None, None]),
            pyarrow.array([1.5, float("nan")]),
            pyarrow.array([2**63, 1], pyarrow.uint64()),
            pyarrow.array([b"\xff", b""]),
            pyarrow.array([["a"], None]),
            pyarrow.array([{"text": ["a"], "answer_start": [0]}, {"text": None, "answer_start": [None]}]),
            pyarrow.array([0, 10**15], pyarrow.timestamp("us")),
            pyarrow.array([2**62, 1], pyarrow.timestamp("us")),
            pyarrow.array([[("a", 1)], []], pyarrow.map_(pyarrow.string(), pyarrow.int64())),
            pyarrow.array(["x", "y"]).dictionary_encode(),
            pyarrow.array([True, False]),
        ]
    )

    @bounded
    @given(columns=st.fixed_dictionaries({name: column for name in (*GOOD[kind], "id")}))
    def feed(columns: dict[str, pyarrow.Array]) -> None:
        parquet.write_table(pyarrow.table(columns), buffer := io.BytesIO())
        check(tmp_path, kind, "parquet", buffer.getvalue())

    feed()


@pytest.mark.parametrize("kind", GOOD)
def test_items_that_are_asked_about(kind: str) -> None:
    task = restore(TASKS[kind], ["O", "B-PER", "I-PER"] if kind == "tagging" else ["bad", "good"])
    fields = st.fixed_dictionaries({}, optional={name: values | st.just(GOOD[kind][name]) for name in GOOD[kind]})

    @bounded
    @given(item=values | fields)
    def ask(item: Any) -> None:
        try:
            assert isinstance(task.parse_item(item, where="ITEM"), Row)
        except DataError as error:
            str(error).encode("utf-8", "backslashreplace")

    ask()


def test_a_ledger_of_which_a_file_was_spoiled(tmp_path: Path) -> None:
    task, folder = TASKS["classification"], tmp_path / "ledger"
    rows = [one for one in make_row(GOOD["classification"], task, "any") if isinstance(one, Row)]
    write_ledger(folder, Ledger(trained=tuple(rows), chosen=tuple(rows)))
    whole = {file: file.read_bytes() for file in folder.iterdir() if file.is_file()}

    @bounded
    @given(data=st.data())
    def spoil(data: st.DataObject) -> None:
        file = one_of(data, whole)
        record = st.builds(written, values) if file.suffix == ".json" else st.nothing()
        file.write_bytes(data.draw(spoiled(whole[file]) | record | st.just(DEEP.encode())))
        try:
            read_ledger(folder, task)
        except DataError as error:
            assert error.faults

    spoil()

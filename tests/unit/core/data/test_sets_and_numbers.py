"""Labels that are a set and targets that are numbers, in each format of files."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config import TaskConfig
from pipeline.core.data.readers import read
from pipeline.core.data.rows import Row
from pipeline.errors import Fault

TOPICS = TaskConfig(name="topics", kind="multi_label")
STARS = TaskConfig(name="stars", kind="regression")
SETS = [["damage", "delivery"], [], ["price"]]
SCORES = [3.5, 4.0, -1.0]


def written(path: Path, name: str, texts: list[str], values: list[object]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"text": t, name: v}) + "\n" for t, v in zip(texts, values, strict=True)))
    elif path.suffix == ".csv":
        path.write_text(f"text,{name}\n" + "".join(f"{t},{v}\n" for t, v in zip(texts, values, strict=True)))
    else:
        pq.write_table(pa.table({"text": texts, name: values}), path)
    return path


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("a.jsonl", [["delivery", "damage"], [], ["price"]]),
        ("a.jsonl", ["delivery|damage", "", "price"]),
        ("a.csv", ["delivery|damage", "", "price"]),
        ("a.csv", ['"[""delivery"", ""damage""]"', "[]", '"[""price""]"']),
        ("a.parquet", [["delivery", "damage"], [], ["price"]]),
        ("a.parquet", ["delivery|damage", "", " price "]),
    ],
)
def test_a_set_of_labels_is_read_from_every_format(tmp_path: Path, file: str, values: list[object]) -> None:
    rows = list(read(written(tmp_path / file, "labels", ["a", "b", "c"], values), TOPICS))
    assert [row.fields["labels"] for row in rows if isinstance(row, Row)] == SETS


@pytest.mark.parametrize(
    ("file", "values"),
    [("a.jsonl", [3.5, 4, "-1"]), ("a.csv", ["3.5", "4", "-1.0"]), ("a.parquet", [3.5, 4.0, -1.0])],
)
def test_a_number_is_read_from_every_format(tmp_path: Path, file: str, values: list[object]) -> None:
    rows = list(read(written(tmp_path / file, "score", ["a", "b", "c"], values), STARS))
    assert [row.fields["score"] for row in rows if isinstance(row, Row)] == SCORES


@pytest.mark.parametrize("value", ["", "n/a", "nan", "3;5"])
def test_a_cell_without_a_number_is_a_fault_with_its_line(tmp_path: Path, value: str) -> None:
    path = written(tmp_path / "a.csv", "score", ["a", "b"], ["1", value])
    (bad,) = (one for one in read(path, STARS) if isinstance(one, Fault))
    assert (bad.where, bad.rule) == (f"{path}:3", "is no number: field `score` must be a finite one")

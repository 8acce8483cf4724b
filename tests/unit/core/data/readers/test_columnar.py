import datetime
import decimal
import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from pipeline.config import TaskConfig
from tests.reads import faults, fields, lines, rows

Tasks = Mapping[str, TaskConfig]


def test_parquet_reads_lists_and_structs_and_counts_rows(tmp_path: Path, tasks: Tasks) -> None:
    answers = {"text": ["b"], "answer_start": [2]}
    table = {"id": [5, 6], "question": ["q", "r"], "context": ["a b", "a b"], "answers": [answers, answers]}
    path = tmp_path / "train.parquet"
    parquet.write_table(pyarrow.table(table | {"unused": [0.5, 0.5]}), path)
    found = rows(path, tasks["covidqa"])
    assert found[1].fields == {"question": "r", "context": "a b", "answers": answers, "id": 6}
    assert lines(path, found) == [1, 2]


def test_parquet_rows_are_counted_across_batches(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.parquet"
    table = pyarrow.table({"label": ["t"] * 10, "text": ["x"] * 9 + [None]})
    parquet.write_table(table, path, row_group_size=3)
    (fault,) = faults(path, tasks["sentiment"])
    assert fault.where == f"{path}:10"


def test_parquet_missing_column_is_said_once(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.parquet"
    parquet.write_table(pyarrow.table({"sentence": ["a", "b"], "label": ["x", "y"]}), path)
    (fault,) = faults(path, tasks["sentiment"])
    assert "`text`" in fault.rule
    assert "sentence" in fault.rule


@pytest.mark.parametrize("content", [b"", b"PAR1 this is no parquet PAR1"])
def test_broken_parquet_names_the_file(tmp_path: Path, tasks: Tasks, content: bytes) -> None:
    path = tmp_path / "train.parquet"
    path.write_bytes(content)
    (fault,) = faults(path, tasks["sentiment"])
    assert fault.where == str(path)
    assert "Parquet" in fault.rule


def test_classes_have_the_names_that_datasets_left_in_the_file(tmp_path: Path, tasks: Tasks) -> None:
    label = {"names": ["bad", "good"], "_type": "ClassLabel"}
    tags = {"names": ["O", "B-LOC"], "_type": "ClassLabel"}
    table = pyarrow.table({"text": ["a", "b"], "label": [1, 0]})
    write(table, tmp_path / "train.parquet", {"text": {"dtype": "string", "_type": "Value"}, "label": label})
    assert [row["label"] for row in fields(tmp_path / "train.parquet", tasks["sentiment"])] == ["good", "bad"]
    table = pyarrow.table({"tokens": [["in", "Rome"]], "tags": [[0, 1]]})
    for listed in ({"feature": tags, "_type": "List"}, {"feature": tags, "_type": "Sequence"}, [tags]):
        write(table, tmp_path / "ner.parquet", {"tags": listed})
        assert fields(tmp_path / "ner.parquet", tasks["ner"])[0]["tags"] == ["O", "B-LOC"]


@pytest.mark.parametrize("metadata", [b"{", b"[]", b'{"info": 3}', b'{"info": {"features": [1]}}'])
def test_metadata_that_says_nothing_is_ignored(tmp_path: Path, tasks: Tasks, metadata: bytes) -> None:
    table = pyarrow.table({"text": ["a"], "label": [1]}).replace_schema_metadata({b"huggingface": metadata})
    parquet.write_table(table, tmp_path / "train.parquet")
    assert fields(tmp_path / "train.parquet", tasks["sentiment"]) == [{"text": "a", "label": "1"}]


def test_types_of_arrow_become_text_and_numbers(tmp_path: Path, tasks: Tasks) -> None:
    columns = {
        "text": pyarrow.array(["a", "b"], pyarrow.large_string()),
        "label": pyarrow.array([datetime.date(2024, 2, 1), None], pyarrow.date32()).fill_null(
            datetime.date(2024, 3, 1)
        ),
        "id": pyarrow.array([decimal.Decimal("7"), decimal.Decimal("8")], pyarrow.decimal128(3, 0)),
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "train.parquet")
    assert fields(tmp_path / "train.parquet", tasks["sentiment"]) == [
        {"text": "a", "label": "2024-02-01", "id": 7},
        {"text": "b", "label": "2024-03-01", "id": 8},
    ]
    columns = {"text": pyarrow.array([b"caf\xc3\xa9"]), "label": pyarrow.array(["x"]).dictionary_encode()}
    parquet.write_table(pyarrow.table(columns), tmp_path / "train.parquet")
    assert fields(tmp_path / "train.parquet", tasks["sentiment"]) == [{"text": "café", "label": "x"}]


def test_options_may_be_an_object_a_map_or_columns(tmp_path: Path) -> None:
    asked = {"question": ["q"], "answer": ["B"]}
    task = TaskConfig(name="t", kind="multiple_choice")
    for options in (
        pyarrow.array([{"A": "x", "B": "y", "C": None}]),
        pyarrow.array([[("B", "y"), ("A", "x")]], pyarrow.map_(pyarrow.string(), pyarrow.string())),
    ):
        parquet.write_table(pyarrow.table({**asked, "options": options}), tmp_path / "train.parquet")
        assert fields(tmp_path / "train.parquet", task) == [{"question": "q", "options": ["x", "y"], "answer": 1}]
    task = TaskConfig(name="t", kind="multiple_choice", columns={"options": ["one", "two"], "answer": "key.letter"})
    table = {"question": ["q"], "one": ["x"], "two": ["y"], "key": [{"letter": "A"}]}
    parquet.write_table(pyarrow.table(table), tmp_path / "train.parquet")
    assert fields(tmp_path / "train.parquet", task) == [{"question": "q", "options": ["x", "y"], "answer": 0}]


def write(table: pyarrow.Table, path: Path, features: dict[str, object]) -> None:
    """A file as `datasets` writes it."""
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    parquet.write_table(table.replace_schema_metadata(metadata), path)


def test_two_columns_of_one_name_are_a_fault_where_one_of_them_is_meant(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.parquet"
    column = pyarrow.array(["a", "b"])
    parquet.write_table(pyarrow.Table.from_arrays([column] * 3, names=["text", "label", "label"]), path)
    (fault,) = faults(path, tasks["sentiment"])
    assert str(fault) == f"{path}: 'label' has 2 columns of this name, and one of them is meant. Rename the others."
    parquet.write_table(pyarrow.Table.from_arrays([column] * 4, names=["text", "label", "note", "note"]), path)
    assert len(rows(path, tasks["sentiment"])) == 2


def test_a_path_goes_into_lists_of_objects(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    words = [{"word": "in", "tag": "O"}, {"word": "Rome", "tag": "B-LOC"}]
    parquet.write_table(pyarrow.table({"words": [words]}), path)
    task = TaskConfig(name="n", kind="tagging", columns={"tokens": "words.word", "tags": "words.tag"})
    assert fields(path, task) == [{"tokens": ["in", "Rome"], "tags": ["O", "B-LOC"]}]

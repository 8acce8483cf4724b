from collections.abc import Mapping
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from pipeline.config import TaskConfig
from tests.reads import faults, lines, rows

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
    table = pyarrow.table({"text": ["t"] * 10, "label": ["x"] * 9 + [None]})
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

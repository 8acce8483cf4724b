from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.config import TaskConfig
from pipeline.core.data.readers import read
from pipeline.core.data.rows import Row
from pipeline.errors import Fault
from tests.reads import faults, fields, lines, rows

Tasks = Mapping[str, TaskConfig]


def test_jsonl_keeps_order_and_names_lines_past_blank_ones(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(b'{"text": "a", "label": "x"}\r\n\n  \n{"text": "b\xe2\x80\xa8c", "label": "y"}')
    found = rows(path, tasks["sentiment"])
    assert [row.fields["text"] for row in found] == ["a", "b\u2028c"]
    assert lines(path, found) == [1, 4]


def test_jsonl_may_begin_with_a_byte_order_mark(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"text": "a", "label": "x"}\n', encoding="utf-8-sig")
    assert fields(path, tasks["sentiment"]) == [{"text": "a", "label": "x"}]


def test_invalid_json_names_file_and_line_and_reading_goes_on(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"text": "a", "label": "x"}\n{"text": "b",\n[1]\n{"text": "c", "label": "x"}\nnull\n')
    found = faults(path, tasks["sentiment"])
    assert [fault.where for fault in found] == [f"{path}:{line}" for line in (2, 3, 5)]
    assert "is not valid JSON" in found[0].rule
    assert found[0].rule.endswith("(character 14)"), "the parser's own line number would mislead"
    assert found[1].rule == "is no JSON object"
    assert len(list(read(path, tasks["sentiment"]))) == 5


@pytest.mark.parametrize(
    "line", ["[" * 100_000, '{"text":' * 100_000, '{"text": ' + "[" * 100_000 + "]" * 100_000 + "}"]
)
def test_a_line_of_brackets_is_a_fault_of_its_line(tmp_path: Path, tasks: Tasks, line: str) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(f'{{"text": "a", "label": "x"}}\n{line}\n{{"text": "b", "label": "x"}}\n', "utf-8")
    first, bad, last = read(path, tasks["sentiment"])
    assert isinstance(first, Row) and isinstance(last, Row)
    assert isinstance(bad, Fault) and bad.where == f"{path}:2" and "is not valid JSON: " in bad.rule
    path = tmp_path / "train.csv"
    path.write_text(f"question,options,answer\nq,{'[' * 100_000},0\n", "utf-8")
    (bad,) = read(path, tasks["medqa"])
    assert isinstance(bad, Fault) and "is not valid JSON in column `options`: " in bad.rule


@pytest.mark.parametrize("depth", [100, 900, 990, 5000])
def test_a_value_that_lies_deep_is_a_fault_and_no_crash(tmp_path: Path, tasks: Tasks, depth: int) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"label": "x", "text": ' + "[" * depth + "]" * depth + "}\n", "utf-8")
    (bad,) = read(path, tasks["sentiment"])
    assert isinstance(bad, Fault) and bad.where == f"{path}:1"


def test_number_too_long_for_python_is_invalid_json_and_no_crash(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"text": "a", "label": ' + "1" * 5000 + "}\n")
    (fault,) = faults(path, tasks["sentiment"])
    assert fault.where == f"{path}:1"


def test_missing_field_names_line_field_what_is_there_and_the_mapping(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"text": "a", "label": "x"}\n{"sentence": "b", "label": "x"}\n')
    (fault,) = faults(path, tasks["sentiment"])
    assert fault.where == f"{path}:2"
    assert "`text`" in fault.rule
    assert "sentence, label" in fault.rule
    assert "conf/task/sentiment.yaml" in fault.remedy
    assert "columns: {text:" in fault.remedy


def test_bytes_that_are_not_utf8_name_their_line(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(b'{"text": "a", "label": "x"}\n{"text": "caf\xe9", "label": "x"}\n')
    (fault,) = faults(path, tasks["sentiment"])
    assert fault.where == f"{path}:2"
    assert "UTF-8" in fault.rule


def test_fields_are_mapped_from_the_names_in_the_file(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"question": "q", "context": "c", "verdict": "yes", "id": 3}\n')
    assert fields(path, tasks["pair"]) == [{"text": "q", "text_pair": "c", "label": "yes", "id": 3}]


def test_wrong_type_names_file_and_line(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('\n{"text": 3, "label": "x"}\n')
    (fault,) = faults(path, tasks["sentiment"])
    assert fault.where == f"{path}:2"

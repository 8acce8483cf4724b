from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.config import TaskConfig
from pipeline.core.data.readers import read
from pipeline.core.data.rows import Row
from tests.reads import faults, fields, lines, rows

Tasks = Mapping[str, TaskConfig]


def test_a_csv_cell_may_hold_a_whole_article(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(f"text,label\n{'word ' * 40_000},good\n", "utf-8")
    (row,) = read(tmp_path / "train.csv", TaskConfig(name="t", kind="classification"))
    assert isinstance(row, Row) and len(row.fields["text"]) == 200_000


def test_csv_takes_multi_line_cells_and_counts_their_lines(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.csv"
    path.write_bytes(b'id,text,label\r\n1,"two\r\nlines, ""quoted""",x\r\n\r\n2,b,y\r\n')
    found = rows(path, tasks["sentiment"])
    assert found[0].fields == {"text": 'two\r\nlines, "quoted"', "label": "x", "id": "1"}
    assert lines(path, found) == [2, 5]


def test_csv_parses_lists_numbers_and_objects(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "medqa.csv"
    path.write_text('question,options,answer\nWhich?,"[""a"", ""b, c""]",1\n')
    assert fields(path, tasks["medqa"]) == [{"question": "Which?", "options": ["a", "b, c"], "answer": 1}]
    path = tmp_path / "covidqa.csv"
    path.write_text('question,context,answers\nq,c d,"{""text"": [""d""], ""answer_start"": [2]}"\n')
    assert fields(path, tasks["covidqa"])[0]["answers"] == {"text": ["d"], "answer_start": [2]}


def test_csv_label_that_looks_like_a_number_stays_text(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.csv"
    path.write_text("text,label\n12,01\n")
    assert fields(path, tasks["sentiment"]) == [{"text": "12", "label": "01"}]


def test_csv_cell_that_is_not_json_names_line_and_column(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.csv"
    path.write_text('question,options,answer\n"one\nquestion","[""a""]",0\nWhich?,a;b,\n')
    found = faults(path, tasks["medqa"])
    assert [fault.where for fault in found] == [f"{path}:4"] * 2
    assert "`options`" in found[0].rule
    assert "`answer`" in found[1].rule


def test_csv_tokens_are_json_or_separated_by_spaces(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.csv"
    path.write_text('tokens,tags\n[ in  Rome ],O O B-LOC O\n"[""New York"", ""!""]","[""B-LOC"", ""O""]"\n')
    assert fields(path, tasks["ner"]) == [
        {"tokens": ["[", "in", "Rome", "]"], "tags": ["O", "O", "B-LOC", "O"]},
        {"tokens": ["New York", "!"], "tags": ["B-LOC", "O"]},
    ]


def test_broken_json_tokens_in_csv_are_not_taken_for_words(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.csv"
    path.write_text('tokens,tags\n"[""a"", ""b""",O O\n')
    (fault,) = faults(path, tasks["ner"])
    assert "`tokens`" in fault.rule


def test_csv_missing_column_is_said_once_with_the_header(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.csv"
    path.write_text(" Text ;star\na;x\nb;y\n")
    found = faults(path, tasks["sentiment"])
    assert [fault.where for fault in found] == [f"{path}:1"] * 2
    assert "has no field `text` (it has: Text, star)" in found[0].rule
    assert "columns: {text: Text}" in found[0].remedy


@pytest.mark.parametrize("line", ["a", "a,b,x"])
def test_csv_line_with_another_number_of_cells_is_a_fault(tmp_path: Path, tasks: Tasks, line: str) -> None:
    path = tmp_path / "train.csv"
    path.write_text(f"text,label\n{line}\nb,y\n")
    (fault,) = faults(path, tasks["sentiment"])
    assert fault.where == f"{path}:2"
    assert "2" in fault.rule


def test_csv_quote_that_is_never_closed_names_the_line_where_it_opens(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.csv"
    path.write_text('text,label\na,x\n"b,y\nc,y\n')
    (fault,) = faults(path, tasks["sentiment"])
    assert fault.where == f"{path}:3"
    assert "CSV" in fault.rule


def test_csv_that_is_not_utf8_names_its_line(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.csv"
    path.write_bytes(b"text,label\na,x\ncaf\xe9,y\n")
    (fault,) = faults(path, tasks["sentiment"])
    assert fault.where == f"{path}:3"

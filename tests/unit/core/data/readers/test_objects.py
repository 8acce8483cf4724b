import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import DataConfig, TaskConfig
from pipeline.core.data.readers import read
from pipeline.core.data.rows import Row
from pipeline.errors import Fault
from tests.reads import asked, faults, fields, lines, notes, rows, stopped

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
    assert "sentiment.yaml" in fault.remedy
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


# other shapes of JSON


ROWS = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.json", json.dumps(ROWS)),
        ("train.json", json.dumps(ROWS, indent=2)),
        ("train.json", json.dumps({"version": 2, "data": ROWS})),
        ("train.json", "".join(json.dumps(row) + "\n" for row in ROWS)),
        ("train.json", "\n".join(json.dumps(row, indent=1) for row in ROWS)),
        ("train.json", json.dumps(ROWS[:1]) + json.dumps(ROWS[1:])),
        ("train.jsonl", json.dumps(ROWS)),
        ("train.jsonl", json.dumps(ROWS, indent=2)),
        ("train.jsonl", f"{json.dumps(ROWS[:1])}\n{json.dumps(ROWS[1:])}\n"),
        ("train.ndjson", "".join(json.dumps(row) + "\n" for row in ROWS)),
    ],
)
def test_rows_are_found_in_every_shape_of_json(tmp_path: Path, tasks: Tasks, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, "utf-8")
    assert fields(tmp_path / name, tasks["sentiment"]) == ROWS


def test_json_that_is_not_an_object_a_line_is_noted_where_the_suffix_says_it_is(tmp_path: Path, tasks: Tasks) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps(ROWS), "utf-8")
    (tmp_path / "train.json").write_text(json.dumps(ROWS[:1]) * 2, "utf-8")
    told = notes(tmp_path / "train.jsonl", tasks["sentiment"])
    assert told == ["JSON in arrays or over several lines, not an object a line."]
    assert notes(tmp_path / "train.json", tasks["sentiment"]) == ["2 JSON values one behind the other."]


def test_the_questions_of_squad_are_rows_with_lists_of_answers(tmp_path: Path, tasks: Tasks) -> None:
    asked = [
        {"id": "1", "question": "who", "answers": [{"text": "anna", "answer_start": 0}]},
        {"id": "2", "question": "where", "answers": [], "is_impossible": True, "plausible_answers": [{"text": "x"}]},
    ]
    article = {"title": "t", "paragraphs": [{"context": "anna left", "qas": asked}]}
    (tmp_path / "train.json").write_text(json.dumps({"version": "v2.0", "data": [article]}), "utf-8")
    found = rows(tmp_path / "train.json", tasks["covidqa"])
    read_as = [
        {"question": "who", "context": "anna left", "answers": {"text": ["anna"], "answer_start": [0]}, "id": "1"},
        {"question": "where", "context": "anna left", "answers": {"text": [], "answer_start": []}, "id": "2"},
    ]
    assert [row.fields for row in found] == read_as
    assert lines(tmp_path / "train.json", found) == [1, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"text": "a",\n "label": }]', "is not valid JSON: Expecting value (character 11 of line 2)"),
        ('{"text": {"0": "a"}, "label": {"0": "x"}}', "holds no list of rows (its keys: text, label)"),
        ('{"train": [], "test": []}', "holds no list of rows (its keys: train, test)"),
        ("7", "holds no list of rows"),
    ],
)
def test_json_without_rows_says_what_is_there(tmp_path: Path, tasks: Tasks, content: str, message: str) -> None:
    (tmp_path / "train.json").write_text(content, "utf-8")
    assert message in stopped(tmp_path / "train.json", tasks["sentiment"])


def test_an_item_of_an_array_that_is_no_object_is_a_fault_with_its_number(tmp_path: Path, tasks: Tasks) -> None:
    (tmp_path / "train.json").write_text(json.dumps([ROWS[0], "b", ROWS[1]]), "utf-8")
    (bad,) = faults(tmp_path / "train.json", tasks["sentiment"])
    assert bad.where == f"{tmp_path}/train.json:2" and bad.rule == "is no JSON object"


def test_fields_are_read_from_a_path_several_columns_and_an_object(tmp_path: Path) -> None:
    columns: dict[str, Any] = {"question": "asked.text", "options": ["a", "b", "c"], "answer": "key"}
    task = TaskConfig(name="t", kind="multiple_choice", columns=columns)
    path = tmp_path / "train.jsonl"
    path.write_text(
        '{"asked": {"text": "q"}, "a": "x", "b": "y", "c": null, "key": "B"}\n'
        '{"asked": {"text": "r"}, "a": "x", "b": "y", "c": "z", "key": "c"}\n',
        "utf-8",
    )
    assert fields(path, task) == [
        {"question": "q", "options": ["x", "y"], "answer": 1},
        {"question": "r", "options": ["x", "y", "z"], "answer": 2},
    ]
    task = TaskConfig(name="t", kind="multiple_choice")
    path.write_text('{"question": "q", "options": {"A": "x", "C": "z", "B": "y"}, "answer": "C"}\n', "utf-8")
    assert fields(path, task) == [{"question": "q", "options": ["x", "y", "z"], "answer": 2}]


def test_a_command_may_set_other_columns_than_the_task(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"question": "q", "context": "c", "gold": "yes"}\n')
    data = DataConfig(source=str(tmp_path), columns={"label": "gold"})
    assert fields(path, tasks["pair"], data) == [{"text": "q", "text_pair": "c", "label": "yes"}]


def test_a_list_of_texts_is_no_label(tmp_path: Path, tasks: Tasks) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": ["a", "b"], "label": ["x", "y"]}', "utf-8")
    (bad,) = faults(tmp_path / "train.jsonl", tasks["sentiment"])
    assert "field `label` must be a string" in bad.rule


def test_tags_of_another_scheme_become_bio_in_json_too(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"tokens": ["new", "york", "rome"], "tags": ["B-LOC", "L-LOC", "U-LOC"]}\n')
    assert fields(path, tasks["ner"])[0]["tags"] == ["B-LOC", "I-LOC", "B-LOC"]
    assert notes(path, tasks["ner"]) == ["BILOU tags, written as BIO."]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.jsonl", '{"text": "a", "label": "x", "label": "y"}\n{"text": "b", "label": "y"}\n'),
        ("train.json", '[{"text": "a", "label": "x", "label": "y"}]'),
    ],
)
def test_a_key_that_stands_twice_is_a_fault_where_it_is_read(
    tmp_path: Path, tasks: Tasks, name: str, content: str
) -> None:
    path = tmp_path / name
    path.write_text(content, "utf-8")
    (bad,) = faults(path, tasks["sentiment"])
    assert (
        str(bad) == f"{path}:1: 'label' stands several times in this row, and one of them is meant. Remove the others."
    )
    path.write_text(content.replace('"x", "label"', '"x", "more": 1, "more"'), "utf-8")
    assert not faults(path, tasks["sentiment"])


def test_columns_as_lists_are_no_row(tmp_path: Path, tasks: Tasks) -> None:
    columns = {"text": ["a", "b"], "label": ["x", "y"]}
    (tmp_path / "train.json").write_text(json.dumps(columns), "utf-8")
    assert "holds no list of rows (its keys: text, label)" in stopped(tmp_path / "train.json", tasks["sentiment"])
    row = {"tokens": ["a", "b"], "tags": ["O", "B-X"]}
    (tmp_path / "train.json").write_text(json.dumps(row), "utf-8")
    assert fields(tmp_path / "train.json", tasks["ner"]) == [row]


def test_articles_on_one_line_are_known_by_whatever_suffix(tmp_path: Path, tasks: Tasks) -> None:
    asked = {"id": "1", "question": "who", "answers": [{"text": "anna", "answer_start": 0}]}
    content = json.dumps({"data": [{"title": "t", "paragraphs": [{"context": "anna left", "qas": [asked]}]}]})
    (tmp_path / "train.jsonl").write_text(content, "utf-8")
    assert [row["question"] for row in fields(tmp_path / "train.jsonl", tasks["covidqa"])] == ["who"]
    row = {"text": "a", "label": "x", "data": [1]}
    (tmp_path / "train.jsonl").write_text(json.dumps(row), "utf-8")
    assert fields(tmp_path / "train.jsonl", tasks["sentiment"]) == [{"text": "a", "label": "x"}]


def test_an_array_of_texts_is_asked_about(tmp_path: Path, tasks: Tasks) -> None:
    (tmp_path / "new.json").write_text('["a", "b"]', "utf-8")
    assert asked(tmp_path / "new.json", tasks["sentiment"]) == [{"text": "a"}, {"text": "b"}]


@pytest.mark.parametrize("text", ['[\n{"text": "a", "label": "x"},\n]\n', '[\n{"text": "a", "label": "x",\n}]\n'])
def test_a_comma_behind_the_last_item_is_named_with_its_line(tmp_path: Path, tasks: Tasks, text: str) -> None:
    path = tmp_path / "train.json"
    path.write_text(text)
    said = "is not valid JSON: there is a comma behind the last item (line 2), where JSON has none"
    assert said in stopped(path, tasks["sentiment"])
    lines = tmp_path / "train.jsonl"
    lines.write_text('{"text": "a", "label": "x"}\n{"text": "b", "label": "y",}\n')
    (found,) = faults(lines, tasks["sentiment"])
    assert "comma behind the last item (character 27)" in str(found)

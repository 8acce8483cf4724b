from collections.abc import Mapping
from pathlib import Path

from pipeline.config import TaskConfig
from tests.reads import asked, fields, stopped

Tasks = Mapping[str, TaskConfig]


def test_a_line_of_plain_text_is_a_text_whatever_it_begins_with(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "new.txt"
    path.write_text('"Never again," she said.\n\n[sic] fine, really\n{broken\n{"text": "an object", "id": 4}\n')
    assert asked(path, tasks["sentiment"]) == [
        {"text": '"Never again," she said.'},
        {"text": "[sic] fine, really"},
        {"text": "{broken"},
        {"text": "an object", "id": 4},
    ]
    assert asked(path, tasks["ner"])[0] == {"tokens": '"Never again," she said.'}


def test_a_task_of_several_fields_needs_objects(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "new.txt"
    path.write_text('what is it?\n{"question": "q", "options": ["a", "b"]}\n')
    bad, good = asked(path, tasks["medqa"])
    assert f"{path}:1: 'what is it?' is no JSON object with question and options" in bad["faults"]
    assert good == {"question": "q", "options": ["a", "b"]}


def test_plain_text_cannot_be_learnt_from_and_of_tagging_it_is_conll(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.txt"
    path.write_text("in O\nRome B-LOC\n")
    assert "holds texts without a target, and sentiment (classification) is to learn one" in stopped(
        path, tasks["sentiment"]
    )
    assert fields(path, tasks["ner"]) == [{"tokens": ["in", "Rome"], "tags": ["O", "B-LOC"]}]


def test_a_text_stands_for_tokens_in_every_format(tmp_path: Path, tasks: Tasks) -> None:
    (tmp_path / "new.jsonl").write_text('{"text": "Anna left."}\n{"tokens": ["Anna"], "text": "Anna left."}\n')
    assert asked(tmp_path / "new.jsonl", tasks["ner"]) == [{"tokens": "Anna left."}, {"tokens": ["Anna"]}]
    (tmp_path / "new.csv").write_text("id;text\n3;Anna left.\n")
    assert asked(tmp_path / "new.csv", tasks["ner"]) == [{"id": "3", "tokens": "Anna left."}]


def test_a_format_that_is_not_read_names_those_that_are(tmp_path: Path, tasks: Tasks) -> None:
    (tmp_path / "train.xlsx").write_bytes(b"PK")
    message = stopped(tmp_path / "train.xlsx", tasks["sentiment"])
    assert "is in no format that is read. Give a file of .jsonl, " in message
    assert "each also with .gz or .zst" in message


def test_a_key_that_stands_twice_in_an_object_is_an_error_of_its_line(tmp_path: Path, tasks: Tasks) -> None:
    (tmp_path / "new.txt").write_text('{"text": "a", "text": "b"}\nc\n')
    first, second = asked(tmp_path / "new.txt", tasks["sentiment"])
    assert "new.txt:1: 'text' stands several times in this row" in first["faults"] and second == {"text": "c"}

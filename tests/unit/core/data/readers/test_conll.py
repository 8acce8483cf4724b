from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.config import TaskConfig
from tests.reads import faults, fields, lines, notes, rows

Tasks = Mapping[str, TaskConfig]


def test_conll_splits_sentences_at_blank_lines_and_names_their_first_line(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.conll"
    path.write_text(
        "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\n\n"
        "Peter\tNNP\tB-NP\tB-PER\nNew York\tNNP\tB-NP\tB-LOC\n\u00a0\tNNP\tO\tO\n-DOCSTART- O\nEnd NN O O"
    )
    found = rows(path, tasks["ner"])
    assert [dict(row.fields) for row in found] == [
        {"tokens": ["EU", "rejects"], "tags": ["B-ORG", "O"]},
        {"tokens": ["Peter", "New York", "\u00a0"], "tags": ["B-PER", "B-LOC", "O"]},
        {"tokens": ["End"], "tags": ["O"]},
    ]
    assert lines(path, found) == [3, 7, 11]
    assert notes(path, tasks["ner"]) == []


@pytest.mark.parametrize("line", ["Rome", "Rome\t"])
def test_conll_line_without_a_tag_names_file_and_line(tmp_path: Path, tasks: Tasks, line: str) -> None:
    path = tmp_path / "train.conll"
    path.write_text(f"in O\n{line}\n")
    (fault,) = faults(path, tasks["ner"])
    assert fault.where == f"{path}:2"
    assert fault.value == line


def test_conll_is_for_tagging_alone(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.conll"
    path.write_text("in O\n")
    (fault,) = faults(path, tasks["sentiment"])
    assert "tagging" in fault.rule


def test_conll_follows_the_mapping_of_fields(tmp_path: Path) -> None:
    task = TaskConfig(name="ner", kind="tagging", columns={"tokens": "words", "tags": "ner"})
    path = tmp_path / "train.conll"
    path.write_text("in O\n")
    assert fields(path, task) == [{"tokens": ["in"], "tags": ["O"]}]

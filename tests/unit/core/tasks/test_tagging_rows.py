"""What is told of the rows of tagging: where a strange entity type stands, and rows that are no sentences."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.config import TaskConfig
from pipeline.core.data.readers.folder import open_folder
from pipeline.core.data.rows import Dataset, Row, Split
from pipeline.core.tasks.kinds import task_for
from pipeline.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.core.tasks.conftest import MakeDataset

CONFIG = TaskConfig(name="ner", kind="tagging")


def test_a_strange_entity_type_is_told_with_its_own_line(tmp_path: Path) -> None:
    (tmp_path / "train.conll").write_text("in O\nRome B-LOC\n\n")
    (tmp_path / "validation.conll").write_text("in O\nRome B-LOC\n\nto O\na O\npizza B-DISH\n\n")
    (tmp_path / "test.conll").write_text("in O\nRome B-LOC\n\n")
    source = open_folder(tmp_path, CONFIG)
    rows = {name: [row for row in split.rows if isinstance(row, Row)] for name, split in source.splits.items()}
    splits: dict[str, Any] = {name: Split(name, tuple(its), "", None) for name, its in rows.items()}
    dataset = Dataset(task="n", domain="d", source="s", overlap={}, notes=(), **splits)
    with pytest.raises(DataError, match=r"validation\.conll:6: 'DISH' is no entity type of train"):
        task_for(CONFIG, dataset)
    listed = replace(CONFIG, labels=["LOC", "DISH"])
    with pytest.raises(DataError, match=r"validation\.conll:6: 'DISH' is an entity type that"):
        task_for(listed, dataset)
    dataset = replace(dataset, train=splits["validation"])
    with pytest.raises(DataError, match=r"validation\.conll:6: 'DISH' is no entity type of task"):
        task_for(replace(CONFIG, labels=["LOC"]), dataset)


def test_rows_of_one_token_each_are_noted(make_dataset: MakeDataset) -> None:
    rows = [{"tokens": ["Rome"], "tags": ["B-LOC"]}, {"tokens": ["is"], "tags": ["O"]}]
    dataset = make_dataset(CONFIG, rows)
    said = "Warning: each of the 2 rows of train has one token. A row is a whole sentence, with a list of its tokens."
    assert said in list(task_for(CONFIG, dataset).notes(dataset))

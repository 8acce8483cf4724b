"""Small tasks and folders of data for the tests of `pipeline.core.data`."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import TaskConfig

Write = Callable[[str, Sequence[Any]], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes objects to a .jsonl file below `tmp_path`."""

    def writer(name: str, objects: Sequence[Any]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(one) + "\n" for one in objects), encoding="utf-8")
        return path

    return writer


@pytest.fixture
def tasks() -> Mapping[str, TaskConfig]:
    """One task a kind."""
    return {
        "sentiment": TaskConfig(name="sentiment", kind="classification", default_domain="films"),
        "pair": TaskConfig(
            name="pair",
            kind="classification",
            columns={"text": "question", "text_pair": "context", "label": "verdict"},
        ),
        "ner": TaskConfig(name="ner", kind="tagging", default_domain="news"),
        "medqa": TaskConfig(name="medqa", kind="multiple_choice"),
        "covidqa": TaskConfig(name="covidqa", kind="extractive_qa"),
    }

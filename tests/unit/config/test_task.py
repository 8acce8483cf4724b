"""When a task is another one than it was: whatever scoring reads."""

import dataclasses
from typing import Any

import pytest

from pipeline.config import TaskConfig
from pipeline.config.task import task_change

MOOD = TaskConfig(name="mood", kind="classification", labels=["good", "bad"])
WRITTEN = TaskConfig(name="mood", kind="generation", prompt="{text}", completion="{label}")


@pytest.mark.parametrize(
    ("before", "changes", "said"),
    [
        (MOOD, {"metric": "macro_f1"}, ("scored by accuracy", "scored by macro_f1")),
        (MOOD, {"metric": "accuracy", "max_length": 64, "class_weights": True, "labels": ["bad", "good"]}, None),
        (MOOD, {"labels": ["bad", "mixed", "good"]}, None),
        (MOOD, {"labels": None}, None),
        (MOOD, {"labels": ["bad", "fine"]}, ("to answer with good too", "to answer with bad, fine alone")),
        (MOOD, {"labels": ["Good", "Bad"]}, ("to answer with good, bad too", "to answer with Good, Bad alone")),
        (MOOD, {"columns": {"text": "message"}}, None),
        (WRITTEN, {"completion": "Answer: {label}"}, ("to write '{label}'", "to write 'Answer: {label}'")),
        (WRITTEN, {"prompt": "How is {text}?", "beams": 4}, None),
        (WRITTEN, {"metric": "chrf"}, ("scored by exact_match", "scored by chrf")),
    ],
)
def test_whatever_scoring_reads_makes_another_task(
    before: TaskConfig, changes: dict[str, Any], said: tuple[str, str] | None
) -> None:
    assert task_change(before, dataclasses.replace(before, **changes), ["good", "bad"]) == said

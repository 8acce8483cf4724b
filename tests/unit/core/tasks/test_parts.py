"""Answers in the shapes of Hugging Face's inference API."""

from typing import Any

import pytest

from pipeline.config import Kind
from pipeline.core.data.rows import Row
from pipeline.core.tasks.kinds import TASK_KINDS


@pytest.mark.parametrize(
    ("kind", "answer", "expected"),
    [
        (
            "classification",
            {"label": "bad", "score": 0.75, "scores": {"good": 0.25, "bad": 0.75}},
            [{"label": "bad", "score": 0.75}, {"label": "good", "score": 0.25}],
        ),
        (
            "multi_label",
            {"labels": ["art"], "scores": {"art": 0.4, "law": 0.45}},
            [{"label": "law", "score": 0.45, "said": False}, {"label": "art", "score": 0.4, "said": True}],
        ),
        ("regression", {"score": 3.5}, [{"score": 3.5}]),
        (
            "tagging",
            {
                "tags": ["B-LOC", "O"],
                "entities": [
                    {"type": "LOC", "text": "Oslo", "start": 0, "end": 1, "start_char": 2, "end_char": 6, "score": 0.9}
                ],
            },
            [{"entity_group": "LOC", "score": 0.9, "word": "Oslo", "start": 2, "end": 6}],
        ),
        ("tagging", {"tags": ["O"], "entities": []}, []),
        (
            "extractive_qa",
            {"answer": "Oslo", "score": 0.5, "start": 3, "end": 7},
            [{"answer": "Oslo", "score": 0.5, "start": 3, "end": 7}],
        ),
        (
            "extractive_qa",
            {"answer": "", "score": 0.6, "start": 0, "end": 0, "no_answer": 0.6},
            [{"answer": "", "score": 0.6, "start": 0, "end": 0, "no_answer": 0.6}],
        ),
        (
            "multiple_choice",
            {"answer": 1, "option": "b", "scores": [0.2, 0.8]},
            [{"label": "b", "score": 0.8, "index": 1}, {"label": "a", "score": 0.2, "index": 0}],
        ),
        ("generation", {"text": "a plot"}, [{"generated_text": "a plot"}]),
    ],
)
def test_each_kind_answers_in_the_shape_of_hugging_face(
    kind: Kind, answer: dict[str, Any], expected: list[dict[str, Any]]
) -> None:
    row = Row({"options": ["a", "b"]}, "ITEM", "", "")
    assert TASK_KINDS[kind].parts(row, answer) == expected


def test_labels_of_which_the_first_are_wanted_are_ranked_and_others_are_not() -> None:
    assert [kind for kind, task in TASK_KINDS.items() if task.ranks] == [
        "classification",
        "multi_label",
        "multiple_choice",
    ]

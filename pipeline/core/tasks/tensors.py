"""Tokenised inputs into padded tensors, and logits into arrays."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from pipeline.core.data.rows import Row
from pipeline.core.tasks.model import KEPT, TaskModel
from pipeline.core.tasks.task import Batch, Encoded, Example, Output

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase


WIDTH = "width"
"""Name under which an input may say how long its batch is at least to be padded."""


def is_truncated(encoding: Any) -> bool:
    """Whether the tokenizer left something of this one input out."""
    return bool(encoding.overflowing)


def truncated(encodings: Sequence[Any] | None) -> frozenset[int]:
    """Of which inputs, by their number, the tokenizer left something out."""
    return frozenset(i for i, encoding in enumerate(encodings or ()) if is_truncated(encoding))


def pieces(encoded: "BatchEncoding", index: int) -> Example:
    """What the model reads of one tokenised input: `input_ids`, and `token_type_ids` if there are any."""
    names = ("input_ids", "token_type_ids")
    return {name: encoded[name][index] for name in names if name in encoded}


def encode_texts(rows: Sequence[Row], tokenizer: "PreTrainedTokenizerBase", limit: int) -> Encoded:
    """Tokenise a text, or a pair of texts, a row; without targets.

    Of a pair the longer text is cut first, so that a short question stays whole.
    """
    texts = [row.fields["text"] for row in rows]
    pairs = [row.fields["text_pair"] for row in rows] if rows and "text_pair" in rows[0].fields else None
    encoded = tokenizer(texts, pairs, truncation="longest_first", max_length=limit)
    examples = [{"row": i, "length": len(encoded["input_ids"][i]), **pieces(encoded, i)} for i in range(len(rows))]
    return Encoded(examples=examples, num_rows=len(rows), truncated=truncated(encoded.encodings))


def ranked(scores: Mapping[str, float]) -> list[dict[str, Any]]:
    """`[{label, score}]`, the likeliest first."""
    return [{"label": label, "score": score} for label, score in sorted(scores.items(), key=lambda one: -one[1])]


def inputs_in(example: Example) -> Iterator[Example]:
    """What the model reads of an example: itself, or where it reads several texts of it, each of them."""
    if "input_ids" in example:
        yield example
        return
    for value in example.values():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                yield from inputs_in(one)


def with_inputs(example: Example, change: Callable[[Example], Example]) -> Example:
    """The example, with all that `inputs_in` tells of it changed."""
    if "input_ids" in example:
        return change(example)

    def changed(value: Any) -> Any:
        if isinstance(value, list):
            return [changed(one) for one in value]
        return with_inputs(value, change) if isinstance(value, dict) else value

    return {name: changed(value) for name, value in example.items()}


def width_of(inputs: Sequence[Example]) -> int:
    """How long they are at least to be padded."""
    return max(int(one.get(WIDTH, 0)) for one in inputs)


def pad(sequences: Sequence[Sequence[Any]], value: int | bool, width: int = 0) -> Tensor:
    """Stack sequences into (len(sequences), the longest or `width`), filled up with `value`."""
    longest = max(width, *map(len, sequences))
    return torch.tensor([[*sequence, *[value] * (longest - len(sequence))] for sequence in sequences])


def pad_inputs(inputs: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
    """Pad `input_ids`, `token_type_ids` and what is known of each input, and make the attention mask."""
    width = width_of(inputs)
    batch = {
        "input_ids": pad([one["input_ids"] for one in inputs], pad_token_id, width),
        "attention_mask": pad([[1] * len(one["input_ids"]) for one in inputs], 0, width),
    }
    if "token_type_ids" in inputs[0]:
        batch["token_type_ids"] = pad([one["token_type_ids"] for one in inputs], 0, width)
    if KEPT in inputs[0]:  # (T, C) each, or (C,) where it is one vector
        for number, states in enumerate(zip(*(one[KEPT] for one in inputs), strict=True)):
            if states[0].ndim == 1:
                batch[f"{KEPT}{number}"] = torch.stack(states)
                continue
            longest_BTC = pad_sequence(list(states), batch_first=True)
            more = batch["input_ids"].shape[1] - longest_BTC.shape[1]
            batch[f"{KEPT}{number}"] = F.pad(longest_BTC, (0, 0, 0, more))
    return batch


def of_examples(examples: Sequence[Example]) -> dict[str, Tensor]:
    """`rows`: which row each example belongs to, (B,); and in training, where they do not all count alike, `weights`,
    (B,)."""
    batch = {"rows": torch.tensor([example["row"] for example in examples])}
    if all("weight" in example for example in examples):
        batch["weights"] = torch.tensor([example["weight"] for example in examples])
    return batch


def owners(sizes: Sequence[int]) -> Tensor:
    """The number of the example that each target is of, (N,), where examples have these numbers of targets.

    Batches have places of targets, since a mask of them lets a GPU wait until it is known how many they are.
    """
    return torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes, dtype=torch.long))


def weighed(losses: Tensor, batch: Batch) -> Tensor:
    """Multiply the losses of targets, (N, ...), by the weights of their examples, where those have weights.

    Args:
        batch: In `example_of` it has the `owners` of the targets; without it each example has one.
    """
    if "weights" not in batch:
        return losses
    weights = batch["weights"][batch["example_of"]] if "example_of" in batch else batch["weights"]
    return losses * weights.view(-1, *[1] * (losses.ndim - 1))


def cross_entropy(logits: Tensor, labels: Tensor, batch: Batch) -> Tensor:
    """The mean cross-entropy of targets, (N, classes, ...) against (N, ...); examples count by their weights."""
    if "weights" not in batch:  # the same to the last bit, and quicker
        return F.cross_entropy(logits, labels, reduction="sum") / max(labels.numel(), 1)
    return weighed(F.cross_entropy(logits, labels, reduction="none"), batch).sum() / max(labels.numel(), 1)


def answered(name: str, examples: Sequence[Example], outputs: Sequence[Output]) -> tuple[list[Any], Tensor]:
    """The targets of the examples that have one by this name, and their outputs, stacked; these are of one shape."""
    pairs = [(example[name], one) for example, one in zip(examples, outputs, strict=True) if name in example]
    return [target for target, _ in pairs], torch.from_numpy(
        np.stack([one for _, one in pairs] or [np.zeros(0, np.float32)])
    )


def mean_of(losses: Iterable[Tensor]) -> float:
    """The mean of all entries; infinite if there is none."""
    parts = [part.double().flatten() for part in losses]
    return torch.cat(parts).mean().item() if parts else math.inf


def to_arrays(logits: Tensor, sizes: Sequence[int]) -> list[Output]:
    """Cut logits, (sum(sizes), ...), into one float32 array on the CPU for each example."""
    parts = torch.split(logits.float().cpu(), list(sizes))
    return [part.numpy() for part in parts]


_STEPS = np.arange(0, 4.25, 0.25)
"""What outputs are held back by, in logits."""
_GIVEN_UP = 40
"""Of so many targets with a new label one may be lost, so that less of the past is taken for them."""


def held_back(
    model: TaskModel, labels: Sequence[str], fresh: Sequence[str], targets: Sequence[str], logits_NL: Output
) -> Output:
    """Set by how much outputs of new labels are held back in answers: as far as their own validation rows allow.

    As the correction of the bias of new classes in Wu et al. 2019 (arXiv 1905.13260, section 3.2), but for what it
    is chosen by: the past, of which a period has few rows and a task has many, is not asked.

    Args:
        model: Its head keeps it.
        labels: What the outputs stand for.
        fresh: Those that are held back.
        targets: Of the N validation rows, or words.
        logits_NL: The outputs for them, not held back.

    Returns:
        What each label is held back by, (L,).
    """
    is_fresh_L = np.array([label in fresh for label in labels])
    gold_N = np.array([labels.index(target) if target in labels else -1 for target in targets], dtype=int)
    mine_N = np.array([target in fresh for target in targets], dtype=bool)
    found = [
        int((np.argmax(logits_NL[mine_N] - step * is_fresh_L, axis=-1) == gold_N[mine_N]).sum()) for step in _STEPS
    ]
    allowed = found[0] - mine_N.sum() // _GIVEN_UP
    most = max(step for step, right in zip(_STEPS, found, strict=True) if right >= allowed) if mine_N.any() else 0.0
    held_L = (most * is_fresh_L).astype(np.float32)
    model.head.held = torch.from_numpy(held_L)
    return held_L


def softmax(logits: Output) -> NDArray[np.float64]:
    """Probabilities over the last axis, in double precision."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(-1, keepdims=True))

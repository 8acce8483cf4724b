"""Tokenised inputs into padded tensors, and logits into arrays."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.core.tasks.task import Example, Output

if TYPE_CHECKING:
    from transformers import BatchEncoding


def is_truncated(encoding: Any) -> bool:
    """Whether the tokenizer left something of this one input out."""
    return bool(encoding.overflowing)


def pieces(encoded: "BatchEncoding", index: int) -> Example:
    """What the model reads of one tokenised input: `input_ids`, and `token_type_ids` if there are any."""
    names = ("input_ids", "token_type_ids")
    return {name: encoded[name][index] for name in names if name in encoded}


def pad(sequences: Sequence[Sequence[Any]], value: int | bool) -> Tensor:
    """Stack sequences into (len(sequences), longest), filled up with `value`."""
    longest = max(map(len, sequences))
    return torch.tensor([[*sequence, *[value] * (longest - len(sequence))] for sequence in sequences])


def pad_inputs(inputs: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
    """Pad `input_ids` and `token_type_ids`, and make the attention mask."""
    batch = {
        "input_ids": pad([one["input_ids"] for one in inputs], pad_token_id),
        "attention_mask": pad([[1] * len(one["input_ids"]) for one in inputs], 0),
    }
    if "token_type_ids" in inputs[0]:
        batch["token_type_ids"] = pad([one["token_type_ids"] for one in inputs], 0)
    return batch


def row_numbers(examples: Sequence[Example]) -> Tensor:
    """Which row each example belongs to, (B,)."""
    return torch.tensor([example["row"] for example in examples])


def to_arrays(logits: Tensor, sizes: Sequence[int]) -> list[Output]:
    """Cut logits, (sum(sizes), ...), into one float32 array on the CPU for each example."""
    parts = torch.split(logits.float().cpu(), list(sizes))
    return [part.numpy() for part in parts]


def softmax(logits: Output) -> NDArray[np.float64]:
    """Probabilities over the last axis, in double precision."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(-1, keepdims=True))

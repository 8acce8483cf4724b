"""Rows as vectors of the frozen checkpoint, without any adapter: what rows of different times are compared by."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.config import EngineConfig
from pipeline.core.data.rows import Row
from pipeline.core.engine.batches import evaluation_batches, fitted, move
from pipeline.core.engine.precision import precision
from pipeline.core.tasks.model import TaskModel
from pipeline.core.tasks.task import Task
from pipeline.core.tasks.tensors import pad_inputs, pieces

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def embeddings(
    base: "PreTrainedModel",
    task: Task,
    rows: Sequence[Row],
    tokenizer: "PreTrainedTokenizerBase",
    config: EngineConfig,
) -> NDArray[np.float32]:
    """The mean of the last layer's hidden states over the sub-tokens of each row's text.

    Whatever the kind, a row is one text, `Task.text_of`, cut at the task's longest input: one forward pass a row, also
    where the task itself reads options one by one, or a context in windows.

    Args:
        base: As `build_base` makes it, without an adapter; on any device.
        rows: With or without their targets, at least one.
        tokenizer: The checkpoint's, with a padding token.
        config: Batch size and precision.

    Returns:
        (N, H), in the order of the rows.
    """
    assert tokenizer.pad_token_id is not None
    texts = [task.text_of(row) for row in rows]
    encoded = tokenizer(texts, truncation=True, max_length=task.limit(tokenizer), verbose=False)
    lengths = [len(ids) for ids in encoded["input_ids"]]
    model = TaskModel(base, nn.Identity(), pooling="mean")
    vectors_NH = np.empty((len(rows), base.config.hidden_size), dtype=np.float32)
    with torch.inference_mode(), precision(model.device, config):
        for indices in evaluation_batches(lengths, config.eval_batch_size):
            some = fitted([pieces(encoded, i) for i in indices], task, model)
            batch = pad_inputs(some, tokenizer.pad_token_id)
            vectors_NH[indices] = model.pooled(move(batch, model.device)).float().cpu().numpy()
    return vectors_NH

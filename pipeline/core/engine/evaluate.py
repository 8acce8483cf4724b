"""Score a model on rows: one pass without gradients, answers in the order of the rows."""

from collections.abc import Sequence

import torch

from pipeline.config import EngineConfig
from pipeline.core.data.rows import Row
from pipeline.core.engine.batches import evaluation_batches, made_ahead, move, ready
from pipeline.core.engine.workers import ALONE, Workers
from pipeline.core.tasks.model import TaskModel
from pipeline.core.tasks.task import Answer, Encoded, Output, Task


def answer(
    model: TaskModel,
    task: Task,
    rows: Sequence[Row],
    encoded: Encoded,
    config: EngineConfig,
    pad_token_id: int,
    workers: Workers = ALONE,
    *,
    tune: bool = False,
) -> list[Answer]:
    """Answer every row, with or without its target; leaves the model in eval mode.

    Args:
        encoded: `task.encode(rows, ...)`.
        config: Batch size and precision.
        workers: Share the batches among them; each returns all answers.
        tune: These are the validation rows: what answers depend on beside the weights is set by them (`Task.tuned`).
    """
    model.eval()
    device = model.device
    lengths = [example["length"] for example in encoded.examples]
    outputs: dict[int, Output] = {}
    with torch.inference_mode(), precision(device, config):
        mine = workers.share(evaluation_batches(lengths, config.eval_batch_size))
        batches = made_ahead(
            mine, lambda of: ready(task.collate([encoded.examples[i] for i in of], pad_token_id), device)
        )
        for indices, batch in zip(mine, batches, strict=True):
            for index, output in zip(indices, task.outputs(model, move(batch, device)), strict=True):
                outputs[index] = output
    outputs = workers.gather(outputs)
    given: Sequence[Output] = [outputs[i] for i in range(len(outputs))]
    return task.answers(rows, encoded, task.tuned(model, rows, given) if tune else given)


def precision(device: torch.device, config: EngineConfig) -> torch.autocast:
    """Give the arithmetic of the forward pass: bfloat16 where the config, or `auto` on a GPU, says so."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=is_halved(device, config))


def is_halved(device: torch.device, config: EngineConfig) -> bool:
    """Whether the forward pass is computed in bfloat16."""
    return config.precision == "bfloat16" or (config.precision == "auto" and device.type == "cuda")

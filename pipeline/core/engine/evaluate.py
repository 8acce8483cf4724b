"""Score models on rows: one pass without gradients, answers in the order of the rows."""

from collections.abc import Sequence

import torch

from pipeline.config import EngineConfig
from pipeline.core.data.rows import Row
from pipeline.core.engine.batches import evaluation_batches, made_ahead, move, ready
from pipeline.core.engine.view import together
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

    The arguments are those of `answer_each`.
    """
    return answer_each([model], task, rows, encoded, config, pad_token_id, workers, tune=tune)[0]


def answer_each(
    models: Sequence[TaskModel],
    task: Task,
    rows: Sequence[Row],
    encoded: Encoded,
    config: EngineConfig,
    pad_token_id: int,
    workers: Workers = ALONE,
    *,
    tune: bool = False,
) -> list[list[Answer]]:
    """Answer every row by every model; the base reads it once for all. Leaves the models in eval mode.

    Args:
        models: One of any kind, or views of one base.
        encoded: `task.encode(rows, ...)`.
        config: Batch size and precision.
        workers: Share the batches among them; each returns all answers.
        tune: These are the validation rows: what answers depend on beside the weights is set by them (`Task.tuned`).
    """
    for model in models:
        model.eval()
    device = models[0].device
    lengths = [example["length"] for example in encoded.examples]
    outputs: list[dict[int, Output]] = [{} for _ in models]
    with torch.inference_mode(), precision(device, config):
        mine = workers.share(evaluation_batches(lengths, config.eval_batch_size))
        batches = made_ahead(
            mine, lambda of: ready(task.collate([encoded.examples[i] for i in of], pad_token_id), device)
        )
        for indices, made in zip(mine, batches, strict=True):
            batch = move(made, device)
            with together(models, batch):
                for model, own in zip(models, outputs, strict=True):
                    own.update(zip(indices, task.outputs(model, batch), strict=True))
    answers = []
    for model, own in zip(models, outputs, strict=True):
        whole = workers.gather(own)
        given: Sequence[Output] = [whole[i] for i in range(len(whole))]
        answers.append(task.answers(rows, encoded, task.tuned(model, rows, given) if tune else given))
    return answers


def precision(device: torch.device, config: EngineConfig) -> torch.autocast:
    """Give the arithmetic of the forward pass: bfloat16 where the config, or `auto` on a GPU, says so."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=is_halved(device, config))


def is_halved(device: torch.device, config: EngineConfig) -> bool:
    """Whether the forward pass is computed in bfloat16."""
    return config.precision == "bfloat16" or (config.precision == "auto" and device.type == "cuda")

"""Score models on rows: one pass without gradients, answers in the order of the rows."""

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.config import EngineConfig
from pipeline.core.data.rows import Row
from pipeline.core.engine.batches import collated, evaluation_batches, made_ahead, move
from pipeline.core.engine.precision import precision
from pipeline.core.engine.view import together
from pipeline.core.engine.workers import ALONE, Workers
from pipeline.core.tasks.model import TaskModel
from pipeline.core.tasks.scores import Scores
from pipeline.core.tasks.task import Answer, Encoded, Output, Task


def answer(
    model: TaskModel,
    task: Task,
    rows: Sequence[Row],
    encoded: Encoded,
    config: EngineConfig,
    pad_token_id: int,
    workers: Workers = ALONE,
) -> list[Answer]:
    """Answer every row, with or without its target; leaves the model in eval mode.

    Args:
        encoded: `task.encode(rows, ...)`.
        config: Batch size and precision.
        workers: Share the batches among them; each returns all answers.
    """
    (outputs,) = _outputs([model], task, encoded, config, pad_token_id, workers)
    return task.answers(rows, encoded, outputs)


def validate(
    models: Sequence[TaskModel],
    task: Task,
    rows: Sequence[Row],
    encoded: Encoded,
    config: EngineConfig,
    pad_token_id: int,
    workers: Workers = ALONE,
) -> list[Scores]:
    """Score the validation rows by each model, with their mean loss, after one pass; leaves the models in eval mode.

    What answers depend on beside the weights is set by these rows first (`Task.tuned`). The arguments are those of
    `answer`, but for several views of one base, which reads the rows once for all. Only where outputs do not show the
    loss it takes a pass of its own.
    """
    scored = []
    for model, outputs in zip(models, _outputs(models, task, encoded, config, pad_token_id, workers), strict=True):
        loss = task.loss_of(encoded.examples, outputs)
        if loss is None:
            loss = _loss(model, task, encoded, config, pad_token_id, workers)
        answers = task.answers(rows, encoded, task.tuned(model, rows, encoded, outputs))
        scored.append(dataclasses.replace(task.score(rows, answers), loss=loss))
    return scored


def _outputs(
    models: Sequence[TaskModel], task: Task, encoded: Encoded, config: EngineConfig, pad_token_id: int, workers: Workers
) -> list[list[Output]]:
    """What each model puts out for every example, in their order."""
    for model in models:
        model.eval()
    device = models[0].device
    lengths = [example["length"] for example in encoded.examples]
    outputs: list[dict[int, Output]] = [{} for _ in models]
    with torch.inference_mode(), precision(device, config, writing=task.decoding is not None):
        mine = workers.share(evaluation_batches(lengths, config.eval_batch_size))
        batches = made_ahead(
            mine, lambda of: collated(task, [encoded.examples[i] for i in of], pad_token_id, models[0])
        )
        for indices, made in zip(mine, batches, strict=True):
            batch = move(made, device)
            with together(models, batch):
                for model, own in zip(models, outputs, strict=True):
                    own.update(zip(indices, task.outputs(model, batch), strict=True))
    gathered = [workers.gather(own) for own in outputs]
    return [[own[i] for i in range(len(own))] for own in gathered]


def _loss(
    model: TaskModel, task: Task, encoded: Encoded, config: EngineConfig, pad_token_id: int, workers: Workers
) -> float:
    """The mean loss over all targets, in batches as in training, whose memory is known to suffice."""
    lengths = [example["length"] for example in encoded.examples]
    losses: dict[int, tuple[Tensor, int]] = {}
    with torch.inference_mode(), precision(model.device, config):
        for indices in workers.share(evaluation_batches(lengths, config.batch_size)):
            batch = collated(task, [encoded.examples[i] for i in indices], pad_token_id, model)
            losses[indices[0]] = task.loss(model, move(batch, model.device))
    parts = workers.gather({first: (loss.item() * n, n) for first, (loss, n) in losses.items()})  # waits but once
    total = sum(num_targets for _, num_targets in parts.values())
    # Sorted, so that several workers add up in the order in which one does.
    return sum(parts[first][0] for first in sorted(parts)) / total if total else math.inf

"""One step of candidates that are trained together: one pass over the base, and for each its own update."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pipeline.core.engine.batches import move
from pipeline.core.engine.precision import precision
from pipeline.core.engine.view import together
from pipeline.core.tasks.task import Task

if TYPE_CHECKING:
    from pipeline.core.engine.loop import Training


def take_step(
    trainings: Sequence["Training"], task: Task, batch: dict[str, Any] | None, step: int
) -> list[tuple[float, int]]:
    """Let each take a step along the gradients of its own mean loss.

    Args:
        batch: The rows of all, or of this worker; None where it has none.
        step: Its number since the start of training.

    Returns:
        Of each the mean loss and the number of targets. One whose loss is infinite or not a number has taken no step.
    """
    for training in trainings:
        training.optimizer.zero_grad(set_to_none=True)
    if trainings[0].workers.size == 1:
        found = _backward(trainings, task, batch)
    else:
        found = [_backward_together(training, task, batch, step) for training in trainings]
    for training, (value, num_targets) in zip(trainings, found, strict=True):
        if math.isfinite(value):
            _update(training, value, num_targets)
    return found


def _update(training: "Training", value: float, num_targets: int) -> None:
    """Take a step along the gradients that are there."""
    nn.utils.clip_grad_norm_(training.parameters, training.config.clip_norm)
    training.optimizer.step()
    training.schedule.step()
    training.step_in_epoch += 1
    training.loss_sum += value * num_targets
    training.num_targets += num_targets


def _backward(
    trainings: Sequence["Training"], task: Task, batch: dict[str, Any] | None, *, summed: bool = False
) -> list[tuple[float, int]]:
    """Compute the gradients of each one's mean loss over the batch, or of its sum.

    Returns:
        Of each the mean loss and the number of targets. One whose loss is infinite or not a number has no gradients.
    """
    if batch is None:
        return [(0.0, 0)] * len(trainings)
    device, models = trainings[0].model.device, [training.model for training in trainings]
    batch = move(batch, device)
    with precision(device, trainings[0].config), together(models, batch):
        losses = [task.loss(model, batch) for model in models]
    values = torch.stack([loss.detach() for loss, _ in losses]).tolist()  # waits for a GPU once, not once each
    finite = [
        loss * n if summed else loss for (loss, n), value in zip(losses, values, strict=True) if math.isfinite(value)
    ]
    if finite:
        torch.autograd.backward(finite)
    return [(value, num_targets) for value, (_, num_targets) in zip(values, losses, strict=True)]


def _backward_together(training: "Training", task: Task, share: dict[str, Any] | None, step: int) -> tuple[float, int]:
    """Compute the gradients of the whole batch's mean loss, of which this is this worker's share."""
    # Dropout of its own for each worker, the same when the step is taken again after an interruption.
    training.reseed("step", step, training.workers.rank)
    ((value, num_targets),) = _backward([training], task, share, summed=True)
    return training.workers.add_up(training.parameters, value * num_targets, num_targets)

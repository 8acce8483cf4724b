"""One step of candidates that are trained together: one pass over the base, and for each its own update."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn

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
        losses = _backward(trainings, task, batch)
    else:
        losses = [_backward_together(training, task, batch, step) for training in trainings]
    values = _Fetched(torch.stack([loss for loss, _ in losses]))
    for training, (loss, _) in zip(trainings, losses, strict=True):
        _update(training, loss)
    found = [(value, num_targets) for value, (_, num_targets) in zip(values.read(), losses, strict=True)]
    for training, (value, num_targets) in zip(trainings, found, strict=True):
        if math.isfinite(value):
            training.schedule.step()
            training.step_in_epoch += 1
            training.loss_sum += value * num_targets
            training.num_targets += num_targets
    return found


@final
class _Fetched:
    """Numbers on their way from a GPU, which meanwhile is given more to do: here, the rest of the step.

    Who reads them waits until they are computed, and not for what was begun behind them, so that the GPU goes from one
    step on to the next.
    """

    def __init__(self, numbers_N: Tensor) -> None:
        self._numbers_N = numbers_N.to("cpu", non_blocking=True)  # from a GPU into page-locked memory
        self._there: torch.cuda.Event | None = None
        if numbers_N.device.type == "cuda":
            self._there = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._there.record(torch.cuda.current_stream(numbers_N.device))

    def read(self) -> list[float]:
        if self._there is not None:
            self._there.synchronize()
        numbers: list[float] = self._numbers_N.tolist()
        return numbers


def _update(training: "Training", loss: Tensor) -> None:
    """Take a step along the gradients that are there; none where the loss is infinite or not a number, of which a fused
    optimiser is told on the device, as `torch.amp.GradScaler` does it."""
    nn.utils.clip_grad_norm_(training.parameters, training.config.clip_norm)
    training.optimizer.found_inf = (~loss.isfinite()).float()  # type: ignore[attr-defined]
    training.optimizer.step()


def _backward(
    trainings: Sequence["Training"], task: Task, batch: dict[str, Any] | None, *, summed: bool = False
) -> list[tuple[Tensor, int]]:
    """Compute the gradients of each one's mean loss over the batch, or of its sum.

    Returns:
        Of each the mean loss, (), and the number of targets.
    """
    device, models = trainings[0].model.device, [training.model for training in trainings]
    if batch is None:
        return [(torch.zeros((), device=device), 0)] * len(trainings)
    batch = move(batch, device)
    with precision(device, trainings[0].config), together(models, batch):
        losses = [task.loss(model, batch) for model in models]
    torch.autograd.backward([loss * num_targets if summed else loss for loss, num_targets in losses])
    return [(loss.detach(), num_targets) for loss, num_targets in losses]


def _backward_together(training: "Training", task: Task, share: dict[str, Any] | None, step: int) -> tuple[Tensor, int]:
    """Compute the gradients of the whole batch's mean loss, of which this is this worker's share."""
    # Dropout of its own for each worker, the same when the step is taken again after an interruption.
    training.reseed("step", step, training.workers.rank)
    ((loss, num_targets),) = _backward([training], task, share, summed=True)
    return training.workers.add_up(training.parameters, loss.double() * num_targets, num_targets)

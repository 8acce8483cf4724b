"""The training loop: a generator of events over a state that can be saved between any two of them."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW

from pipeline.config import EngineConfig
from pipeline.core.engine.batches import made_ahead, move, ready, training_batches
from pipeline.core.engine.evaluate import precision
from pipeline.core.engine.events import Evaluated, Event, Finished, StepDone
from pipeline.core.engine.machine import peak_bytes, reset_peak
from pipeline.core.engine.trials import seed_of
from pipeline.core.engine.workers import ALONE, Workers
from pipeline.core.tasks.model import TaskModel
from pipeline.core.tasks.task import Encoded, Scores, Task
from pipeline.errors import TrainingDiverged

_SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


class Training:
    """Everything that changes while a model is trained."""

    def __init__(
        self, model: TaskModel, num_examples: int, config: EngineConfig, seed: int, workers: Workers = ALONE
    ) -> None:
        from transformers import get_scheduler

        self.model = model
        self.config = config
        self.seed = seed
        self.workers = workers
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.steps_per_epoch = math.ceil(num_examples / config.batch_size)
        total = self.steps_per_epoch * config.epochs
        self.optimizer = AdamW(_groups(self.parameters, config), lr=config.learning_rate)
        self.schedule = get_scheduler(_SCHEDULES[config.schedule], self.optimizer, round(total * config.warmup), total)
        self.epoch = 1
        self.step_in_epoch = 0
        self.loss_sum = 0.0
        self.num_targets = 0
        self.train_s = 0.0
        self.best_primary = -math.inf
        self.best_loss = math.inf
        self.best_epoch = 0
        reset_peak(model.device)

    def state_dict(self) -> dict[str, Any]:
        """Collect all but the weights: optimiser, schedule, generators, position, best so far."""
        device = self.model.device
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
            "position": {name: getattr(self, name) for name in _POSITION},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to where `state_dict` was called."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"], self.model.device)
        for name in _POSITION:
            setattr(self, name, state["position"].get(name, getattr(self, name)))  # older ones have no best loss


_POSITION = ("epoch", "step_in_epoch", "loss_sum", "num_targets", "train_s", "best_primary", "best_loss", "best_epoch")


def fit(
    training: Training, task: Task, train: Encoded, pad_token_id: int, evaluate: Callable[[], Scores]
) -> Iterator[Event]:
    """Train until no epoch is left or early stopping says so.

    Args:
        training: Fresh, or restored to any point where an event was yielded.
        evaluate: Scores the model on the validation rows. The best epoch is that of the highest score, among equal ones
            of the lowest loss; early stopping counts from it.

    Yields:
        `StepDone` after each step, `Evaluated` after each epoch, at last `Finished`.

    Raises:
        TrainingDiverged: The loss is infinite or not a number.
    """
    config = training.config
    reason = "all epochs done"
    while training.epoch <= config.epochs:
        if config.patience and training.best_epoch and training.epoch - training.best_epoch > config.patience:
            reason = "early stopping"
            break
        yield from _steps(training, task, train, pad_token_id)
        yield _end_epoch(training, len(train.examples), evaluate)
    yield Finished(
        epochs=training.epoch - 1,
        best_epoch=training.best_epoch,
        best_primary=training.best_primary,
        reason=reason,  # type: ignore[arg-type]
    )


def _steps(training: Training, task: Task, train: Encoded, pad_token_id: int) -> Iterator[StepDone]:
    """Take the steps that the present epoch still has."""
    config = training.config
    lengths = [example["length"] for example in train.examples]
    batches = training_batches(lengths, config.batch_size, training.seed, training.epoch)
    device = training.model.device

    def collate(indices: Sequence[int]) -> dict[str, Any] | None:
        """Make this worker's share of a batch; None where it has none."""
        mine = [train.examples[i] for i in training.workers.share(indices)]
        return ready(task.collate(mine, pad_token_id), device) if mine else None

    training.model.train()
    start = time.perf_counter()
    for batch in made_ahead(batches[training.step_in_epoch :], collate):
        step = (training.epoch - 1) * training.steps_per_epoch + training.step_in_epoch + 1
        training.optimizer.zero_grad(set_to_none=True)
        if training.workers.size == 1:
            value, num_targets = _backward(training, task, batch)
        else:
            value, num_targets = _backward_together(training, task, batch, step)
        if not math.isfinite(value):
            raise TrainingDiverged(f"the loss is {value} at step {step} (epoch {training.epoch})")
        learning_rate = training.schedule.get_last_lr()[0]
        nn.utils.clip_grad_norm_(training.parameters, config.clip_norm)
        training.optimizer.step()
        training.schedule.step()
        training.step_in_epoch += 1
        training.loss_sum += value * num_targets
        training.num_targets += num_targets
        training.train_s += time.perf_counter() - start
        yield StepDone(epoch=training.epoch, step=step, loss=value, learning_rate=learning_rate)
        start = time.perf_counter()


def _backward(
    training: Training, task: Task, batch: dict[str, Any] | None, *, summed: bool = False
) -> tuple[float, int]:
    """Compute the gradients of the batch's mean loss, or of its sum; return the mean and the number of targets."""
    if batch is None:
        return 0.0, 0
    model, config = training.model, training.config
    with precision(model.device, config):
        loss, num_targets = task.loss(model, move(batch, model.device))
    torch.autograd.backward(loss * num_targets if summed else loss)
    return loss.item(), num_targets


def _backward_together(training: Training, task: Task, share: dict[str, Any] | None, step: int) -> tuple[float, int]:
    """Compute the gradients of the whole batch's mean loss, of which this is this worker's share."""
    # Dropout of its own for each worker, the same when the step is taken again after an interruption.
    torch.manual_seed(seed_of(training.seed, "step", step, training.workers.rank))
    value, num_targets = _backward(training, task, share, summed=True)
    return training.workers.add_up(training.parameters, value * num_targets, num_targets)


def _end_epoch(training: Training, num_rows: int, evaluate: Callable[[], Scores]) -> Evaluated:
    """Score the epoch and move on to the next."""
    start = time.perf_counter()
    scores = evaluate()
    loss = scores.loss if math.isfinite(scores.loss) else math.inf
    best = scores.primary > training.best_primary
    best |= scores.primary == training.best_primary and loss < training.best_loss
    if best:
        training.best_primary, training.best_loss, training.best_epoch = scores.primary, loss, training.epoch
    evaluated = Evaluated(
        epoch=training.epoch,
        step=training.epoch * training.steps_per_epoch,
        primary=scores.primary,
        metrics=dict(scores.metrics),
        best=best,
        loss=loss,
        train_loss=training.loss_sum / max(training.num_targets, 1),
        train_s=training.train_s,
        eval_s=time.perf_counter() - start,
        rows_per_s=num_rows / max(training.train_s, 1e-9),
        peak_bytes=peak_bytes(training.model.device),
    )
    training.epoch += 1
    training.step_in_epoch, training.loss_sum, training.num_targets, training.train_s = 0, 0.0, 0, 0.0
    return evaluated


def _groups(parameters: list[nn.Parameter], config: EngineConfig) -> list[dict[str, Any]]:
    """Matrices decay; biases, norms and scalars do not."""
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]

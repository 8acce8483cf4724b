"""The training loop: a generator of events over a state that can be saved between any two of them."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import AdamW

from pipeline.config import EngineConfig
from pipeline.core.adapters.dropout import draw_from
from pipeline.core.engine.batches import collated, made_ahead, training_batches
from pipeline.core.engine.events import Diverged, Evaluated, Event, Finished, StepDone
from pipeline.core.engine.machine import peak_bytes, reset_peak
from pipeline.core.engine.step import take_step
from pipeline.core.engine.trials import seed_of
from pipeline.core.engine.workers import ALONE, Workers
from pipeline.core.tasks.model import TaskModel
from pipeline.core.tasks.scores import Scores
from pipeline.core.tasks.task import Encoded, Task

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
        self.generator = torch.Generator(model.device)
        draw_from(model, self.generator)
        self.reseed("training")
        self.steps_per_epoch = math.ceil(num_examples / config.batch_size)
        total = self.steps_per_epoch * config.epochs
        self.optimizer = AdamW(_groups(self.parameters, config), lr=config.learning_rate, fused=True)
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

    def reseed(self, *names: object) -> None:
        """Let dropout begin anew: ours by the training's own generator, that of a checkpoint which is trained itself by
        the one of the process, which no other training uses meanwhile."""
        seed = seed_of(self.seed, *names)
        self.generator.manual_seed(seed)
        torch.manual_seed(seed)

    def state_dict(self) -> dict[str, Any]:
        """Collect all but the weights: optimiser, schedule, generators, position, best so far."""
        device = self.model.device
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "dropout": self.generator.get_state(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
            "position": {name: getattr(self, name) for name in _POSITION},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to where `state_dict` was called."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        for name in _POSITION:
            setattr(self, name, state["position"].get(name, getattr(self, name)))  # older ones have no best loss
        if (state["cuda_rng"] is not None) != (self.model.device.type == "cuda"):
            self.reseed("moved", self.epoch, self.step_in_epoch)  # generators of a GPU and of a CPU have other states
            return
        if "dropout" in state:  # older ones drew from the process's own
            self.generator.set_state(state["dropout"])
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"], self.model.device)


_POSITION = ("epoch", "step_in_epoch", "loss_sum", "num_targets", "train_s", "best_primary", "best_loss", "best_epoch")


def fit(
    trainings: Sequence[Training],
    task: Task,
    train: Encoded,
    pad_token_id: int,
    evaluate: Callable[[Sequence[int]], Sequence[Scores]],
) -> Iterator[tuple[int, Event | Diverged]]:
    """Train candidates of one job until none has an epoch left, or early stopping says so.

    Those that stand at the same step take it together: the base reads the batch once for all of them. Nothing else is
    shared, so that each ends as it would alone, but for the order of sums. One that is behind the others, as after an
    interruption, catches up first.

    Args:
        trainings: Fresh, or restored to any point where an event was yielded. They have the same seed, batch size and
            precision.
        evaluate: Scores the models of these trainings, by their numbers, on the validation rows. The best epoch is that
            of the highest score, among equal ones of the lowest loss; early stopping counts from it.

    Yields:
        With the number of the training, `StepDone` after each step and `Evaluated` after each epoch; at last
        `Finished`, or `Diverged` where the loss is infinite or not a number.
    """
    running = dict(enumerate(trainings))
    while running:
        for number, training in [*running.items()]:
            if (reason := _over(training)) is not None:
                del running[number]
                yield number, _finished(training, reason)
        epoch = min((training.epoch for training in running.values()), default=0)
        behind = {number: training for number, training in running.items() if training.epoch == epoch}
        for number, event in _steps(behind, task, train, pad_token_id):
            if isinstance(event, Diverged):
                del running[number]
            yield number, event
        still = {number: training for number, training in behind.items() if number in running}
        if still:
            yield from _end_epoch(still, len(train.examples), evaluate)


def _over(training: Training) -> Literal["all epochs done", "early stopping"] | None:
    """Why a training has no further epoch, if that is so."""
    config = training.config
    if training.epoch > config.epochs:
        return "all epochs done"
    if config.patience and training.best_epoch and training.epoch - training.best_epoch > config.patience:
        return "early stopping"
    return None


def _finished(training: Training, reason: Literal["all epochs done", "early stopping"]) -> Finished:
    return Finished(
        epochs=training.epoch - 1,
        best_epoch=training.best_epoch,
        best_primary=training.best_primary,
        reason=reason,
    )


def _steps(
    trainings: Mapping[int, Training], task: Task, train: Encoded, pad_token_id: int
) -> Iterator[tuple[int, StepDone | Diverged]]:
    """Take the steps that the present epoch, the same of all, still has."""
    if not trainings:
        return
    left = dict(trainings)
    first = next(iter(left.values()))
    workers = first.workers
    lengths = [example["length"] for example in train.examples]
    batches = training_batches(lengths, first.config.batch_size, first.seed, first.epoch)

    def collate(indices: Sequence[int]) -> dict[str, Any] | None:
        """Make this worker's share of a batch; None where it has none."""
        mine = [train.examples[i] for i in workers.share(indices)]
        return collated(task, mine, pad_token_id, first.model) if mine else None

    for training in left.values():
        training.model.train()
    begin = min(training.step_in_epoch for training in left.values())
    start = time.perf_counter()
    for place, batch in enumerate(made_ahead(batches[begin:], collate), start=begin):
        numbers = [number for number, training in left.items() if training.step_in_epoch == place]
        if not numbers:  # all that were behind have diverged
            continue
        some = [left[number] for number in numbers]
        step = (first.epoch - 1) * first.steps_per_epoch + place + 1
        rates = [training.schedule.get_last_lr()[0] for training in some]
        found = take_step(some, task, batch, step)
        for training in some:
            training.train_s += (time.perf_counter() - start) / len(some)  # its share of what all took
        for number, rate, (value, _) in zip(numbers, rates, found, strict=True):
            if math.isfinite(value):
                yield number, StepDone(epoch=first.epoch, step=step, loss=value, learning_rate=rate)
            else:
                del left[number]
                yield number, Diverged(reason=f"the loss is {value} at step {step} (epoch {first.epoch})")
        if not left:
            return
        start = time.perf_counter()


def _end_epoch(
    trainings: Mapping[int, Training], num_rows: int, evaluate: Callable[[Sequence[int]], Sequence[Scores]]
) -> Iterator[tuple[int, Evaluated]]:
    """Score the epoch of each and move on to the next."""
    start = time.perf_counter()
    scored = evaluate(list(trainings))
    eval_s = (time.perf_counter() - start) / len(trainings)
    for (number, training), scores in zip(trainings.items(), scored, strict=True):
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
            eval_s=eval_s,
            rows_per_s=num_rows / max(training.train_s, 1e-9),
            peak_bytes=peak_bytes(training.model.device),
        )
        training.epoch += 1
        training.step_in_epoch, training.loss_sum, training.num_targets, training.train_s = 0, 0.0, 0, 0.0
        yield number, evaluated


def _groups(parameters: list[nn.Parameter], config: EngineConfig) -> list[dict[str, Any]]:
    """Matrices decay; biases, norms and scalars do not."""
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]

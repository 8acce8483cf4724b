"""What a job would cost, measured by a few real training steps on this machine."""

import time
from dataclasses import dataclass

from transformers import PreTrainedModel

from pipeline.core.adapters.checkpoint import Checkpoint, num_parameters
from pipeline.core.engine.assemble import fresh_model, release
from pipeline.core.engine.batches import training_batches
from pipeline.core.engine.loop import Training, fit
from pipeline.core.engine.machine import peak_bytes
from pipeline.core.engine.trials import Job, Trial
from pipeline.core.tasks.task import Scores

_STEPS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What one trial of a job needs."""

    epoch_s: float
    """Seconds of one epoch on one slot, validation included."""
    memory_bytes: int
    """Most memory that this process had, checkpoint included, while it took the steps."""
    num_trained: int
    """Parameters of adapter and head."""
    num_checkpoint: int

    @property
    def share(self) -> float:
        """Trained parameters over those of the checkpoint."""
        return self.num_trained / self.num_checkpoint


def trained_share(base: PreTrainedModel, checkpoint: Checkpoint, job: Job, trial: Trial) -> tuple[int, int]:
    """Count what a trial trains, adapter and head, and what the checkpoint has."""
    settings = trial.settings
    model = fresh_model(base, checkpoint, job.task, settings.method, settings.engine, trial.seed)
    try:
        return sum(p.numel() for p in model.parameters() if p.requires_grad), num_parameters(base)
    finally:
        release(model, settings.method)


def estimate(base: PreTrainedModel, checkpoint: Checkpoint, pad_token_id: int, job: Job, trial: Trial) -> Estimate:
    """Take a few training steps of a trial and extrapolate by sub-tokens.

    Evaluation is counted as a third of the cost of training a sub-token: one pass forward instead of one
    forward and one back through the activations and into the bottlenecks.
    """
    settings, train = trial.settings, job.encoded["train"]
    num_trained, num_checkpoint = trained_share(base, checkpoint, job, trial)
    model = fresh_model(base, checkpoint, job.task, settings.method, settings.engine, trial.seed)
    try:
        training = Training(model, len(train.examples), settings.engine, trial.seed)
        lengths = [example["length"] for example in train.examples]
        batches = training_batches(lengths, settings.engine.batch_size, trial.seed, 1)[: _STEPS + 1]
        events = fit(training, job.task, train, pad_token_id, _never)
        next(events)  # the first step pays for allocations
        start = time.perf_counter()
        for _ in batches[1:]:
            next(events)
        seconds = time.perf_counter() - start
        memory = peak_bytes(model.device)
    finally:
        release(model, settings.method)
    measured = sum(lengths[i] for batch in batches[1:] for i in batch) or sum(lengths)
    per_token = seconds / measured
    validation = sum(example["length"] for example in job.encoded["validation"].examples)
    return Estimate(
        epoch_s=per_token * (sum(lengths) + validation / 3),
        memory_bytes=memory,
        num_trained=num_trained,
        num_checkpoint=num_checkpoint,
    )


def _never() -> Scores:
    raise AssertionError("an estimate ends before the first evaluation")

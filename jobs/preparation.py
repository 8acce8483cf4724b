"""What happens before a sweep trains anything: everything is read, checked, counted and shown."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rich.console import Console
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from pipeline.adapters.checkpoint import Checkpoint, build_base, load_tensors, load_tokenizer, open_checkpoint
from pipeline.cluster import room, search
from pipeline.cluster.plan import plan_of
from pipeline.config import SweepConfig
from pipeline.data.load import resolve
from pipeline.engine.estimate import estimate, trained_share
from pipeline.engine.prepare import prepare_jobs
from pipeline.engine.trials import Job, Settings, Trial, trial_of
from pipeline.errors import Faults
from pipeline.reports.tables import MatrixRow, matrix_table

LARGE_SHARE = 0.05
"""Above this an adapter is no longer small, and the user is warned."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A sweep that can start: everything that could be wrong with the input was looked at."""

    checkpoint: Checkpoint
    tokenizer: PreTrainedTokenizerBase
    base: PreTrainedModel
    jobs: Sequence[Job]


def prepare(config: SweepConfig) -> Prepared:
    """Find the checkpoint, read the data and check the search.

    Raises:
        UserError: With everything that is wrong.
    """
    transformers_logging.set_verbosity_error()
    checkpoint = _check(config)
    tokenizer = load_tokenizer(checkpoint)
    jobs = prepare_jobs(config, tokenizer)
    base = build_base(checkpoint, load_tensors(checkpoint))
    return Prepared(checkpoint=checkpoint, tokenizer=tokenizer, base=base, jobs=jobs)


def _check(config: SweepConfig) -> Checkpoint:
    """Judge what can be judged without reading a row, all of it at once; return the verified checkpoint."""
    faults = Faults()
    with faults.gathered():
        checkpoint = open_checkpoint(config.checkpoint)
    with faults.gathered():
        resolve(config.tasks, config.task, config.data)
    with faults.gathered():
        search.check(config.search, Settings(method=config.method, engine=config.engine))
    with faults.gathered():
        room.check(config.cluster, room.local_resources(config.cluster))
    faults.raise_any()
    return checkpoint


def announce(config: SweepConfig, prepared: Prepared, console: Console) -> None:
    """Show the matrix, what was noticed in the data, and in a dry run what it would cost."""
    checkpoint, plan = prepared.checkpoint, plan_of(config.search, config.engine.epochs)
    rows = []
    for job in prepared.jobs:
        trial = widest(config, job)
        trained, total = trained_share(prepared.base, checkpoint, job, trial)
        cost = None
        if config.dryrun:
            torch.set_num_threads(config.cluster.cpus_per_trial)  # as a trial will have
            cost = estimate(prepared.base, checkpoint, prepared.tokenizer.pad_token_id, job, trial)
        data = job.dataset
        rows.append(
            MatrixRow(
                job=job.name,
                kind=job.task.config.kind,
                num_train=len(data.train.rows),
                num_validation=len(data.validation.rows),
                num_test=len(data.test.rows),
                trials=plan.trials,
                epochs=plan.epochs,
                share=trained / total,
                seconds=cost.epoch_s * plan.epochs / slots(config) if cost else None,
                memory_bytes=cost.memory_bytes * slots(config) if cost else None,
            )
        )
    console.print(
        f"{checkpoint.config.name} ({checkpoint.model_type}, sha256 {checkpoint.sha256[:12]}), frozen; "
        f"method {config.method.name}; {config.search.algorithm} search, {config.search.scheduler}; seed {config.seed}"
    )
    console.print(matrix_table(rows))
    for job in prepared.jobs:
        for note in [*job.dataset.notes, *truncation_notes(job)]:
            console.print(f"{job.name}: {note}", markup=False, soft_wrap=True)
    for row in rows:
        if row.share > LARGE_SHARE:
            text = f"{row.job}: trains {row.share:.1%} of the checkpoint's parameters, more than {LARGE_SHARE:.0%}"
            console.print(f"Warning: {text}; narrow method.width", style="yellow", markup=False)
    if config.dryrun:
        seconds = sum(row.seconds or 0.0 for row in rows)
        console.print(f"About {seconds / 60:.0f} min on {slots(config)} slots of this machine. Nothing was trained.")


def widest(config: SweepConfig, job: Job) -> Trial:
    """The job's trial with the widest bottleneck that the search may propose."""
    width = config.search.space.get("method.width")
    if width is None:
        return trial_of(job, 0, {})
    values = width.choice or width.uniform or width.log_uniform or []
    return trial_of(job, 0, {"method.width": int(max(values))})


def slots(config: SweepConfig) -> int:
    """Trials that run side by side."""
    return room.num_slots(config.cluster, room.local_resources(config.cluster))


def truncation_notes(job: Job) -> list[str]:
    """Say how many rows are longer than the model reads."""
    cut = {name: split.num_truncated for name, split in job.encoded.items() if split.num_truncated}
    counts = ", ".join(f"{number} of {name}" for name, number in cut.items())
    return [f"truncated to {job.task.config.max_length} sub-tokens: {counts} rows"] if cut else []

"""What a sweep is going to do, before it does it: counted, in a dry run timed by a few real steps, and shown."""

import os
from itertools import product
from operator import attrgetter
from typing import TYPE_CHECKING

import torch
from rich.console import Console

from pipeline.config import CompareConfig, SweepConfig
from pipeline.config.sweep import TRACKING_VARIABLE
from pipeline.core.adapters.checkpoint import Resident, num_parameters
from pipeline.core.data.rows import WARNING
from pipeline.core.engine.assemble import fresh_model, release
from pipeline.core.engine.trials import Job, Trial, trial_of
from pipeline.errors import masked
from pipeline.reports.tables import MatrixRow, matrix_table
from pipeline.rules.power import shortfall
from pipeline.rules.search import plan_of, search_of
from pipeline.steps.outlook import Outlook, outlook
from pipeline.steps.prefix import prefix_notes
from pipeline.steps.prepare import Prepared, widest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LARGE_SHARE = 0.05
"""Above this an adapter is no longer small, and the user is warned."""
FEW_ROWS = 20
"""With fewer validation rows a winner is a matter of luck, and the user is warned."""

_SIZES = ("method.reduction_factor", "method.layers")
"""Settings that say how much is trained, beside the width."""


def announce(config: SweepConfig, prepared: Prepared, console: Console) -> None:
    """Show the matrix, what was noticed in the data, what later passes could show on it, and in a dry run the time."""
    checkpoint, jobs = prepared.checkpoint, prepared.jobs
    trials = [(job, _widest(config, prepared, job)) for job in jobs]
    estimate = outlook(config, prepared, trials) if config.dryrun else None
    rows = [_row(config, prepared, job, trial, estimate) for job, trial in trials]
    methods = ", ".join(dict.fromkeys(job.settings.method.name for job in jobs))
    console.print(
        f"{checkpoint.config.name} ({checkpoint.model_type}, sha256 {checkpoint.sha256[:12]}), frozen; "
        f"method {methods}; {config.search.algorithm} search, {config.search.scheduler}; seed {config.seed}; "
        f"{config.engine.precision}"
    )
    if config.tracking.uri == os.environ.get(TRACKING_VARIABLE):
        console.print(f"Recorded at {masked(config.tracking.uri)} ({TRACKING_VARIABLE})", soft_wrap=True)
    if config.cluster.name != "existing" and not config.cluster.gpus_per_trial and torch.cuda.is_available():
        here = config.cluster.name == "here"
        remedy = "cluster.gpus_per_trial=" + ("1 trains on it" if here else "0.25 trains four trials at once on each")
        console.print(f"The GPU of this machine is not used: {remedy}", soft_wrap=True)
    if config.search.scheduler == "asha":
        rule = "another run, or this one resumed, may prune other trials"
        console.print(f"search.scheduler=asha prunes by order of arrival: {rule}", soft_wrap=True)
    console.print(matrix_table(rows))
    notes = [
        (f"{job.dataset.task}/{job.dataset.domain}: {note.removeprefix(WARNING)}", note.startswith(WARNING))
        for job in jobs
        for note in [*job.dataset.notes, *truncation_notes(job, prepared.tokenizer)]
    ]
    for note in prefix_notes(config, prepared):
        console.print(note, soft_wrap=True)
    for note, warns in dict.fromkeys(notes):  # the same of each method that is compared
        console.print(f"{WARNING if warns else ''}{note}", soft_wrap=True, style="yellow" if warns else None)
    if not isinstance(config, CompareConfig):  # which registers nothing
        for job in jobs:
            if note := shortfall(job.task, job.dataset, config.gate):
                console.print(f"{job.name}: {note}", soft_wrap=True)
    for row, job in zip(rows, jobs, strict=True):
        if row.share > LARGE_SHARE and job.settings.method.shown_width is not None:
            text = f"{row.job}: trains {row.share:.1%} of the checkpoint's parameters, more than {LARGE_SHARE:.0%}"
            console.print(f"Warning: {text}; narrow method.width", style="yellow")
        if row.num_validation < FEW_ROWS:
            text = f"{row.job}: chooses its winner on {row.num_validation} validation rows, which say little"
            console.print(f"Warning: {text}", style="yellow", soft_wrap=True)
    if estimate is not None:
        console.print(estimate.line(prepared.slots), soft_wrap=True)


def _row(config: SweepConfig, prepared: Prepared, job: Job, trial: Trial, estimate: Outlook | None) -> MatrixRow:
    searched = search_of(config.search, job)
    plan = plan_of(searched, config.engine.epochs)
    num_train, num_validation, num_test = (len(split.rows) for split in job.dataset.splits)
    return MatrixRow(
        job=job.name,
        kind=job.task.config.kind,
        num_train=num_train,
        num_validation=num_validation,
        num_test=num_test,
        trials=plan.trials,
        epochs=plan.epochs,
        share=trained_share(prepared, job, trial),
        cost=estimate.costs[job.name] if estimate is not None else None,
        fixed=", ".join(f"{key.rpartition('.')[2]} {attrgetter(key)(job.settings)}" for key in config.search.fixed),
    )


def _widest(config: SweepConfig, resident: Resident, job: Job) -> Trial:
    """The trial of a job that trains the most parameters."""
    search = search_of(config.search, job)
    searched = {key: search.space[key].named for key in _SIZES if key in search.space}
    searched["method.width"] = [widest(search, job.settings.method)]
    trials = [trial_of(job, 0, dict(zip(searched, values, strict=True))) for values in product(*searched.values())]
    return max(trials, key=lambda one: trained_share(resident, job, one)) if len(trials) > 1 else trials[0]


def truncation_notes(job: Job, tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """Say how many rows are longer than the model reads, and what becomes of them."""
    cut = {name: split.num_truncated for name, split in job.encoded.items() if split.num_truncated}
    counts = ", ".join(f"{number} of {name}" for name, number in cut.items())
    return [f"{job.task.truncation(tokenizer)}: {counts} rows"] if cut else []


def trained_share(resident: Resident, job: Job, trial: Trial) -> float:
    """Count what a trial trains, adapter and head, over the checkpoint's parameters."""
    settings = trial.settings
    model = fresh_model(resident.base, resident.checkpoint, job.task, settings.method, settings.engine, trial.seed)
    try:
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        return trained / num_parameters(resident.base)
    finally:
        release(model, settings.method)

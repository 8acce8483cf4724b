"""What happens before a sweep trains anything: everything is read, checked, counted and shown."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

import torch
from rich.console import Console
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from pipeline.cluster import connection
from pipeline.config import METHOD_TRAITS, DataConfig, MethodConfig, SearchConfig, SweepConfig, TaskConfig
from pipeline.core.adapters.checkpoint import Checkpoint, build_base, load_tensors, load_tokenizer, open_checkpoint
from pipeline.core.adapters.insert import chosen_layers, num_layers_of
from pipeline.core.data.load import job_name, load, registered_name, resolve
from pipeline.core.data.rows import Dataset
from pipeline.core.engine.trials import Job, Settings, Trial, trial_of
from pipeline.core.tasks.kinds import task_for
from pipeline.core.tasks.task import Encoded, Task
from pipeline.errors import ConfigError, Fault, Faults
from pipeline.reports.tables import Cost, MatrixRow, matrix_table
from pipeline.reports.words import duration
from pipeline.rules import search
from pipeline.rules import slots as room
from pipeline.rules.search import plan_of
from pipeline.steps.estimate import estimate, trained_share

LARGE_SHARE = 0.05
"""Above this an adapter is no longer small, and the user is warned."""
FEW_ROWS = 20
"""With fewer validation rows a winner is a matter of luck, and the user is warned."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Resident:
    """The checkpoint in this process."""

    checkpoint: Checkpoint
    tokenizer: PreTrainedTokenizerBase
    base: PreTrainedModel


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared(Resident):
    """A sweep that can start: everything that could be wrong with the input was looked at."""

    jobs: Sequence[Job]
    slots: int
    """Trials that run side by side."""


def prepare(config: SweepConfig) -> Prepared:
    """Find the checkpoint, read the data and check the search.

    Raises:
        UserError: With everything that is wrong.
    """
    transformers_logging.set_verbosity_error()
    checkpoint, slots = _check(config)
    tokenizer = load_tokenizer(checkpoint)
    jobs = prepare_jobs(config, tokenizer)
    base = build_base(checkpoint, load_tensors(checkpoint))
    searched = config.search.space.get("method.layers")
    for layers in searched.named if searched else [config.method.layers]:
        chosen_layers(layers, num_layers_of(base))
    check_fit(jobs, checkpoint, config.method)
    return Prepared(checkpoint=checkpoint, tokenizer=tokenizer, base=base, jobs=jobs, slots=slots)


def open_resident(config: SweepConfig) -> tuple[Resident, int]:
    """Find and load the checkpoint of a pass over champions; return it with the number of slots.

    Raises:
        UserError: With everything that is wrong.
    """
    transformers_logging.set_verbosity_error()
    checkpoint, slots = _check(config)
    tokenizer = load_tokenizer(checkpoint)
    base = build_base(checkpoint, load_tensors(checkpoint))
    return Resident(checkpoint=checkpoint, tokenizer=tokenizer, base=base), slots


def _check(config: SweepConfig) -> tuple[Checkpoint, int]:
    """Judge what can be judged without reading a row, all of it at once; return the checkpoint and the slots."""
    faults = Faults()
    with faults.gathered():
        checkpoint = open_checkpoint(config.checkpoint)
    with faults.gathered():
        resolve(config.tasks, config.task, config.data)
    with faults.gathered():
        search.check(config.search, Settings(method=config.method, engine=config.engine))
    with faults.gathered():
        nodes = connection.survey(config.cluster)
        room.check(config.cluster, nodes)
        several = room.several_nodes(config.cluster, nodes)
        if several and config.tracking.uri.startswith("sqlite:"):
            rule = f"is a file on this node, and {several}"
            remedy = "Set tracking.uri=http://<host>:5000, where `mlflow server` runs"
            raise ConfigError(Fault(where="tracking.uri", value=config.tracking.uri, rule=rule, remedy=remedy))
    faults.raise_any()
    return checkpoint, room.num_slots(config.cluster, nodes)


def announce(config: SweepConfig, prepared: Prepared, console: Console) -> None:
    """Show the matrix, what was noticed in the data, and in a dry run what it would cost."""
    checkpoint, num_slots = prepared.checkpoint, prepared.slots
    methods = ", ".join(dict.fromkeys(job.settings.method.name for job in prepared.jobs))
    rows = []
    for job in prepared.jobs:
        plan = plan_of(search.search_of(config.search, job), config.engine.epochs)
        trial = widest_trial(config, job)
        trained, total = trained_share(prepared.base, checkpoint, job, trial)
        cost = None
        if config.dryrun:
            torch.set_num_threads(config.cluster.cpus_per_trial)  # as a trial will have
            one = estimate(prepared.base, checkpoint, prepared.tokenizer.pad_token_id, job, trial)
            cost = Cost(seconds=one.epoch_s * plan.epochs / num_slots, memory_bytes=one.memory_bytes * num_slots)
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
                cost=cost,
                fixed=fixed_settings(config.search.fixed, job.settings),
            )
        )
    console.print(
        f"{checkpoint.config.name} ({checkpoint.model_type}, sha256 {checkpoint.sha256[:12]}), frozen; "
        f"method {methods}; {config.search.algorithm} search, {config.search.scheduler}; seed {config.seed}"
    )
    if config.cluster.name == "local" and not config.cluster.gpus_per_trial and torch.cuda.is_available():
        remedy = "cluster.gpus_per_trial=0.25 trains four trials at once on each"
        console.print(f"The GPU of this machine is not used: {remedy}", markup=False, soft_wrap=True)
    if config.search.scheduler == "asha":
        rule = "another run, or this one resumed, may prune other trials"
        console.print(f"search.scheduler=asha prunes by order of arrival: {rule}", markup=False, soft_wrap=True)
    console.print(matrix_table(rows))
    notes = [
        f"{job.dataset.task}/{job.dataset.domain}: {note}"
        for job in prepared.jobs
        for note in [*job.dataset.notes, *truncation_notes(job, prepared.tokenizer)]
    ]
    for note in dict.fromkeys(notes):  # the same of each method that is compared
        console.print(note, markup=False, soft_wrap=True)
    for row, job in zip(rows, prepared.jobs, strict=True):
        if row.share > LARGE_SHARE and job.settings.method.shown_width is not None:
            text = f"{row.job}: trains {row.share:.1%} of the checkpoint's parameters, more than {LARGE_SHARE:.0%}"
            console.print(f"Warning: {text}; narrow method.width", style="yellow", markup=False)
        if row.num_validation < FEW_ROWS:
            text = f"{row.job}: chooses its winner on {row.num_validation} validation rows, which say little"
            console.print(f"Warning: {text}", style="yellow", markup=False, soft_wrap=True)
    if config.dryrun:
        needed = duration(sum(row.cost.seconds for row in rows if row.cost))
        room_for = "1 slot" if num_slots == 1 else f"{num_slots} slots"
        console.print(
            f"About {needed} of training on {room_for} of this machine; starting, testing and recording come on top. "
            "Nothing was trained.",
            soft_wrap=True,
        )


def fixed_settings(keys: Sequence[str], settings: Settings) -> str:
    """Say what the keys are fixed to: `learning_rate 1e-05, width 16`."""
    return ", ".join(f"{key.rpartition('.')[2]} {attrgetter(key)(settings)}" for key in keys)


def widest_trial(config: SweepConfig, job: Job) -> Trial:
    """The job's trial with the widest bottleneck that the search may propose."""
    return trial_of(job, 0, {"method.width": widest(search.search_of(config.search, job), job.settings.method)})


def truncation_notes(job: Job, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Say how many rows are longer than the model reads, and what becomes of them."""
    cut = {name: split.num_truncated for name, split in job.encoded.items() if split.num_truncated}
    counts = ", ".join(f"{number} of {name}" for name, number in cut.items())
    return [f"{job.task.truncation(tokenizer)}: {counts} rows"] if cut else []


def prepare_jobs(config: SweepConfig, tokenizer: PreTrainedTokenizerBase) -> list[Job]:
    """Read, check and tokenise the data of every job that the config asks for.

    Raises:
        UserError: With the faults of all jobs.
    """
    jobs: list[Job] = []
    faults = Faults()
    for task, domain in resolve(config.tasks, config.task, config.data):
        with faults.gathered():
            jobs.append(_prepare(config, task, domain, config.data, tokenizer))
    faults.raise_any()
    return jobs


def check_fit(jobs: Sequence[Job], checkpoint: Checkpoint, method: MethodConfig) -> None:
    """Check that the checkpoint and the method can do what the jobs ask.

    Raises:
        ConfigError: The checkpoint lacks what a task needs, the method cannot train it, or its metric is not installed.
    """
    faults: list[Fault] = []
    for task in {job.task.config.name: job.task for job in jobs}.values():
        faults += task.unfit(checkpoint)
        kind = task.config.kind
        if reason := METHOD_TRAITS[method.name].cannot.get(kind):
            rule = f"cannot be used for task.{task.config.name}, a task of {kind}: {reason}"
            others = ", ".join(name for name, traits in METHOD_TRAITS.items() if kind not in traits.cannot)
            faults.append(Fault(where="method", value=method.name, rule=rule, remedy=f"Use one of {others}"))
    if faults:
        raise ConfigError(faults)


def widest(search: SearchConfig, method: MethodConfig) -> int:
    """The largest width that a trial may have."""
    range_ = search.space.get("method.width")
    return max(map(round, range_.named)) if range_ else method.width


def most_virtual_tokens(search: SearchConfig, method: MethodConfig) -> int:
    """The positions that the method takes from the text, at the widest that the search may propose."""
    return dataclasses.replace(method, width=widest(search, method)).virtual_tokens


def encode(task: Task, dataset: Dataset, tokenizer: PreTrainedTokenizerBase) -> dict[str, Encoded]:
    """Tokenise every split: train, validation, test -> examples."""
    return {split.name: task.encode(split.rows, tokenizer) for split in dataset.splits}


def _prepare(
    config: SweepConfig,
    task_config: TaskConfig,
    domain: str,
    data: DataConfig,
    tokenizer: PreTrainedTokenizerBase,
) -> Job:
    dataset = load(task_config, domain, data)
    task = task_for(task_config, dataset)
    task.reserved = most_virtual_tokens(config.search, config.method)
    return Job(
        name=job_name(task_config, domain),
        registered_name=registered_name(task_config, domain),
        task=task,
        dataset=dataset,
        encoded=encode(task, dataset, tokenizer),
        settings=Settings(method=config.method, engine=config.engine),
        seed=config.seed,
    )

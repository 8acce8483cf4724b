"""A config becomes jobs: what it names is found, what can be wrong is checked, the rows are read and tokenised."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pipeline.config import (
    METHOD_TRAITS,
    CompareConfig,
    GateConfig,
    MethodConfig,
    SearchConfig,
    SweepConfig,
    TaskConfig,
)
from pipeline.config.task import LOWER
from pipeline.core.adapters.anatomy import layers_of
from pipeline.core.adapters.checkpoint import Checkpoint, Resident, load_checkpoint, open_checkpoint
from pipeline.core.adapters.insert import chosen_layers
from pipeline.core.data.load import job_name, load, registered_name, resolve
from pipeline.core.engine.events import JobTested
from pipeline.core.engine.precision import has_bfloat16
from pipeline.core.engine.trials import Job, Settings
from pipeline.core.tasks.kinds import restore, task_for
from pipeline.errors import ConfigError, Fault, Faults, fault
from pipeline.rules import search, slots

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

C = TypeVar("C", bound=SweepConfig)


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared(Resident):
    """Work that can start, on a checkpoint in this process: all that could be wrong with the input was looked at."""

    wanted: Sequence[tuple[TaskConfig, str]]
    """The tasks and domains that were asked for."""
    slots: int
    """Trials that run side by side."""
    jobs: Sequence[Job] = ()
    """What is trained; nothing yet in a pass, which first sees what is new."""
    has_bfloat16: bool = False
    """Whether every node that trains has it."""

    def settled(self, config: C) -> C:
        """The config with what `engine.precision=auto` stands for here: it is kept, and a sweep that is resumed on
        another machine goes on in it."""
        if config.engine.precision != "auto":
            return config
        engine = dataclasses.replace(config.engine, precision="bfloat16" if self.has_bfloat16 else "float32")
        return dataclasses.replace(config, engine=engine)

    def job_of(self, winner: JobTested) -> Job:
        """The job that was won."""
        return next(job for job in self.jobs if job.name == winner.trial.job)


def prepare(config: SweepConfig) -> Prepared:
    """Find and load the checkpoint, read and tokenise the data, and check that the methods fit both.

    Raises a UserError with everything that is wrong, as do `open_resident` and `read_job`.
    """
    contenders = _contenders(config)
    prepared = open_resident(config)
    config = prepared.settled(config)
    jobs, faults = [], Faults()
    for task, domain in prepared.wanted:
        with faults.gathered():
            jobs.append(read_job(config, task, domain, prepared.tokenizer))
    faults.raise_any()
    for method, searched in contenders:
        range_ = searched.space.get("method.layers")
        with faults.gathered():
            for layers in range_.named if range_ else [method.layers]:
                chosen_layers(layers, len(layers_of(prepared.base)))
        with faults.gathered():
            check_fit(jobs, prepared.checkpoint, method)
    faults.raise_any()
    return dataclasses.replace(prepared, jobs=jobs)


def open_resident(config: SweepConfig) -> Prepared:
    """Check what can be checked without reading a row, all of it at once; then load the checkpoint."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    contenders, faults = _contenders(config), Faults()
    with faults.gathered():
        nodes, halves = _nodes(config)
        slots.check(config.cluster, nodes)
        num_slots = slots.num_slots(config.cluster, nodes)
        several = slots.several_nodes(config.cluster, nodes)
        if several and config.tracking.uri.startswith("sqlite:"):
            rule = f"is a file on this node, and {several}"
            remedy = "Set tracking.uri=http://<host>:5000, where `mlflow server` runs"
            raise ConfigError(fault("tracking.uri", config.tracking.uri, rule, remedy))
    for method, searched in contenders:
        with faults.gathered():
            search.check(searched, Settings(method=method, engine=config.engine))
    with faults.gathered():
        wanted = resolve(config.tasks, config.task, config.data)
        check_floor({task.name: task for task, _ in wanted}.values(), config.gate)
    with faults.gathered():
        checkpoint = open_checkpoint(config.checkpoint)
    faults.raise_any()
    loaded = load_checkpoint(checkpoint)
    of = {"checkpoint": loaded.checkpoint, "tokenizer": loaded.tokenizer, "base": loaded.base}
    return Prepared(**of, wanted=wanted, slots=num_slots, has_bfloat16=halves)


def check_floor(tasks: Iterable[TaskConfig], gate: GateConfig) -> None:
    """Raise a ConfigError where a least score is asked of a metric of which less is better."""
    for task in tasks:
        if gate.floor is not None and task.primary in LOWER:
            rule = f"cannot be a least score of {task.name}: of its metric, {task.primary}, less is better"
            remedy = f"Leave it out, or set task.{task.name}.metric=spearman"
            raise ConfigError(fault("gate.floor", gate.floor, rule, remedy))


def _nodes(config: SweepConfig) -> tuple[slots.Nodes, bool]:
    """Say what the nodes have or will have, and whether all that train multiply bfloat16; nothing is started. Other
    nodes are asked that only where it decides, since loading torch takes them seconds. Of GPUs that are still to join
    it is taken for granted."""
    cluster = config.cluster
    device_type = "cuda" if cluster.gpus_per_trial else "cpu"
    if cluster.name == "existing":
        from pipeline.cluster import connection  # here alone: a search in this process does without Ray

        with connection.connected(cluster):
            if config.engine.precision != "auto":
                return connection.nodes(), False
            having = "GPU" if cluster.gpus_per_trial else "CPU"
            answers = connection.everywhere(has_bfloat16, device_type, having=having)
            return connection.nodes(), all(answers) if answers else device_type == "cuda"
    return [slots.local_node(cluster)], has_bfloat16(device_type)


def read_job(config: SweepConfig, task_config: TaskConfig, domain: str, tokenizer: "PreTrainedTokenizerBase") -> Job:
    """Read, check and tokenise the data of one task and domain."""
    reserved = most_virtual_tokens(config.search, config.method)
    dataset = load(task_config, domain, config.data, kind=restore(task_config))
    task = task_for(task_config, dataset)
    dataset = dataclasses.replace(dataset, notes=(*dataset.notes, *task.notes(dataset)))
    task.reserved = reserved
    return Job(
        name=job_name(task_config, domain),
        registered_name=registered_name(task_config, domain),
        task=task,
        dataset=dataset,
        encoded=task.encoded(dataset, tokenizer),
        settings=Settings(method=config.method, engine=config.engine),
        seed=config.seed,
        searched={key: range_.ends for key, range_ in config.search.space.items() if range_.ends},
    )


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
            faults.append(fault("method", method.name, rule, f"Use one of {others}"))
    if faults:
        raise ConfigError(faults)


def widest(search: SearchConfig, method: MethodConfig) -> int:
    """The largest width that a trial may have."""
    range_ = search.space.get("method.width")
    return max(map(round, range_.named)) if range_ else method.width


def most_virtual_tokens(search: SearchConfig, method: MethodConfig) -> int:
    """The positions that the method takes from the text, at the widest that the search may propose."""
    return dataclasses.replace(method, width=widest(search, method)).virtual_tokens


def _contenders(config: SweepConfig) -> list[tuple[MethodConfig, SearchConfig]]:
    """The methods that are trained, each with its search."""
    if not isinstance(config, CompareConfig):
        return [(config.method, config.search)]
    chosen = (config.contenders[name] for name in config.methods)
    return [(one.method, dataclasses.replace(config.search, space=one.space)) for one in chosen]

"""From a config to jobs that are ready to be trained: data read, checked and tokenised."""

import dataclasses
from collections.abc import Mapping, Sequence

from transformers import PreTrainedTokenizerBase

from pipeline.adapters.checkpoint import Checkpoint
from pipeline.config import DataConfig, MethodConfig, MethodName, SearchConfig, SweepConfig, TaskConfig
from pipeline.data.load import job_name, load, registered_name, resolve
from pipeline.data.rows import Dataset
from pipeline.engine.trials import Job, Settings
from pipeline.errors import ConfigError, Fault, Faults
from pipeline.methods import METHODS, virtual_tokens
from pipeline.tasks import metrics
from pipeline.tasks.kinds import task_for
from pipeline.tasks.task import Encoded, Task


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
        ConfigError: A task is to write text, and the checkpoint or the method cannot, or its metric is not installed.
    """
    faults: list[Fault] = []
    for config in {job.task.config.name: job.task.config for job in jobs}.values():
        if config.kind != "generation":
            continue
        where = f"task.{config.name}"
        if not checkpoint.has_lm_head:
            rule = f"is a task of generation, and {checkpoint.config.name} ({checkpoint.model_type}) cannot write"
            remedy = "Use a checkpoint that was saved with its language-model head, such as a T5, BART or GPT"
            faults.append(Fault(where=where, value="", rule=rule, remedy=remedy))
        if method.name in _WITHOUT_GENERATION:
            rule = f"cannot be used for {where}, a task of generation: {_WITHOUT_GENERATION[method.name]}"
            others = ", ".join(name for name in METHODS if name not in _WITHOUT_GENERATION)
            faults.append(Fault(where="method", value=method.name, rule=rule, remedy=f"Use one of {others}"))
        if config.primary == "chrf" and not metrics.has_chrf():
            remedy = f"Install it, or set {where}.metric=exact_match"
            faults.append(Fault(where=f"{where}.metric", value="chrf", rule="needs sacrebleu", remedy=remedy))
    if faults:
        raise ConfigError(faults)


_WITHOUT_GENERATION: Mapping[MethodName, str] = {
    "probe": "the language-model head stays frozen, so that nothing would be trained",
    "prompt": "its virtual tokens stand before the body of the model, without the language-model head",
}
"""Methods that cannot train a task of generation, and why."""


def widest(search: SearchConfig, method: MethodConfig) -> int:
    """The largest width that a trial may have."""
    range_ = search.space.get("method.width")
    return max(map(round, range_.named)) if range_ else method.width


def most_virtual_tokens(search: SearchConfig, method: MethodConfig) -> int:
    """The positions that the method takes from the text, at the widest that the search may propose."""
    return virtual_tokens(dataclasses.replace(method, width=widest(search, method)))


def encode(task: Task, dataset: Dataset, tokenizer: PreTrainedTokenizerBase) -> dict[str, Encoded]:
    """Tokenise every split: train, validation, test -> examples."""
    splits = (dataset.train, dataset.validation, dataset.test)
    return {split.name: task.encode(split.rows, tokenizer) for split in splits}


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

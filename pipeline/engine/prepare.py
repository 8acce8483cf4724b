"""From a config to jobs that are ready to be trained: data read, checked and tokenised."""

import dataclasses

from transformers import PreTrainedTokenizerBase

from pipeline.config import DataConfig, SweepConfig, TaskConfig
from pipeline.data.load import job_name, load, registered_name, resolve
from pipeline.engine.trials import Job, Settings
from pipeline.errors import Faults
from pipeline.methods import virtual_tokens
from pipeline.tasks.kinds import task_for


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


def widest(config: SweepConfig) -> int:
    """The largest width that a trial may have."""
    range_ = config.search.space.get("method.width")
    return max(map(round, range_.named)) if range_ else config.method.width


def _prepare(
    config: SweepConfig,
    task_config: TaskConfig,
    domain: str,
    data: DataConfig,
    tokenizer: PreTrainedTokenizerBase,
) -> Job:
    dataset = load(task_config, domain, data)
    task = task_for(task_config, dataset)
    task.reserved = virtual_tokens(dataclasses.replace(config.method, width=widest(config)))
    splits = (dataset.train, dataset.validation, dataset.test)
    return Job(
        name=job_name(task_config, domain),
        registered_name=registered_name(task_config, domain),
        task=task,
        dataset=dataset,
        encoded={split.name: task.encode(split.rows, tokenizer) for split in splits},
        settings=Settings(method=config.method, engine=config.engine),
        seed=config.seed,
    )

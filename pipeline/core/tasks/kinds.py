"""The kinds of tasks there are, by the names that a config uses; the place to add one."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from pipeline.config import Kind, TaskConfig
from pipeline.core.data.rows import Dataset, Row
from pipeline.core.tasks.classification import Classification
from pipeline.core.tasks.extractive_qa import ExtractiveQA
from pipeline.core.tasks.generation import Generation
from pipeline.core.tasks.multi_label import MultiLabel
from pipeline.core.tasks.multiple_choice import MultipleChoice
from pipeline.core.tasks.regression import Regression
from pipeline.core.tasks.tagging import Tagging
from pipeline.core.tasks.task import Task

TASK_KINDS: Mapping[Kind, type[Task]] = {
    "classification": Classification,
    "multi_label": MultiLabel,
    "regression": Regression,
    "tagging": Tagging,
    "multiple_choice": MultipleChoice,
    "extractive_qa": ExtractiveQA,
    "generation": Generation,
}


def task_for(
    config: TaskConfig,
    dataset: Dataset,
    known: Collection[str] = (),
    *,
    labels: list[str] | None = None,
    shares: Sequence[Row] | None = None,
) -> Task:
    """Check the data of a job and build its task.

    Args:
        config: The task as the user has it.
        dataset: Its rows.
        known: As in `Task.check`.
        labels: Its labels as a config lists them. None: those that the config lists or the training rows have.
        shares: Rows whose shares of labels are those of the task, where the training rows stand for others too.

    Raises:
        DataError: With one fault for every bad row.
    """
    kind = TASK_KINDS[config.kind]
    kind.check(config, dataset, known)
    config = config if labels is None else replace(config, labels=labels)
    return kind.from_rows(config, dataset.train.rows if shares is None else shares)


def restore(config: TaskConfig, labels: Sequence[str] = (), reserved: int = 0) -> Task:
    """Build a bundle's task: `labels` are what the head's outputs stand for, `reserved` as in `Task`."""
    task = TASK_KINDS[config.kind](config, labels)
    task.reserved = reserved
    return task

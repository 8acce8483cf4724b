"""Between AdapterHub's adapters and bundles, which hold what a task needs beside the weights."""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from pipeline.config import EngineConfig, TaskConfig
from pipeline.core.adapters.checkpoint import Checkpoint, empty_base, num_parameters
from pipeline.core.engine.assemble import fresh_model, parted, release, trained
from pipeline.core.engine.bundle import Bundle, BundleRecord
from pipeline.core.methods import METHODS
from pipeline.core.tasks.kinds import restore
from pipeline.core.tasks.task import Task
from pipeline.errors import BundleError, ConfigError, Fault, fault
from pipeline.interop.adapterhub import NAMINGS, Foreign, ForeignHead, Shape, has_head
from pipeline.interop.files import raise_faults

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def shape_of(checkpoint: Checkpoint) -> Shape:
    """Measure a checkpoint by its config; no weights are read.

    Raises:
        BundleError: AdapterHub's names in its family are not known.
    """
    return Shape.of(empty_base(checkpoint))


def bundle_of(
    foreign: Foreign, checkpoint: Checkpoint, base: "PreTrainedModel", task: TaskConfig, *, domain: str, seed: int
) -> tuple[BundleRecord, dict[str, Tensor]]:
    """Make a bundle's record and weights of a foreign adapter; without a head it gets a new one.

    Args:
        checkpoint: What it sits on. The bundle's pooling is what the head was trained with.
        base: The checkpoint's model, without adapters; it is left as it was.
        seed: Of a new head.

    Raises:
        BundleError: The head is for another kind of task, or has other labels.
        ConfigError: A new head needs labels that the task's config does not list.
    """
    head, engine = foreign.head, EngineConfig()
    restored = _restored(head, task) if head is not None else _untrained(task)
    if head is not None and restore(task).pooled:
        pooling = NAMINGS[foreign.shape.model_type].pooling
        checkpoint = checkpoint.pooled(pooling)
    if head is not None and head.dropout is not None:
        engine = dataclasses.replace(engine, head_dropout=head.dropout)
    model = fresh_model(base, checkpoint, restored, foreign.method, engine, seed)
    try:
        METHODS[foreign.method.name].load(model.base, foreign.adapter)
        if head is not None:
            model.head.load_state_dict({**model.head.state_dict(), **head.state})
        tensors = {name: tensor.detach().clone() for name, tensor in trained(model, foreign.method).items()}
    finally:
        release(model, foreign.method)
    record = BundleRecord(
        job=f"{task.name}/{domain}",
        task=task,
        labels=list(restored.labels),
        method=foreign.method,
        engine=engine,
        checkpoint=checkpoint.config,
        checkpoint_sha256=checkpoint.sha256,
        checkpoint_reading=checkpoint.reading,
        seed=seed,
        epoch=0,
        validation={},
        data={},
        num_trained=sum(tensor.numel() for tensor in tensors.values()),
        num_checkpoint=num_parameters(base),
    )
    return record, tensors


def foreign_of(
    bundle: Bundle,
    checkpoint: Checkpoint,
    *,
    name: str | None = None,
    num_choices: int | None = None,
    with_head: bool = True,
) -> Foreign:
    """Make a foreign adapter of a bundle.

    Args:
        name: What the adapter is to be called. None: as the task.
        num_choices: Multiple choice: options of a question, which the library's heads have a fixed number of.

    Raises:
        BundleError: The library has no head that does the same.
    """
    record, shape = bundle.record, shape_of(checkpoint)
    adapter, own = parted(bundle.tensors())
    with_head = with_head and bool(own)  # a language model's is the checkpoint's
    if with_head:
        raise_faults(_head_faults(bundle, checkpoint, num_choices))
    labels = record.labels
    if "options" in record.task.field_names:
        labels = [f"LABEL_{number}" for number in range(num_choices or 0)]
    head = ForeignHead(
        kind=record.task.kind,
        state=restore(record.task, record.labels).exported(own),
        labels=labels,
        dropout=record.engine.head_dropout,
    )
    naming = NAMINGS[shape.model_type]
    return Foreign(
        name=name or record.task.name,
        shape=shape,
        method=record.method,
        adapter=adapter,
        head=head if with_head else None,
        model_class=naming.model_class,
        model_name=record.checkpoint.location,
        prefix=naming.prefix,
    )


def _restored(head: ForeignHead, config: TaskConfig) -> Task:
    """The task with the labels that the head was trained with, in its order."""
    where = f"task {config.name}"
    if config.kind != head.kind:
        remedy = "Choose another task with job=<name>, or leave the head out with head=false"
        raise BundleError(fault(where, config.kind, f"is another kind than the head, which is for {head.kind}", remedy))
    if not restore(config).has_labels:
        return restore(config)
    labels = list(head.labels)
    unnamed = all(label == f"LABEL_{number}" for number, label in enumerate(labels))
    listed = None if config.labels is None else list(_untrained(config).labels)
    if unnamed and (listed is None or len(listed) != len(head.state["linear.bias"])):
        rule = f"must list the {len(head.state['linear.bias'])} labels of the head, which do not have names there"
        raise BundleError(
            fault(f"{where}: labels", ", ".join(listed or ()), rule, "List them in order in the task's file")
        )
    if unnamed:
        labels = listed or []
    elif listed is not None and set(listed) != set(labels):
        rule = f"are not the head's, which are {', '.join(labels)}"
        raise BundleError(fault(f"{where}: labels", ", ".join(listed), rule, "Mend the task's file"))
    return restore(config, labels)


def _untrained(config: TaskConfig) -> Task:
    """The task with the labels of its config."""
    bare = restore(config)
    if not bare.has_labels:
        return bare
    if config.labels is None:
        rule = "are missing: a new head needs them"
        where = f"task.{config.name}.labels"
        raise ConfigError(fault(where, "", rule, "List them in the task's file"))
    return bare.from_rows(config, [])


def _head_faults(bundle: Bundle, checkpoint: Checkpoint, num_choices: int | None) -> Iterator[Fault]:
    """Why the library has no head like the bundle's."""
    task, naming = bundle.record.task, NAMINGS[checkpoint.model_type]
    remedy = "Write the adapter alone with head=false"
    where = str(bundle.folder)
    if not has_head(task.kind, checkpoint.model_type):
        rule = f"has no head in AdapterHub that reads the same of {checkpoint.model_type}"
        yield fault(f"{where}: task.kind", task.kind, rule, remedy)
    elif "options" in task.field_names and task.scoring == "dual":
        yield fault(f"{where}: task.scoring", task.scoring, "has no head in AdapterHub", remedy)
    elif restore(task).pooled and checkpoint.pooling != naming.pooling:
        rule = f"is not what AdapterHub's heads read of {checkpoint.model_type}, which is {naming.pooling}"
        yield fault(f"{where}: checkpoint.pooling", checkpoint.pooling, rule, remedy)
    elif "options" in task.field_names and num_choices is None:
        rule = "is missing: AdapterHub's heads have a fixed number of options"
        yield fault("num_choices", "", rule, "Set num_choices, or write the adapter alone with head=false")

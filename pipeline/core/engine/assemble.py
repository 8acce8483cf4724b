"""Put a task's model together on the resident base, fresh or from a bundle, and take it apart again."""

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pipeline.config import EngineConfig, MethodConfig
from pipeline.core.adapters.checkpoint import Checkpoint
from pipeline.core.adapters.sites import Sites
from pipeline.core.engine.bundle import Bundle
from pipeline.core.engine.trials import Start, seed_of
from pipeline.core.engine.view import View
from pipeline.core.methods import GRAFTS, METHODS
from pipeline.core.tasks.kinds import restore
from pipeline.core.tasks.model import TaskModel
from pipeline.core.tasks.task import Task
from pipeline.errors import BundleError, ConfigError, fault

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)
_ADAPTER, _HEAD = "adapter.", "head."


def fresh_model(
    base: "PreTrainedModel",
    checkpoint: Checkpoint,
    task: Task,
    method: MethodConfig,
    engine: EngineConfig,
    seed: int,
) -> TaskModel:
    """Attach a new adapter to the frozen base and put a new head on it; takes milliseconds.

    The checkpoint says how a text becomes one vector; all initial weights come from the seed.
    """
    model = METHODS[method.name].attach(base, method, seed_of(seed, "adapter"))
    return TaskModel(model, _fresh_head(base, task, engine, seed), pooling=checkpoint.pooling)


def fresh_candidate(
    sites: Sites, checkpoint: Checkpoint, task: Task, method: MethodConfig, engine: EngineConfig, seed: int
) -> TaskModel:
    """Make what a trial trains, with the weights that `fresh_model` gives it.

    The base carries the adapter for the time of a batch alone, so that others can be trained on it too. Where the
    method has no such form it is attached, until `release`.
    """
    if method.name not in GRAFTS:
        return fresh_model(sites.base, checkpoint, task, method, engine, seed)
    head = _fresh_head(sites.base, task, engine, seed)
    graft = GRAFTS[method.name](sites, method, seed_of(seed, "adapter"))
    return View(sites.base, head, pooling=checkpoint.pooling, sites=sites, graft=graft)


def _fresh_head(base: "PreTrainedModel", task: Task, engine: EngineConfig, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "head"))
        head = task.head(base.config.hidden_size, engine.head_dropout)
    return head.to(base.device)


def bundle_model(base: "PreTrainedModel", checkpoint: Checkpoint, bundle: Bundle) -> tuple[TaskModel, Task]:
    """Attach a bundle to the base. All else that it is used with, the pooling too, is what its record says.

    Raises:
        BundleError: The bundle was trained on another checkpoint, or its weights are not those of its method and head.
    """
    check_checkpoint(checkpoint, bundle)
    return attached(base, checkpoint, bundle, bundle.tensors())


def attached(
    base: "PreTrainedModel", checkpoint: Checkpoint, bundle: Bundle, tensors: Mapping[str, Tensor]
) -> tuple[TaskModel, Task]:
    """Attach a bundle that was trained on the checkpoint, and whose tensors are at hand.

    Raises:
        BundleError: They are not those of its method and head.
    """
    record = bundle.record
    task = restore(record.task, record.labels, record.method.virtual_tokens)
    own = dataclasses.replace(checkpoint, config=record.checkpoint)
    model = fresh_model(base, own, task, record.method, record.engine, record.seed)
    try:
        with belonging(bundle):
            load_trained(model, record.method, tensors)
    except Exception:
        release(model, record.method)  # or no later bundle would find the base as it was
        raise
    return model.eval(), task


def check_checkpoint(checkpoint: Checkpoint, bundle: Bundle) -> None:
    """Compare the checkpoint with that of the bundle.

    Raises:
        BundleError: The bundle was trained on another one.
    """
    record = bundle.record
    if record.checkpoint_sha256 != checkpoint.sha256:
        rule = f"was trained on the checkpoint {record.checkpoint_sha256[:16]}, this one is {checkpoint.sha256[:16]}"
        remedy = f"Load it on {record.checkpoint.name} ({record.checkpoint.location})"
        raise BundleError(fault(bundle.folder, "", rule, remedy))
    if record.checkpoint_reading and record.checkpoint_reading != (checkpoint.reading or record.checkpoint_reading):
        rule = "was trained on a checkpoint with the same weights and another tokenizer or config.json"
        remedy = f"Load it on {record.checkpoint.name} ({record.checkpoint.location}) as it was"
        raise BundleError(fault(bundle.folder, "", rule, remedy))
    if checkpoint.reading and not record.checkpoint_reading:
        _note_unknown(bundle.folder)


@contextmanager
def belonging(bundle: Bundle) -> Iterator[None]:
    """Say of which bundle it is that tensors have other names or shapes.

    Raises:
        BundleError: Instead of what torch and the methods say of that.
    """
    try:
        yield
    except (RuntimeError, KeyError, ValueError, ConfigError) as error:
        rule = f"has weights that do not belong to its bundle.json ({str(error).strip().partition(chr(10))[0][:200]})"
        raise BundleError(fault(bundle.folder, "", rule, "Take the bundle from its source again")) from error


@cache
def _note_unknown(folder: Path) -> None:
    log.info("%s does not say which tokenizer it was trained with: it is taken to be that of the checkpoint", folder)


def parted(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of the adapter and those of the head, out of what `trained` returned."""
    adapter, head = (
        {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        for prefix in (_ADAPTER, _HEAD)
    )
    return adapter, head


def trained(model: TaskModel, method: MethodConfig) -> dict[str, Tensor]:
    """Collect the weights of adapter and head: `adapter.<name>`, `head.<name>`."""
    graft = model.graft if isinstance(model, View) else None
    adapter = METHODS[method.name].state(model.base) if graft is None else graft.state()
    head = model.head.state_dict()
    return {_ADAPTER + k: v for k, v in adapter.items()} | {_HEAD + k: v for k, v in head.items()}


def load_trained(model: TaskModel, method: MethodConfig, tensors: Mapping[str, Tensor]) -> None:
    """Set the weights from what `trained` returned."""
    adapter, head = parted(tensors)
    if isinstance(model, View) and model.graft is not None:
        model.graft.load(adapter)
    else:
        METHODS[method.name].load(model.base, adapter)
    model.head.load_state_dict(head)


def warm_start(model: TaskModel, method: MethodConfig, start: Start, labels: Sequence[str]) -> None:
    """Set the weights of a fresh model to those that its job begins with.

    Outputs of the head are told by their labels, which are none where the kind has none: one that the start lacks keeps
    its fresh weights. The model is of the start's method and size.
    """
    tensors, fresh = dict(start.tensors), trained(model, method)
    if tuple(labels) != start.labels:
        place = {label: row for row, label in enumerate(start.labels)}
        kept = [(row, place[label]) for row, label in enumerate(labels) if label in place]
        now, before = ([pair[side] for pair in kept] for side in (0, 1))
        for name in [name for name in tensors if name.startswith(_HEAD) and len(fresh[name]) == len(labels)]:
            grown = fresh[name].detach().clone()
            grown[now] = tensors[name][before].to(grown)
            tensors[name] = grown
    load_trained(model, method, tensors)


def release(model: TaskModel, method: MethodConfig) -> None:
    """Take the adapter off the base, which is then as it was before."""
    if not isinstance(model, View):
        METHODS[method.name].undo(model.base)

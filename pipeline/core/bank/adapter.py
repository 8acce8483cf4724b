"""A bundle as it is resident: its tensors in memory of their own, and what is made of them in the base."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor

from pipeline.config import METHOD_TRAITS, EngineConfig
from pipeline.core.adapters.anatomy import anatomy_of
from pipeline.core.adapters.checkpoint import Resident
from pipeline.core.adapters.sites import Placed, Sites
from pipeline.core.engine.assemble import attached, belonging, check_checkpoint, parted, release
from pipeline.core.engine.bundle import Bundle
from pipeline.core.engine.precision import answering, is_halved
from pipeline.core.engine.view import View
from pipeline.core.methods import PARTS
from pipeline.core.tasks.kinds import restore
from pipeline.core.tasks.task import Task
from pipeline.errors import BundleError, fault


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Adapter:
    """What answers by one bundle."""

    bundle: Bundle
    task: Task
    engine: EngineConfig
    """Batch size, and the precision that it answers in."""
    placed: Placed | None
    """What it has in the base; None where it is attached for batches of its own, by `tensors`."""
    view: View | None
    tensors: Mapping[str, Tensor]
    num_bytes: int
    """Of its tensors."""
    together: Hashable
    """Adapters in which this is equal may share a batch."""

    @property
    def seen(self) -> View:
        """The view of one that shares batches."""
        assert self.view is not None, "it has batches of its own"
        return self.view

    @property
    def order(self) -> str:
        """Neighbours in it are alike, so that more is computed for both at once."""
        method = self.bundle.record.method
        how = f"{method.name} {method.activation} {method.input_norm} {method.norms} {method.layers}"
        return f"{how} {method.width} {method.scaling}"


def load_adapter(sites: Sites, resident: Resident, bundle: Bundle) -> Adapter:
    """Read a bundle's weights, and check them without touching the base.

    Only where it is to have batches of its own it waits for a running batch, and is attached for a moment.

    Raises:
        BundleError: They are damaged, or not those of its method and head; the bundle was trained on another
            checkpoint, or its method does not share the checkpoint's weights.
    """
    record = bundle.record
    method = record.method
    if not METHOD_TRAITS[method.name].shares_base:
        rule = f"is a copy of the whole checkpoint ({method.name}), which does not share the one that is resident"
        raise BundleError(fault(bundle.folder, "", rule, "Ask it by make predict or as an MLflow model"))
    base, checkpoint = resident.base, resident.checkpoint
    check_checkpoint(checkpoint, bundle)
    # Copied to where torch aligns them: elsewhere the same product may differ in the last bit from time to time.
    tensors = {name: tensor.to(base.device, copy=True) for name, tensor in bundle.verified().items()}
    num_bytes = sum(tensor.nbytes for tensor in tensors.values())
    engine = answering(record.engine, base.device.type)
    task: Task
    if method.name not in PARTS or (method.name == "lora" and _projects_the_shared(base.config)):
        with resident.lock:
            model, task = attached(base, checkpoint, bundle, tensors)
            release(model, method)
        alone: dict[str, Any] = {"placed": None, "view": None, "together": object()}
        return Adapter(bundle=bundle, task=task, engine=engine, **alone, tensors=tensors, num_bytes=num_bytes)
    own = replace(checkpoint, config=record.checkpoint)
    adapter, head = parted(tensors)
    with belonging(bundle):
        task = restore(record.task, record.labels, method.virtual_tokens)
        placed = PARTS[method.name](sites, method, adapter)
        with torch.device("meta"):  # no initial weights, which would take time and random numbers
            empty = task.head(sites.hidden_size, record.engine.head_dropout)
        empty.load_state_dict(head, assign=True)
    view = View(base, empty.requires_grad_(False), pooling=own.pooling)
    return Adapter(
        bundle=bundle,
        task=task,
        engine=engine,
        placed=placed,
        view=view,
        tensors={},
        num_bytes=num_bytes,
        together=(is_halved(base.device, engine), task.decoding),
    )


def _projects_the_shared(config: Any) -> bool:
    key = anatomy_of(config).shared
    return bool(key and getattr(config, key, False))

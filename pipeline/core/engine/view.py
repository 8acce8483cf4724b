"""The model of one adapter on a base that others share, which carries the adapter while a batch is computed."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, final

import torch
from torch import Tensor, nn

from pipeline.core.adapters.graft import Graft
from pipeline.core.adapters.sites import Sites
from pipeline.core.tasks.model import TaskModel
from pipeline.core.tasks.task import Batch

_IDS = "input_ids"
_NAMES = (_IDS, "attention_mask", "token_type_ids")


@final
class View(TaskModel):
    """The head of one adapter, and in training the adapter; hidden states may be computed with those of others."""

    def __init__(
        self,
        base: nn.Module,
        head: nn.Module,
        *,
        pooling: Literal["mean", "first", "last"],
        sites: Sites | None = None,
        graft: Graft | None = None,
    ) -> None:
        """Put them together.

        Args:
            base: The resident base, which carries no adapters between two batches.
            sites: Those of the base; None where somebody else sees to it that the base carries the adapter.
            graft: What is trained in the base.
        """
        super().__init__(base, head, pooling=pooling)
        self.sites = sites
        self.graft = graft
        self.computed: dict[int, Tensor] = {}
        """The id of a batch's `input_ids` -> their hidden states; what is not here, the base computes."""
        self.is_carried = sites is None
        """Whether the base carries the adapter now."""
        self.train(False)

    def train(self, mode: bool = True) -> "View":
        """Switch head and adapter; the base is shared, and stays in eval mode."""
        self.training = mode
        self.head.train(mode)
        graft: Graft | None = getattr(self, "graft", None)  # not there yet when the parts are put together
        if graft is not None:
            graft.train(mode)
        return self

    def hidden(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Look up, or else compute, the last layer's hidden states, (B, T, H)."""
        computed = self.computed.get(id(inputs[_IDS]))
        if computed is not None:
            return computed
        if self.is_carried:
            return super().hidden(inputs)
        with carried([self]):
            return super().hidden(inputs)

    def states(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Compute what a batch may have to enter the base, as any model does."""
        if self.is_carried:
            return super().states(inputs)
        with carried([self]):
            return super().states(inputs)


@contextmanager
def together(models: Sequence[TaskModel], batch: Batch) -> Iterator[None]:
    """Let the tasks of several models see a batch that the base reads once for all of them.

    Args:
        models: Views of one base, each of which gets all rows of the batch; or a single model of any kind.
        batch: What a task collated, on the models' device.
    """
    views = [model for model in models if isinstance(model, View)]
    if not views:
        yield
    elif len(views) == 1:
        with carried(views):
            yield
    else:
        try:
            for inputs in inputs_of(batch):
                for view, hidden_BTH in zip(views, _hidden_of_each(views, inputs), strict=True):
                    view.computed[id(inputs[_IDS])] = hidden_BTH
            yield
        finally:
            for view in views:
                view.computed.clear()


@contextmanager
def carried(views: Sequence[View]) -> Iterator[None]:
    """Let the base carry the adapters of views; of a batch each of them has an equal share of the rows, in order."""
    sites = views[0].sites
    assert sites is not None
    with sites.carrying([(1, view.graft.placed if view.graft else {}) for view in views]):
        for view in views:
            view.is_carried = True
        try:
            yield
        finally:
            for view in views:
                view.is_carried = False


def _hidden_of_each(views: Sequence[View], inputs: Mapping[str, Tensor]) -> Sequence[Tensor]:
    """The hidden states of all rows for each view, in one pass where the base can tell their rows apart.

    What lies below the first adapter is computed once for all, where rows can be repeated behind it.
    """
    grafts, sites, times = [view.graft for view in views if view.graft], views[0].sites, len(views)
    assert sites is not None and len(grafts) == times
    if not all(graft.mixes for graft in grafts):
        return [view.hidden(inputs) for view in views]
    lowest = min((graft.lowest for graft in grafts if graft.lowest is not None), default=None)
    with carried(views):
        if lowest is None:
            return [TaskModel.hidden(views[0], inputs)] * times
        if not sites.repeats_within:
            repeated = {name: tensor.repeat(times, 1) for name, tensor in inputs.items()}
            return torch.chunk(TaskModel.hidden(views[0], repeated), times)
        with sites.repeating(times, lowest):
            return torch.chunk(TaskModel.hidden(views[0], inputs), times)


def inputs_of(batch: Batch) -> list[dict[str, Tensor]]:
    """The inputs of the base in a task's batch, of which there may be several: their names end alike."""
    prefixes = [name.removesuffix(_IDS) for name in batch if name.endswith(_IDS)]
    return [{name: batch[before + name] for name in _NAMES if before + name in batch} for before in prefixes]

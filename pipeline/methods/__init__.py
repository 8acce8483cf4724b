"""How a checkpoint is adapted: every method is the same four functions, and the engine never asks which it has."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedModel

from pipeline.adapters import insert
from pipeline.config import MethodConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """What the engine needs of a method."""

    prepare: Callable[[PreTrainedModel, MethodConfig, int], None]
    """Change the frozen base (base, config, seed) so that what is to be trained has gradients."""
    state: Callable[[PreTrainedModel], dict[str, Tensor]]
    """Collect the trained weights of the base by name."""
    load: Callable[[PreTrainedModel, Mapping[str, Tensor]], None]
    """Set the trained weights from what `state` returned."""
    undo: Callable[[PreTrainedModel], None]
    """Make the base what it was before `prepare`."""


_BOTTLENECK = Method(
    prepare=insert.attach, state=insert.adapter_state, load=insert.load_adapter_state, undo=insert.detach
)

METHODS: Mapping[str, Method] = {"houlsby": _BOTTLENECK, "pfeiffer": _BOTTLENECK, "parallel": _BOTTLENECK}
"""`MethodConfig.name` -> method."""

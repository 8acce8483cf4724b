"""How a checkpoint is adapted: every method is the same four functions, and the engine never asks which it has."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from torch import Tensor, nn

from pipeline.config import MethodConfig, MethodName
from pipeline.core.adapters import insert
from pipeline.core.adapters.graft import Graft, grafted
from pipeline.core.adapters.sites import Placed, Sites, bottlenecks
from pipeline.core.methods import full, lora, probe, prompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Method(Protocol):
    """What the engine needs of a method; the modules of this package and `adapters/insert.py` have it."""

    def attach(self, base: "PreTrainedModel", config: MethodConfig, seed: int) -> nn.Module:
        """Make of the frozen base the model to run, in which what is to be trained has gradients.

        That is the base itself, changed; a wrapper around it; or a copy.
        """

    def state(self, model: nn.Module) -> dict[str, Tensor]:
        """Collect the trained weights of that model by name."""

    def load(self, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
        """Set the trained weights from what `state` returned."""

    def undo(self, model: nn.Module) -> None:
        """Make the base what it was before `attach`."""


METHODS: Mapping[MethodName, Method] = {
    "houlsby": insert,
    "pfeiffer": insert,
    "parallel": insert,
    "lora": lora,
    "prompt": prompt,
    "full": full,
    "probe": probe,
}
"""`MethodConfig.name` -> method."""

GRAFTS: Mapping[MethodName, Callable[[Sites, MethodConfig, int], Graft]] = {
    "houlsby": grafted,
    "pfeiffer": grafted,
    "parallel": grafted,
    "lora": lora.graft,
    "probe": probe.graft,
}
"""`MethodConfig.name` -> from a seed to what is trained beside the base, which carries it for the time of a batch, that
of one candidate or those of several. Any other method is attached for the whole training."""

PARTS: Mapping[MethodName, Callable[[Sites, MethodConfig, Mapping[str, Tensor]], Placed]] = {
    "houlsby": bottlenecks,
    "pfeiffer": bottlenecks,
    "parallel": bottlenecks,
    "lora": lora.parts,
    "probe": probe.parts,
}
"""`MethodConfig.name` -> from what `state` returned to what that is in a base that reads rows of several adapters
together. Adapters of any other method are attached for batches of their own."""

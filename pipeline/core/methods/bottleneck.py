"""Bottleneck adapters: `houlsby`, `pfeiffer`, `parallel` (`pipeline.core.adapters`)."""

from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn
from transformers import PreTrainedModel

from pipeline.config import MethodConfig
from pipeline.core.adapters import insert


def prepare(base: PreTrainedModel, config: MethodConfig, seed: int) -> nn.Module:
    """Wrap sub-blocks of the base."""
    insert.attach(base, config, seed)
    return cast(nn.Module, base)


def state(model: nn.Module) -> dict[str, Tensor]:
    """`layers.3.feed_forward.down.weight` -> tensor."""
    return insert.adapter_state(cast(PreTrainedModel, model))


def load(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Set the adapters' weights."""
    insert.load_adapter_state(cast(PreTrainedModel, model), tensors)


def undo(model: nn.Module) -> None:
    """Put the base's own modules back."""
    insert.detach(cast(PreTrainedModel, model))

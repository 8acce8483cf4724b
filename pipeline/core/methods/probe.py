"""A probe: the head alone on the frozen checkpoint, in which nothing is trained."""

from typing import TYPE_CHECKING, cast

from torch import nn

from pipeline.config import MethodConfig
from pipeline.core.methods.full import load, state, undo

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["attach", "load", "state", "undo"]


def attach(base: "PreTrainedModel", config: MethodConfig, seed: int) -> nn.Module:
    """Leave the base as it is."""
    return cast(nn.Module, base)

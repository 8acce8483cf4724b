"""A probe: the head alone on the frozen checkpoint, in which nothing is trained."""

from typing import cast

from torch import nn
from transformers import PreTrainedModel

from pipeline.config import MethodConfig
from pipeline.core.methods.full import load, state, undo

__all__ = ["attach", "load", "state", "undo"]


def attach(base: PreTrainedModel, config: MethodConfig, seed: int) -> nn.Module:
    """Leave the base as it is."""
    return cast(nn.Module, base)

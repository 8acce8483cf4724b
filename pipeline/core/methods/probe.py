"""A probe: the head alone on the frozen checkpoint, in which nothing is trained."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from torch import Tensor, nn

from pipeline.config import MethodConfig
from pipeline.core.adapters.graft import Graft
from pipeline.core.adapters.sites import Placed, Sites, none_left
from pipeline.core.methods.full import load, state, undo

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["attach", "graft", "load", "parts", "state", "undo"]


def parts(sites: Sites, config: MethodConfig, tensors: Mapping[str, Tensor]) -> Placed:
    """Nothing.

    Raises:
        RuntimeError: There are tensors.
    """
    none_left(tensors)
    return {}


def graft(sites: Sites, config: MethodConfig, seed: int) -> Graft:
    """Nothing."""
    return Graft({}, {}, lowest=None)


def attach(base: "PreTrainedModel", config: MethodConfig, seed: int) -> nn.Module:
    """Leave the base as it is."""
    return cast(nn.Module, base)

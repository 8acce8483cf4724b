"""A probe: the head alone on the frozen checkpoint."""

from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn
from transformers import PreTrainedModel

from pipeline.config import MethodConfig


def prepare(base: PreTrainedModel, config: MethodConfig, seed: int) -> nn.Module:
    """Leave the base as it is."""
    return cast(nn.Module, base)


def state(model: nn.Module) -> dict[str, Tensor]:
    """Nothing."""
    return {}


def load(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Nothing.

    Raises:
        RuntimeError: There is something to load.
    """
    if tensors:
        raise RuntimeError(f"a probe has no weights in the checkpoint, but there are {len(tensors)}")


def undo(model: nn.Module) -> None:
    """Nothing."""

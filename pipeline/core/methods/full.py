"""Full fine-tuning: every weight of a private copy of the checkpoint, whose dropout is on in training."""

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from pipeline.config import MethodConfig
from pipeline.core.adapters.anatomy import body_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def attach(base: "PreTrainedModel", config: MethodConfig, seed: int) -> nn.Module:
    """Copy the base; a language-model head of its own, not tied to the embeddings, stays frozen."""
    model = copy.deepcopy(base)
    body_of(model).requires_grad_(True)
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    if head is not None and head.weight is not embeddings.weight:
        head.requires_grad_(False)
    return cast(nn.Module, model)


def state(model: nn.Module) -> dict[str, Tensor]:
    """Name in the model -> tensor."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


@torch.no_grad()
def load(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Set the weights.

    Raises:
        RuntimeError: The names differ from those that are trained.
    """
    own = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if set(own) != set(tensors):
        raise RuntimeError(f"the trained weights differ: {sorted(set(own) ^ set(tensors))[:3]} ...")
    for name, parameter in own.items():
        parameter.copy_(tensors[name])


def undo(model: nn.Module) -> None:
    """Do nothing: the base was only copied."""

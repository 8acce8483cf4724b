"""A model that stays as it is while outputs of its head which were not trained before are trained.

What is told apart by the old outputs is told apart as before, bit by bit; a row can only be taken by a new one. So the
past loses least where a task grows, and one forward pass a batch is nearly all that it costs.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline.core.tasks.model import TaskModel


def hold_still(model: TaskModel, fresh: Collection[str], labels: Sequence[str]) -> Callable[..., None]:
    """Let nothing of a model be trained but the outputs of some labels.

    Args:
        model: With the weights that it begins with.
        fresh: These labels.
        labels: What its outputs stand for.

    Returns:
        What an optimiser has to call after each step (`register_step_post_hook`): old outputs stand in the same tensors
        as new ones, which decay and momentum would move too.
    """
    model.requires_grad_(False)
    outputs = [parameter for parameter in model.head.parameters() if len(parameter) == len(labels)]
    known = torch.tensor([place for place, label in enumerate(labels) if label not in fresh])
    kept = [(parameter.requires_grad_(True), parameter.detach()[known].clone()) for parameter in outputs]

    @torch.no_grad()
    def put_back(*_: Any) -> None:
        for parameter, before in kept:
            parameter[known] = before

    return put_back


def as_answered(model: TaskModel, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights as a bundle has them: what outputs are held back by is part of their bias."""
    held = getattr(model.head, "held", None)
    if held is None:
        return tensors
    return tensors | {"head.linear.bias": tensors["head.linear.bias"] - held.to(tensors["head.linear.bias"])}

"""Dropout that draws from a generator of its own, so that what is drawn does not depend on who else trains."""

from typing import final

import torch
from torch import Tensor, nn


@final
class Dropout(nn.Module):
    """In training `x * m / (1 - p)`, each entry of m 1 with probability 1 - p, or else 0; otherwise x.

    Srivastava et al. 2014, as torch's module of that name, which draws from the one generator of the process: of two
    candidates that are trained together, each would then move what the other is given.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.generator: torch.Generator | None = None
        """None: the one of the process."""

    def forward(self, x: Tensor) -> Tensor:
        """Map any shape to the same."""
        if not self.training or self.p == 0:
            return x
        kept = torch.empty_like(x).bernoulli_(1 - self.p, generator=self.generator)
        return x * kept.div_(1 - self.p)

    def extra_repr(self) -> str:
        return f"p={self.p:g}"


def draw_from(module: nn.Module, generator: torch.Generator) -> None:
    """Let all dropout of ours in a module draw from a generator, which is on its device."""
    for one in module.modules():
        if isinstance(one, Dropout):
            one.generator = generator

"""The one module that is trained inside the Transformer."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.config import MethodConfig

_EPS = 1e-6  # of the mean square; what is read may be zero


class Bottleneck(nn.Module):
    """What an adapter adds to a hidden state: `scaling * dropout(W_up f(W_down n(h) + b_down) + b_up)`.

    n(h) is h, or h divided by the root mean square of its entries (Zhang and Sennrich 2019, arXiv 1910.07467, without
    gains): the config's `input_norm`, of which `auto` was settled for the family.

    Houlsby et al. 2019 (arXiv 1902.00751), section 2.1; the residual `h +` is the caller's, since layouts
    differ in what they add it to (`pipeline.core.adapters.insert`). The scaling is that of He et al. 2022
    (arXiv 2110.04366), section 4.6.
    """

    def __init__(self, hidden_size: int, width: int, config: MethodConfig, generator: torch.Generator) -> None:
        """Make the weights, (R, H) down and (H, R) up, with R the width; the generator gives the initial ones."""
        from transformers.activations import ACT2FN

        super().__init__()
        self.input_norm = config.input_norm
        self.down = nn.Linear(hidden_size, width)
        self.activation: nn.Module = ACT2FN["leaky_relu" if config.activation == "leakyrelu" else config.activation]
        self.up = nn.Linear(width, hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.scaling: nn.Parameter | float
        if config.scaling == "learned":
            self.scaling = nn.Parameter(torch.ones(1))
        else:
            self.scaling = config.scaling
        _initialise(self.down, self.up, config.init, generator)

    def forward(self, hidden_BTH: Tensor) -> Tensor:
        """Map (B, T, H) to (B, T, H)."""
        if self.input_norm == "rms":
            hidden_BTH = rms_normalised(hidden_BTH)
        out_BTH: Tensor = self.up(self.activation(self.down(hidden_BTH)))
        if self.dropout.p:
            out_BTH = self.dropout(out_BTH)
        if isinstance(self.scaling, float) and self.scaling == 1.0:
            return out_BTH
        return out_BTH * self.scaling

    def extra_repr(self) -> str:
        scaling = "learned" if isinstance(self.scaling, nn.Parameter) else f"{self.scaling:g}"
        return f"scaling={scaling}, input_norm={self.input_norm}"


def rms_normalised(hidden: Tensor) -> Tensor:
    """Divide (..., H) by the root mean square over H, in float32: the squares of large sums overflow half precision."""
    return F.rms_norm(hidden.float(), hidden.shape[-1:], eps=_EPS).to(hidden.dtype)


@torch.no_grad()
def _initialise(
    down: nn.Linear, up: nn.Linear, init: Literal["zero", "bert", "houlsby"], generator: torch.Generator
) -> None:
    """Set the weights; biases are zero.

    `zero` is AdapterHub's `mam_adapter` (Kaiming uniform down, zero up: the identity at the start), `bert` N(0, 0.02),
    `houlsby` N(0, 0.01) cut at two standard deviations (Houlsby et al. 2019, section 3.6).
    """
    nn.init.zeros_(down.bias)
    nn.init.zeros_(up.bias)
    if init == "zero":
        nn.init.kaiming_uniform_(down.weight, a=math.sqrt(5), generator=generator)
        nn.init.zeros_(up.weight)
    elif init == "bert":
        nn.init.normal_(down.weight, std=0.02, generator=generator)
        nn.init.normal_(up.weight, std=0.02, generator=generator)
    else:
        for weight in (down.weight, up.weight):
            nn.init.trunc_normal_(weight, std=0.01, a=-0.02, b=0.02, generator=generator)

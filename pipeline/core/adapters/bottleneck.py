"""The two modules that are trained inside the Transformer: the bottleneck, and the low-rank update of a projection."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.config import MethodConfig
from pipeline.config.training import Activation
from pipeline.core.adapters.dropout import Dropout

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
        super().__init__()
        self.input_norm = config.input_norm
        self.down = nn.Linear(hidden_size, width)
        self.activation = activation_of(config.activation)
        self.up = nn.Linear(width, hidden_size)
        self.dropout = Dropout(config.dropout)
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
        out_BTH = self.dropout(out_BTH)
        if isinstance(self.scaling, float) and self.scaling == 1.0:
            return out_BTH
        return out_BTH * self.scaling

    def weights(self) -> "Weights":
        """What it computes with, its parameters themselves among it: to be computed beside others in a batch."""
        return Weights(
            down_HR=self.down.weight.t(),
            down_bias_R=self.down.bias,
            up_RH=self.up.weight.t(),
            up_bias_H=self.up.bias,
            activation=self.activation,
            scaling=self.scaling,
            input_norm=self.input_norm,
        )

    def extra_repr(self) -> str:
        scaling = "learned" if isinstance(self.scaling, nn.Parameter) else f"{self.scaling:g}"
        return f"scaling={scaling}, input_norm={self.input_norm}"


@final
class LowRank(nn.Module):
    """What LoRA adds to what a projection puts out: `scaling * B A dropout(x)`, x being what the projection reads.

    Hu et al. 2021 (arXiv 2106.09685), section 4.1, where the scaling is alpha / r. A begins as torch begins a linear
    map, as in the authors' code and in peft, B with zeros, so that nothing is added at the start.
    """

    activation = None
    input_norm = "none"

    def __init__(self, size_in: int, size_out: int, config: MethodConfig, generator: torch.Generator) -> None:
        """Make A, (R, size_in), and B, (size_out, R), with R the width; the generator gives the initial A."""
        super().__init__()
        assert config.scaling != "learned"
        self.lora_A = nn.Linear(size_in, config.width, bias=False)
        self.lora_B = nn.Linear(config.width, size_out, bias=False)
        self.dropout = Dropout(config.dropout)
        self.scaling = float(config.scaling)
        nn.init.kaiming_uniform_(self.lora_A.weight, a=math.sqrt(5), generator=generator)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., size_in) to (..., size_out)."""
        out: Tensor = self.lora_B(self.lora_A(self.dropout(x)))
        return out if self.scaling == 1.0 else out * self.scaling

    def weights(self) -> "Weights":
        """As those of a bottleneck."""
        return Weights(
            down_HR=self.lora_A.weight.t(),
            down_bias_R=None,
            up_RH=self.lora_B.weight.t(),
            up_bias_H=None,
            activation=None,
            scaling=self.scaling,
            input_norm=self.input_norm,
        )


@final
@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """The tensors of a bottleneck, or of a low-rank update of a projection: one without biases and activation.

    No module: where hundreds of adapters are resident, what modules have beside their tensors would take much memory.
    """

    down_HR: Tensor
    """Both matrices lie as the products read them: with few rows, a product by a transposed one takes up to twice
    as long on a CPU."""
    down_bias_R: Tensor | None
    up_RH: Tensor
    up_bias_H: Tensor | None
    activation: Callable[[Tensor], Tensor] | None
    scaling: Tensor | float
    input_norm: str

    def __call__(self, hidden_BTH: Tensor) -> Tensor:
        """Map (..., H) to (..., H) as `Bottleneck` does, without dropout."""
        if self.input_norm == "rms":
            hidden_BTH = rms_normalised(hidden_BTH)
        inner_BTR = F.linear(hidden_BTH, self.down_HR.t(), self.down_bias_R)
        if self.activation is not None:
            inner_BTR = self.activation(inner_BTR)
        out_BTH = F.linear(inner_BTR, self.up_RH.t(), self.up_bias_H)
        if isinstance(self.scaling, float) and self.scaling == 1.0:
            return out_BTH
        return out_BTH * self.scaling


def activation_of(name: Activation) -> nn.Module:
    """The f between the projections."""
    from transformers.activations import ACT2FN

    return ACT2FN["leaky_relu" if name == "leakyrelu" else name]  # type: ignore[no-any-return]


def rms_normalised(hidden: Tensor) -> Tensor:
    """Divide (..., H) by the root mean square over H, not in half precision: the squares of large sums overflow it."""
    wide = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
    return F.rms_norm(wide, hidden.shape[-1:], eps=_EPS).to(hidden.dtype)


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

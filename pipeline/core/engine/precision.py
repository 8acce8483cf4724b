"""In which precision a model computes: float32, or bfloat16 where the processor multiplies it."""

import functools
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.config import EngineConfig

_PRODUCTS = ("avx512_bf16", "amx_bf16")
"""What a CPU calls it. One without can compute in bfloat16 too, more slowly than in float32."""
_AMPERE = (8, 0)
"""The compute capability from which on GPUs of NVIDIA do. Earlier ones only emulate it, more slowly than float32."""


def precision(device: torch.device, config: EngineConfig, *, writing: bool = False) -> torch.autocast:
    """Give the arithmetic of the forward pass: bfloat16 where the config, or `auto` on a GPU, says so.

    Args:
        writing: Texts are written, a token at a time. On a CPU that is in float32: each token would turn all weights
            into bfloat16 anew, and a text of a model with many words then takes twice as long.
    """
    halved = is_halved(device, config) and not (writing and device.type == "cpu")
    if halved and device.type == "cpu":
        _attend_in_float32()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=halved)


def is_halved(device: torch.device, config: EngineConfig) -> bool:
    """Whether the forward pass is computed in bfloat16. A command settles what `auto` is before it trains; bundles of
    before, and converted ones, still say it, and mean bfloat16 on a GPU."""
    return config.precision == "bfloat16" or (config.precision == "auto" and device.type == "cuda")


def has_bfloat16(device_type: str) -> bool:
    """Whether the processors of this machine multiply bfloat16 by themselves: all its GPUs are of Ampere or later, or
    AMD's; its CPU has AVX-512's or AMX's instructions for it."""
    if device_type == "cuda":
        gpus = [torch.cuda.get_device_capability(number) for number in range(torch.cuda.device_count())]
        return bool(gpus) and (torch.version.hip is not None or min(gpus) >= _AMPERE)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in _PRODUCTS)


def answering(config: EngineConfig, device_type: str) -> EngineConfig:
    """How a bundle that was trained so answers on this machine: in float32 where it does not multiply bfloat16."""
    if config.precision == "bfloat16" and not has_bfloat16(device_type):
        return replace(config, precision="float32")
    return config


@functools.cache
def _attend_in_float32() -> None:
    """Let attention compute in float32 on a CPU, also where all around it is bfloat16.

    The gradient of torch's attention takes four times as long in bfloat16 as in float32 there (torch 2.13, 32 texts of
    32 tokens), and a third of a whole training step. Models of transformers take their attention from this register.
    """
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    def attend(module: nn.Module, query: Tensor, *others: Any, **settings: Any) -> tuple[Tensor, None]:
        if not (query.device.type == "cpu" and query.dtype == torch.bfloat16):
            attended: tuple[Tensor, None] = sdpa_attention_forward(module, query, *others, **settings)
            return attended
        named = {name: _widened(one) for name, one in settings.items()}
        with torch.autocast("cpu", enabled=False):
            result, _ = sdpa_attention_forward(module, query.float(), *map(_widened, others), **named)
        return result.to(query.dtype), None

    AttentionInterface.register("sdpa", attend)


def _widened(one: Any) -> Any:
    return one.float() if isinstance(one, Tensor) and one.is_floating_point() else one

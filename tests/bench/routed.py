"""Random adapters on a base, mixed in one batch, as benchmarks measure them."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.config import MethodConfig
from pipeline.core.adapters.sites import Placed, Sites, bottlenecks
from pipeline.core.methods import lora


def random_placed(sites: Sites, method: MethodConfig, number: int, like: Tensor | None = None) -> Placed:
    """An adapter of random weights, of the kind and in the place of a tensor; float32 and on the CPU unless said."""
    generator = torch.Generator().manual_seed(number)

    def draw(*shape: int) -> Tensor:
        drawn = torch.empty(shape).normal_(std=0.02, generator=generator)
        return drawn if like is None else drawn.to(like)

    hidden, width = sites.hidden_size, method.width
    if method.name == "lora":
        shapes = {"lora_A.weight": (width, hidden), "lora_B.weight": (hidden, width)}
        paths = [path for layer in sites.projections.values() for path in layer]
        return lora.parts(sites, method, {f"{p}.{key}": draw(*shape) for p in paths for key, shape in shapes.items()})
    shapes_of: dict[str, tuple[int, ...]] = {
        "down.weight": (width, hidden),
        "down.bias": (width,),
        "up.weight": (hidden, width),
        "up.bias": (hidden,),
    }
    names = [f"layers.{layer}.{place}" for layer in range(sites.num_layers) for place in ("attention", "feed_forward")]
    return bottlenecks(
        sites, method, {f"{name}.{key}": draw(*shape) for name in names for key, shape in shapes_of.items()}
    )


def carried(
    base: PreTrainedModel, method: MethodConfig, count: int, inputs: Mapping[str, Tensor]
) -> Callable[[], object]:
    """The forward pass of a batch whose rows have so many different adapters."""
    sites, like = Sites(base), next(base.parameters())
    rows = len(inputs["input_ids"]) // count
    groups = [(rows, random_placed(sites, method, number, like)) for number in range(count)]

    def run() -> object:
        with sites.carrying(groups):
            return base(**inputs)

    return run

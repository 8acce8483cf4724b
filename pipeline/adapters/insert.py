"""Put bottlenecks into a base model and take them out again, as explicit modules that `print(model)` shows."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pipeline.adapters.anatomy import Anatomy, SubBlock, anatomy_of
from pipeline.adapters.bottleneck import Bottleneck
from pipeline.adapters.layouts import LAYOUTS
from pipeline.config import MethodConfig
from pipeline.errors import ConfigError, Fault

Reads = Literal["output", "normed", "input"]


class ClosingAdapter(nn.Module):
    """A sub-block's closing module (`dense`, `dropout`, `LayerNorm`) with a bottleneck before the residual."""

    def __init__(self, inner: nn.Module, bottleneck: Bottleneck, reads: Reads) -> None:
        super().__init__()
        self.inner = inner
        self.bottleneck = bottleneck
        self.reads: Reads = reads

    def forward(self, hidden_states: Tensor, input_tensor: Tensor) -> Tensor:
        """Map the sub-block's hidden states (B, T, any) and its residual (B, T, H) to its output (B, T, H)."""
        inner: Any = self.inner
        h_BTH = inner.dropout(inner.dense(hidden_states))
        h_BTH = _adapt(h_BTH, input_tensor, inner.LayerNorm, self.bottleneck, self.reads)
        return inner.LayerNorm(h_BTH + input_tensor)  # type: ignore[no-any-return]


class OpenAdapter(nn.Module):
    """A sub-block that returns h, alone or first in a tuple; the layer adds the residual and normalises."""

    def __init__(self, inner: nn.Module, bottleneck: Bottleneck, reads: Reads, norm: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.bottleneck = bottleneck
        self.reads: Reads = reads
        self._norm = (norm,)  # in a tuple: the norm stays the layer's own child and is not listed twice

    def forward(self, x_BTH: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Call the sub-block and adapt what it returns, (B, T, H)."""
        out = self.inner(x_BTH, *args, **kwargs)
        h_BTH = out[0] if isinstance(out, tuple) else out
        h_BTH = _adapt(h_BTH, x_BTH, self._norm[0], self.bottleneck, self.reads)
        return (h_BTH, *out[1:]) if isinstance(out, tuple) else h_BTH


def _adapt(h_BTH: Tensor, x_BTH: Tensor, norm: nn.Module, bottleneck: nn.Module, reads: Reads) -> Tensor:
    """Add the bottleneck to h; formulas in `pipeline.adapters.layouts`."""
    read_BTH = norm(h_BTH + x_BTH) if reads == "normed" else {"output": h_BTH, "input": x_BTH}[reads]
    added_BTH: Tensor = bottleneck(read_BTH)
    return h_BTH + added_BTH


def attach(base: PreTrainedModel, config: MethodConfig, seed: int) -> None:
    """Wrap the sub-blocks of the config's layout and layers; the bottlenecks alone have gradients.

    Args:
        base: A frozen base model (`pipeline.adapters.checkpoint.build_base`) without adapters.
        config: Layout, width and the rest.
        seed: Of the bottlenecks' initial weights.

    Raises:
        ConfigError: A layer number is not one of the model's.
        CheckpointError: The model's family has no entry in the table of anatomies.
    """
    assert not any(True for _ in bottlenecks(base)), "the base carries adapters already"
    layout = LAYOUTS[config.name]
    anatomy = anatomy_of(base.config.model_type)
    layers = base.get_submodule(anatomy.layers)
    assert isinstance(layers, nn.ModuleList)
    device = next(base.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    for number in chosen_layers(config.layers, len(layers)):
        for place in layout.places:
            block = anatomy.sub_blocks[place]
            bottleneck = Bottleneck(base.config.hidden_size, config, generator).to(device)
            _set(layers[number], block.module, _wrap(layers[number], block, bottleneck, layout.reads))


def detach(base: PreTrainedModel) -> None:
    """Put the checkpoint's own sub-blocks back; without adapters it does nothing."""
    for layer, block, _ in _wrapped(base):
        _set(layer, block.module, layer.get_submodule(block.module).get_submodule("inner"))


def bottlenecks(base: PreTrainedModel) -> Iterator[tuple[str, Bottleneck]]:
    """Name every bottleneck of the base: `layers.3.feed_forward`, independent of the family."""
    for layer, block, name in _wrapped(base):
        bottleneck = layer.get_submodule(block.module).get_submodule("bottleneck")
        assert isinstance(bottleneck, Bottleneck)
        yield name, bottleneck


def adapter_state(base: PreTrainedModel) -> dict[str, Tensor]:
    """Collect the weights of the adapters: `layers.3.feed_forward.down.weight` -> (R, H)."""
    return {f"{name}.{key}": value for name, bn in bottlenecks(base) for key, value in bn.state_dict().items()}


def load_adapter_state(base: PreTrainedModel, state: Mapping[str, Tensor]) -> None:
    """Set the weights of the attached adapters from `adapter_state`'s output.

    Raises:
        RuntimeError: The names or shapes differ from those attached.
    """
    used = 0
    for name, bottleneck in bottlenecks(base):
        own = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
        bottleneck.load_state_dict(own)
        used += len(own)
    if used != len(state):
        raise RuntimeError(f"{len(state) - used} of {len(state)} adapter tensors have no place in the model")


def chosen_layers(layers: str | list[int], num_layers: int) -> list[int]:
    """Resolve `all`, `top-4` or a list to layer numbers, lowest first.

    Raises:
        ConfigError: A number is not below `num_layers`, or more are asked for than there are.
    """
    if layers == "all":
        return list(range(num_layers))
    if isinstance(layers, str):
        chosen = list(range(num_layers - int(layers.removeprefix("top-")), num_layers))
    else:
        chosen = sorted(set(layers))
    if not chosen or chosen[0] < 0 or chosen[-1] >= num_layers:
        rule = f"must name layers of a checkpoint that has {num_layers}, numbered from 0"
        remedy = f"Use all, top-1 to top-{num_layers}, or numbers from 0 to {num_layers - 1}"
        raise ConfigError(Fault(where="method.layers", value=str(layers), rule=rule, remedy=remedy))
    return chosen


def num_layers_of(base: PreTrainedModel) -> int:
    """Count the layers that an adapter could sit in."""
    layers = base.get_submodule(anatomy_of(base.config.model_type).layers)
    assert isinstance(layers, nn.ModuleList)
    return len(layers)


def _wrapped(base: PreTrainedModel) -> Iterator[tuple[nn.Module, SubBlock, str]]:
    anatomy: Anatomy = anatomy_of(base.config.model_type)
    layers = base.get_submodule(anatomy.layers)
    assert isinstance(layers, nn.ModuleList)
    for number, layer in enumerate(layers):
        for place, block in anatomy.sub_blocks.items():
            if isinstance(layer.get_submodule(block.module), ClosingAdapter | OpenAdapter):
                yield layer, block, f"layers.{number}.{place}"


def _wrap(layer: nn.Module, block: SubBlock, bottleneck: Bottleneck, reads: Reads) -> nn.Module:
    inner = layer.get_submodule(block.module)
    if block.form == "closing":
        return ClosingAdapter(inner, bottleneck, reads)
    return OpenAdapter(inner, bottleneck, reads, layer.get_submodule(block.norm))


def _set(layer: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(layer.get_submodule(parent), name, module)

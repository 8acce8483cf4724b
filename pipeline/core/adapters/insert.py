"""Put bottlenecks into a base model and take them out again, as explicit modules that `print(model)` shows.

`attach`, `state`, `load` and `undo` are the methods `houlsby`, `pfeiffer` and `parallel` (`pipeline.core.methods`).
"""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from pipeline.config import MethodConfig
from pipeline.core.adapters.anatomy import layers_of, settled
from pipeline.core.adapters.bottleneck import Bottleneck, LowRank
from pipeline.core.adapters.layouts import LAYOUTS, PLACES, Place
from pipeline.core.adapters.mixed import Groups, Part, adapted, normed
from pipeline.errors import ConfigError, fault

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Adapted(nn.Module):
    """A module of the base, and what adapters add to what it puts out.

    Where one adapter is attached to the base, it is a module in here. In a batch of several each group of rows has its
    own (`pipeline.core.adapters.sites`).
    """

    def __init__(self, inner: nn.Module, bottleneck: Bottleneck | LowRank | None = None) -> None:
        """Wrap `inner`, which puts out h, (B, T, H), alone or first in a tuple."""
        super().__init__()
        self.inner = inner
        self.bottleneck = bottleneck
        self._groups: Groups = ()
        self._x: Tensor | None = None
        self._hook: RemovableHandle | None = None

    def carry(self, groups: Groups, source: nn.Module) -> None:
        """Let the rows of each group have what is its own, until `unhook`.

        Args:
            groups: One for the whole batch, or those of `pipeline.core.adapters.mixed`.
            source: Is given the residual x as its first argument, before `inner` puts out h; or is `inner`.
        """
        self._groups = groups
        # x cannot be handed over: the module that puts out h is not the one that is given x (but for DistilBERT), and
        # the layer that calls both is transformers' own code. The hook keeps x from the one call to the other, and
        # leaves what it looks at, a norm or a first projection, in its place and its weights under their names.
        if any(part is not None and part.reads != "output" for _, part in groups):
            self._hook = source.register_forward_pre_hook(self._see, with_kwargs=True)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the wrapped module and adapt what it puts out."""
        out = self.inner(*args, **kwargs)
        x, self._x = self._x, None
        if isinstance(out, tuple):
            return (adapted(out[0], x, self._groups), *out[1:])
        return adapted(out, x, self._groups)

    def added(self, h: Tensor, x: Tensor) -> Tensor:
        """Adapt h where h and x, (B, T, H) each, are known, so that nothing of the sub-block is called."""
        return adapted(h, x, self._groups)

    def unhook(self) -> None:
        """Stop looking at the residual, and let go what was carried."""
        if self._hook is not None:
            self._hook.remove()
        self._hook, self._x, self._groups = None, None, ()

    def _see(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._x = args[0] if args else kwargs["hidden_states"]


class TrainedNorm(nn.Module):
    """In the place of a LayerNorm of the checkpoint: a copy of it that is trained, or those of the batch's adapters."""

    def __init__(self, frozen: nn.Module, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.frozen = frozen  # not in use, but still one of the checkpoint's weights
        self.norm = norm
        self.groups: Sequence[tuple[int, nn.Module]] = () if norm is None else ((1, norm),)

    def forward(self, hidden: Tensor) -> Tensor:
        """Normalise (..., H)."""
        return normed(hidden, self.groups)


def attach(base: "PreTrainedModel", config: MethodConfig, seed: int) -> nn.Module:
    """Wrap the sub-blocks of the config's layout and layers; the bottlenecks (and norms) alone have gradients.

    Args:
        base: A frozen base model (`pipeline.core.adapters.checkpoint.build_base`) without adapters; is returned.
        seed: Of the bottlenecks' initial weights.

    Raises:
        ConfigError: A layer number is not one of the model's.
        CheckpointError: The model's family has no entry in the table of anatomies.
    """
    refuse_second(base)
    layers = layers_of(base)
    for name, module in made(base, config, seed).items():
        _, number, place, *_ = name.split(".")
        layer, stack = layers[int(number)]
        block = stack.sub_block(cast(Place, place))
        norm = layer.get_submodule(block.norm)
        if isinstance(module, Bottleneck):
            wrapper = Adapted(layer.get_submodule(block.module), module)
            part = Part(module, LAYOUTS[config.name].reads, norm if block.post_norm else None)
            wrapper.carry([(1, part)], layer.get_submodule(block.source))
            put(layer, block.module, wrapper)
        else:
            put(layer, block.norm, TrainedNorm(norm, module))
    return cast(nn.Module, base)


def made(base: "PreTrainedModel", config: MethodConfig, seed: int) -> dict[str, nn.Module]:
    """Make what `attach` puts into the base, by the names of `adapter_modules`; the base is not touched.

    The norms of a layer stand before its bottlenecks. Arguments and errors are those of `attach`.
    """
    config = settled(config, base.config.model_type)
    layers, modules = layers_of(base), dict[str, nn.Module]()
    hidden_size, device = base.config.hidden_size, base.device
    generator = torch.Generator().manual_seed(seed)
    for number in chosen_layers(config.layers, len(layers)):
        layer, stack = layers[number]
        width = config.width_in(number, hidden_size)
        for place in PLACES if config.norms else ():
            frozen = layer.get_submodule(stack.sub_block(place).norm)
            if any(True for _ in frozen.parameters()):  # ModernBERT's first is the identity
                modules[f"layers.{number}.{place}.norm"] = copy.deepcopy(frozen).requires_grad_(True)
        for place in LAYOUTS[config.name].places:
            bottleneck = Bottleneck(hidden_size, width, config, generator)
            modules[f"layers.{number}.{place}"] = bottleneck.to(device)
    return modules


def refuse_second(base: "PreTrainedModel") -> None:
    """Raise a RuntimeError where the base carries adapters already."""
    if any(isinstance(one, Adapted | TrainedNorm) for one in base.modules()):  # an assert is left out by `python -O`
        raise RuntimeError("the base carries adapters already")


def undo(model: nn.Module) -> None:
    """Put the checkpoint's own modules back; without adapters it does nothing."""
    for layer, _ in layers_of(cast("PreTrainedModel", model)):
        for path, module in list(layer.named_modules()):  # listed first, since the tree changes
            if isinstance(module, Adapted):
                module.unhook()
                put(layer, path, module.inner)
            elif isinstance(module, TrainedNorm):
                put(layer, path, module.frozen)


def adapter_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Name every module that is trained, whatever the family: bottlenecks as `layers.3.feed_forward`, norms as
    `layers.3.feed_forward.norm`."""
    for number, (layer, stack) in enumerate(layers_of(cast("PreTrainedModel", model))):
        for place in PLACES:
            block = stack.sub_block(place)
            wrapper = layer.get_submodule(block.module)
            if isinstance(wrapper, Adapted) and wrapper.bottleneck is not None:
                yield f"layers.{number}.{place}", wrapper.bottleneck
            norm = layer.get_submodule(block.norm)
            if isinstance(norm, TrainedNorm) and norm.norm is not None:
                yield f"layers.{number}.{place}.norm", norm.norm


def state(model: nn.Module) -> dict[str, Tensor]:
    """Collect the weights of the adapters: `layers.3.feed_forward.down.weight` -> (R, H)."""
    return state_of(adapter_modules(model))


def load(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Set the weights of the attached adapters from what `state` returned.

    Raises:
        RuntimeError: The names or shapes differ from those attached.
    """
    load_into(adapter_modules(model), tensors)


def state_of(modules: Iterable[tuple[str, nn.Module]]) -> dict[str, Tensor]:
    """Collect the weights of named modules: `<name>.<key>` -> tensor."""
    return {f"{name}.{key}": value for name, module in modules for key, value in module.state_dict().items()}


def load_into(modules: Iterable[tuple[str, nn.Module]], tensors: Mapping[str, Tensor]) -> None:
    """Set the weights of named modules from what `state_of` returned.

    Raises:
        RuntimeError: The names or shapes differ.
    """
    used = 0
    for name, module in modules:
        keys = list(module.state_dict())
        module.load_state_dict({key: tensors[f"{name}.{key}"] for key in keys if f"{name}.{key}" in tensors})
        used += len(keys)
    if used != len(tensors):
        raise RuntimeError(f"{len(tensors) - used} of {len(tensors)} adapter tensors have no place in the model")


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
        raise ConfigError(fault("method.layers", layers, rule, remedy))
    return chosen


def put(layer: nn.Module, path: str, module: nn.Module) -> None:
    """Let a module stand at a path in a layer."""
    parent, _, name = path.rpartition(".")
    setattr(layer.get_submodule(parent), name, module)

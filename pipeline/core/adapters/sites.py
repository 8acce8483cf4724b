"""Where adapters sit in a resident base, and how those of a batch are put there for the time of a forward pass."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, cast, final

import torch
from torch import Tensor, nn

from pipeline.config import MethodConfig
from pipeline.config.training import Activation
from pipeline.core.adapters.anatomy import anatomy_of, layers_of, settled
from pipeline.core.adapters.bottleneck import Bottleneck, Weights, activation_of
from pipeline.core.adapters.insert import Adapted, TrainedNorm, chosen_layers
from pipeline.core.adapters.layouts import LAYOUTS, PLACES, Place
from pipeline.core.adapters.mixed import Part

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Placed = Mapping[str, Part | nn.Module]
"""What an adapter has in the base: by the name of a sub-block or projection what it adds, of a norm its own norm."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """A module of the base in whose place a wrapper can stand."""

    module: nn.Module
    parent: nn.Module
    name: str
    """Of the module in its parent."""
    wrapper: Adapted | TrainedNorm
    source: Callable[[], nn.Module]
    """What is given the residual: looked up when the batch's norms are in their places."""

    def put(self, module: nn.Module) -> None:
        """Let it stand in this place."""
        setattr(self.parent, self.name, module)


@final
class Sites:
    """All of a base's sub-blocks, norms and projections. The base is as it was whenever no batch runs."""

    def __init__(self, base: "PreTrainedModel") -> None:
        """Look them up in the base, which carries no adapters."""
        self.base = base
        self.hidden_size: int = base.config.hidden_size
        self.family: str = base.config.model_type
        layers, paths = layers_of(base), {id(module): path for path, module in base.named_modules()}
        self.num_layers = len(layers)
        self._layers = [layer for layer, _ in layers]
        is_one_stack = anatomy_of(base.config).kind != "encoder-decoder"
        self.repeats_within = is_one_stack and len(layers) == base.config.num_hidden_layers
        """Whether rows can be repeated in front of a layer: not where a decoder reads what an encoder made of the rows,
        nor where all layers are the same module."""
        self.norms: dict[str, Site] = {}
        """`layers.3.feed_forward.norm` -> the norm that is trained by that name."""
        self.projections: dict[int, dict[str, Site]] = {}
        """Layer -> path in the base -> a projection that LoRA updates."""
        self._after: dict[str, nn.Module | None] = {}
        """`layers.3.feed_forward` -> the norm that reads the sum of output and residual."""
        self._sites: dict[str, Site] = {}
        ends = tuple(f".{name}" for name in anatomy_of(base.config).lora)
        for number, (layer, stack) in enumerate(layers):
            for place in PLACES:
                block, name = stack.sub_block(place), f"layers.{number}.{place}"
                norm = layer.get_submodule(block.norm)
                self._after[name] = norm if block.post_norm else None
                self._sites[name] = _site(layer, block.module, block.source)
                if any(True for _ in norm.parameters()):  # ModernBERT's first is the identity
                    self.norms[f"{name}.norm"] = _site(layer, block.norm, block.norm, is_norm=True)
            inside = [path for path, _ in layer.named_modules() if ends and f".{path}".endswith(ends)]
            found = {f"{paths[id(layer)]}.{path}": path for path in inside}
            self.projections[number] = {full: _site(layer, path, path) for full, path in found.items()}
            self._sites |= self.projections[number]

    def after(self, number: int, place: Place) -> nn.Module | None:
        """The checkpoint's norm that reads the sum of a sub-block's output and residual."""
        return self._after[f"layers.{number}.{place}"]

    @contextmanager
    def repeating(self, times: int, lowest: int) -> Iterator[None]:
        """Let layers from number `lowest` on compute each row of the batch several times, those below it once.

        What the first of them is given, hidden states and masks, is repeated as a whole: all rows, and again all rows.
        """
        hooks = [
            layer.register_forward_pre_hook(_Repeater(times, number == lowest), with_kwargs=True)
            for number, layer in enumerate(self._layers)
            if number >= lowest
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @contextmanager
    def carrying(self, groups: Sequence[tuple[int, Placed]]) -> Iterator[None]:
        """Let the base carry adapters: of each the number of its rows, in the order of the batch, and what it has.

        Only where one of them has something does anything stand: without any, this is the bare base. Nobody else may
        use the base meanwhile.
        """
        names = dict.fromkeys(name for _, placed in groups for name in placed)
        norms = [(name, self.norms[name]) for name in names if name in self.norms]
        wrapped = [(name, self._sites[name]) for name in names if name not in self.norms]
        try:
            for name, site in norms:
                assert isinstance(site.wrapper, TrainedNorm)
                own = [(size, placed.get(name, site.module)) for size, placed in groups]
                site.wrapper.groups = own  # type: ignore[assignment]
                site.put(site.wrapper)
            for name, site in wrapped:
                assert isinstance(site.wrapper, Adapted)
                parts = [(size, placed.get(name)) for size, placed in groups]
                site.wrapper.carry(parts, site.source())  # type: ignore[arg-type]
                site.put(site.wrapper)
            yield
        finally:
            for _, site in (*norms, *wrapped):
                site.put(site.module)
                if isinstance(site.wrapper, Adapted):
                    site.wrapper.unhook()
                else:
                    site.wrapper.groups = ()


@final
class _Repeater:
    """Sees what a layer is given, and repeats what has a row for each row of the batch."""

    def __init__(self, times: int, is_first: bool) -> None:
        self._times, self._is_first = times, is_first

    def __call__(
        self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        hidden = args[0] if args else kwargs["hidden_states"]
        self._num_rows = len(hidden) if self._is_first else len(hidden) // self._times
        self._num_tokens = hidden.shape[1]
        return tuple(map(self._repeated, args)), {name: self._repeated(value) for name, value in kwargs.items()}

    def _repeated(self, value: Any) -> Any:
        """A tensor with the batch's rows, repeated; what all rows have in common stays as it is.

        A mask or a position has a number for each token, so that a table which happens to be as long as the batch is
        told from them. One row stands for all anyway, but for the hidden states themselves.
        """
        if isinstance(value, tuple):
            return tuple(map(self._repeated, value))
        if not isinstance(value, Tensor) or value.ndim < 2 or len(value) != self._num_rows:
            return value
        is_hidden = value.ndim == 3 and value.is_floating_point() and value.shape[1] == self._num_tokens
        is_common = self._num_rows == 1 and not is_hidden
        is_table = value.ndim == 2 and value.shape[1] != self._num_tokens
        return value if is_common or is_table else value.repeat(self._times, *[1] * (value.ndim - 1))


def placed_modules(sites: Sites, config: MethodConfig, modules: Mapping[str, nn.Module]) -> Placed:
    """Where what `pipeline.core.adapters.insert.made` returned is in the base, which is not touched."""
    reads, placed = LAYOUTS[config.name].reads, dict[str, Part | nn.Module]()
    for name, module in modules.items():
        if isinstance(module, Bottleneck):
            _, number, place = name.split(".")
            after = sites.after(int(number), cast(Place, place))
            placed[name] = Part(module, reads, after and modules.get(f"{name}.norm", after))
        else:
            placed[name] = module
    return placed


def bottlenecks(sites: Sites, config: MethodConfig, tensors: Mapping[str, Tensor]) -> Placed:
    """What the tensors of `houlsby`, `pfeiffer` and `parallel` are in the base, which is not touched.

    Args:
        tensors: What `pipeline.core.adapters.insert.state` returned, and where they are to stay.

    Raises:
        RuntimeError: Their names or shapes are not those that the config gives.
        ConfigError: The base lacks one of the layers.
    """
    config, layout = settled(config, sites.family), LAYOUTS[config.name]
    left, hidden_size, placed = dict(tensors), sites.hidden_size, dict[str, Part | nn.Module]()
    activation = _activation(config.activation)
    for number in chosen_layers(config.layers, sites.num_layers):
        width = config.width_in(number, hidden_size)
        for place in PLACES if config.norms else ():
            name = f"layers.{number}.{place}.norm"
            if name in sites.norms:
                frozen = sites.norms[name].module
                placed[name] = own = copy.deepcopy(frozen)
                keys = {key: taken(left, f"{name}.{key}", one.shape) for key, one in frozen.state_dict().items()}
                own.load_state_dict(keys, assign=True)
                own.requires_grad_(False)
        for place in layout.places:
            name = f"layers.{number}.{place}"
            learned = config.scaling == "learned"
            weights = Weights(
                down_HR=taken(left, f"{name}.down.weight", (width, hidden_size)).t().contiguous(),
                down_bias_R=taken(left, f"{name}.down.bias", (width,)),
                up_RH=taken(left, f"{name}.up.weight", (hidden_size, width)).t().contiguous(),
                up_bias_H=taken(left, f"{name}.up.bias", (hidden_size,)),
                activation=activation,
                scaling=taken(left, f"{name}.scaling", (1,)).item() if learned else float(config.scaling),
                input_norm=config.input_norm,
            )
            after = sites.after(number, place)
            norm = after and placed.get(f"{name}.norm", after)
            placed[name] = Part(weights, layout.reads, norm)  # type: ignore[arg-type]
    none_left(left)
    return placed


def taken(left: dict[str, Tensor], name: str, shape: Sequence[int]) -> Tensor:
    """Take a tensor out of those that are left.

    Raises:
        RuntimeError: It is not there, or has another shape.
    """
    if name not in left:
        raise RuntimeError(f"{name} is missing")
    tensor = left.pop(name)
    if tensor.shape != torch.Size(shape):
        raise RuntimeError(f"{name} has the shape {tuple(tensor.shape)}, not {tuple(shape)}")
    return tensor


def none_left(left: Mapping[str, Tensor]) -> None:
    """Refuse tensors that have no place.

    Raises:
        RuntimeError: There are some.
    """
    if left:
        raise RuntimeError(f"{len(left)} adapter tensors have no place in the model, {min(left)} among them")


@cache
def _activation(name: Activation) -> nn.Module:
    """One module for all: it has no weights, and adapters with the same one are computed together."""
    return activation_of(name)


def _site(layer: nn.Module, path: str, source: str, *, is_norm: bool = False) -> Site:
    parent, _, name = path.rpartition(".")
    module = layer.get_submodule(path)
    wrapper = TrainedNorm(module) if is_norm else Adapted(module)
    reads_its_own = source == path
    look_up = (lambda: module) if reads_its_own else (lambda: layer.get_submodule(source))
    return Site(module, layer.get_submodule(parent), name, wrapper.eval(), look_up)

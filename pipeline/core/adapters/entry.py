"""Where the trained part of a model begins, and how it is computed from there on.

What lies below the first adapter is frozen and in eval mode, so that what it makes of a row is the same whenever it is
computed. A model is entered at one of three depths:

    before a layer            x, which the layer is given
    within a layer            h and x of the sub-block whose h the first adapter reads or adds to
    behind the last layer     what a head reads: each token's hidden state, or the pooled vector

The model's own code computes all that is above, with the masks, rotary angles and relative positions that it makes of
the tokens: for the time of a forward pass the modules below only hand on what they are given. In an encoder-decoder
each stack has layers below: where the first adapter is in the decoder, what the encoder puts out is known too.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from torch import Tensor, nn

from pipeline.config import METHOD_TRAITS, MethodConfig
from pipeline.core.adapters.anatomy import Shape, SubBlock, anatomy_of, body_of, layers_of
from pipeline.core.adapters.insert import Adapted, chosen_layers
from pipeline.core.adapters.layouts import LAYOUTS, Place

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_BIAS = 1
"""Place of the position bias among the arguments of a layer of T5 that follow the hidden states."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """Where a model is entered."""

    layer: int
    """The first that is not wholly frozen; behind the last one there is none."""
    place: Place | None = None
    """Its sub-block whose h is known; None: the layer is computed from its beginning."""
    pooling: str = ""
    """Behind the last layer, where the head reads one vector: how that is made."""


def entry_of(method: MethodConfig, base: "PreTrainedModel", pooling: str = "") -> Entry | None:
    """Say where the trained part begins; None where it begins in the lowest layer, or cannot be told from the rest.

    Args:
        base: With or without adapters.
        pooling: How the one vector is made that the head reads; empty where it reads each token's.

    Raises:
        ConfigError: A layer number is not one of the model's.
    """
    layers = layers_of(base)
    if method.name == "probe":
        return Entry(layer=len(layers), pooling=pooling)
    if "layers" not in METHOD_TRAITS[method.name].settings:
        return None
    number = chosen_layers(method.layers, len(layers))[0]
    _, stack = layers[number]
    if number == 0 or not stack.enterable:
        return None
    if method.name not in LAYOUTS or method.norms:  # LoRA sits in the attention; what reads a trained norm is not known
        return Entry(layer=number)
    place = LAYOUTS[method.name].places[0]
    return Entry(layer=number, place=None if place == "feed_forward" and not stack.in_turn else place)


def is_shut(method: MethodConfig, base: "PreTrainedModel") -> bool:
    """Whether layers lie below the first adapter, and the family's model can be entered at none but the lowest."""
    if "layers" not in METHOD_TRAITS[method.name].settings:
        return False
    layers = layers_of(base)
    number = chosen_layers(method.layers, len(layers))[0]
    return number > 0 and not layers[number][1].enterable


class _Reached(Exception):
    """All that is below was computed."""


@final
class Entrance:
    """An entry into a base that carries its adapters; what is known is given in `states`, a tensor each."""

    def __init__(self, base: "PreTrainedModel", entry: Entry) -> None:
        self.entry = entry
        layers = layers_of(base)
        self.is_end = entry.layer == len(layers)
        self.num_states = 1
        if self.is_end:
            return
        self._layer, self._stack = layers[entry.layer]
        self._below = [layer for layer, stack in layers[: entry.layer] if stack is self._stack]
        in_decoder = self._stack is not anatomy_of(base.config).stacks[0]
        self._encoder: nn.Module | None = body_of(base).get_encoder() if in_decoder else None
        self.num_states = 1 + in_decoder + (entry.place is not None)
        """Tensors that `states` returns."""

    def states(self, run: Callable[[], object], batch: int) -> tuple[Tensor, ...]:
        """Compute what is below, and no more.

        Args:
            run: Calls the model.
            batch: Rows that it is given.

        Returns:
            The encoder's output where the entry is in the decoder, x, and h where the entry is within a layer; (B, T,
            H) each.
        """
        found: dict[str, Tensor] = {}
        try:
            with _instead(self._watching(found)):
                run()
        except _Reached:
            pass
        names = [name for name in ("memory", "x", "h") if name in found]
        assert len(names) == self.num_states, "the model did not call the modules that its anatomy names"
        return tuple(found[name].reshape(batch, -1, found[name].shape[-1]) for name in names)  # OPT flattens

    @contextmanager
    def entered(self, states: Sequence[Tensor]) -> Iterator[None]:
        """Let calls of the model begin here, with what `states` returned for the same rows, padded on the right."""
        left = list(states)
        forwards: dict[nn.Module, Callable[..., Any]] = {}
        if self._encoder is not None:
            memory = left.pop(0)
            forwards[self._encoder] = lambda *args, **kwargs: (memory,)
        for layer in self._below:
            forwards[layer] = self._handing_on(layer, None)
        x, *more = left
        whole = self._layer.forward

        def begun(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
            return whole(x, *args, **kwargs)

        if self.entry.place == "feed_forward":
            (h,) = more
            block = self._stack.feed_forward
            sum_ = self._wrapper(block).added(h, x) + x
            norm = self._layer.get_submodule(block.norm)
            forwards[self._layer] = self._handing_on(self._layer, norm(sum_) if block.post_norm else sum_)
        else:
            forwards[self._layer] = begun
        if self.entry.place == "attention":
            (h,) = more
            block = self._stack.attention
            inner = self._wrapper(block).inner
            forwards[inner] = lambda *args, **kwargs: _shaped(block.shape, h, inner, kwargs.get("position_bias"))
            for path in block.idle:
                forwards[self._layer.get_submodule(path)] = lambda hidden_states, *args, **kwargs: (hidden_states, None)
        with _instead(forwards):
            yield

    def _handing_on(self, layer: nn.Module, out: Tensor | None) -> Callable[..., Any]:
        """A layer that puts out `out`, or what it is given."""
        attention = layer.get_submodule(self._stack.attention.module)
        attention = attention.inner if isinstance(attention, Adapted) else attention

        def forward(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
            given = hidden_states if out is None else out
            bias = args[_BIAS] if self._stack.shape == "biased" else None
            return _shaped(self._stack.shape, given, attention, bias)

        return forward

    def _wrapper(self, block: SubBlock) -> Adapted:
        wrapper = self._layer.get_submodule(block.module)
        assert isinstance(wrapper, Adapted), "the base carries no adapter where it is entered"
        return wrapper

    def _watching(self, found: dict[str, Tensor]) -> dict[nn.Module, Callable[..., Any]]:
        forwards: dict[nn.Module, Callable[..., Any]] = {}
        if self._encoder is not None:
            encode = self._encoder.forward

            def encoded(*args: Any, **kwargs: Any) -> Any:
                out = encode(*args, **kwargs)
                found["memory"] = out[0]
                return out

            forwards[self._encoder] = encoded
        if self.entry.place is None:

            def begun(hidden_states: Tensor, *args: Any, **kwargs: Any) -> None:
                found["x"] = hidden_states
                raise _Reached

            forwards[self._layer] = begun
            return forwards
        block = self._stack.sub_block(self.entry.place)
        source, inner = self._layer.get_submodule(block.source), self._wrapper(block).inner
        see, compute = source.forward, inner.forward

        def seen(*args: Any, **kwargs: Any) -> Any:
            found["x"] = args[0] if args else kwargs["hidden_states"]
            return see(*args, **kwargs)

        def computed(*args: Any, **kwargs: Any) -> None:
            out = compute(*args, **kwargs)
            found["h"] = out[0] if isinstance(out, tuple) else out
            raise _Reached

        return forwards | {source: seen, inner: computed}


def _shaped(shape: Shape, hidden: Tensor, attention: nn.Module, bias: Tensor | None) -> Any:
    """Put a hidden state out as the module does that would compute it.

    Args:
        attention: In T5, what makes the position bias of the first layer.
        bias: That of the layers before, where there are some.
    """
    if shape == "alone":
        return hidden
    if shape == "pair":
        return hidden, None
    if bias is None:  # it depends on the length alone, and all layers of the stack have that of the first
        length = hidden.shape[1]
        bias = attention.compute_bias(length, length, device=hidden.device)  # type: ignore[operator]
    return hidden, bias, None


@contextmanager
def _instead(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Let modules compute something else for the time; their weights, names and places stay."""
    try:
        for module, forward in forwards.items():
            module.forward = forward
        yield
    finally:
        for module in forwards:
            module.__dict__.pop("forward", None)

"""How a checkpoint is adapted: every method is the same four functions, and the engine never asks which it has."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from transformers import PreTrainedModel

from pipeline.config import MethodConfig, MethodName
from pipeline.methods import bottleneck, full, lora, probe, prompt


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """What the engine needs of a method."""

    prepare: Callable[[PreTrainedModel, MethodConfig, int], nn.Module]
    """Make of the frozen base (base, config, seed) the model to run, in which what is to be trained has gradients.
    That is the base itself, changed; a wrapper around it; or a copy."""
    state: Callable[[nn.Module], dict[str, Tensor]]
    """Collect the trained weights of that model by name."""
    load: Callable[[nn.Module, Mapping[str, Tensor]], None]
    """Set the trained weights from what `state` returned."""
    undo: Callable[[nn.Module], None]
    """Make the base what it was before `prepare`."""


_BOTTLENECK = Method(prepare=bottleneck.prepare, state=bottleneck.state, load=bottleneck.load, undo=bottleneck.undo)

METHODS: Mapping[MethodName, Method] = {
    "houlsby": _BOTTLENECK,
    "pfeiffer": _BOTTLENECK,
    "parallel": _BOTTLENECK,
    "lora": Method(prepare=lora.prepare, state=lora.state, load=lora.load, undo=lora.undo),
    "prompt": Method(prepare=prompt.prepare, state=prompt.state, load=prompt.load, undo=prompt.undo),
    "full": Method(prepare=full.prepare, state=full.state, load=full.load, undo=full.undo),
    "probe": Method(prepare=probe.prepare, state=probe.state, load=probe.load, undo=probe.undo),
}
"""`MethodConfig.name` -> method."""


def virtual_tokens(config: MethodConfig) -> int:
    """Count the positions that the method takes from the text."""
    return config.width if config.name == "prompt" else 0

"""What the library calls the adapters of a model family."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipeline.config import Kind, MethodConfig
from pipeline.core.adapters.anatomy import ANATOMIES, layers_of
from pipeline.core.adapters.insert import chosen_layers
from pipeline.core.adapters.layouts import LAYOUTS, Place
from pipeline.errors import BundleError, fault

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, kw_only=True, slots=True)
class Naming:
    """The library's names in one model family, and those of its heads that have a like one here."""

    model_class: str
    """Its model with heads that are added and taken off."""
    prefix: str
    """What that model calls the bare model."""
    places: tuple[Mapping[Place, str], ...]
    """Where its adapters are, by path in a layer; one for each stack of the family's anatomy."""
    heads: tuple[Kind, ...] = ("classification", "tagging", "multiple_choice", "extractive_qa")
    """Kinds of tasks whose heads read the same there and here."""
    pooling: Literal["first", "last"] = "first"
    """Which token's vector a head on a text reads."""


_IN_OUTPUT: Mapping[Place, str] = {"attention": "attention.output", "feed_forward": "output"}
_IN_LAYER: Mapping[Place, str] = {"attention": "attention_adapters", "feed_forward": "output_adapters"}
_BART = (_IN_LAYER, _IN_LAYER)
_T5: tuple[Mapping[Place, str], ...] = (
    {"attention": "layer.0", "feed_forward": "layer.1"},
    {"attention": "layer.0", "feed_forward": "layer.2"},
)


def _encoder(model_class: str, prefix: str, places: Mapping[Place, str] = _IN_OUTPUT) -> Naming:
    return Naming(model_class=model_class, prefix=prefix, places=(places,))


def _decoder(model_class: str, prefix: str) -> Naming:
    heads: tuple[Kind, ...] = ("classification", "tagging", "extractive_qa")
    return Naming(model_class=model_class, prefix=prefix, places=(_IN_LAYER,), heads=heads, pooling="last")


def _encoder_decoder(model_class: str, prefix: str, places: tuple[Mapping[Place, str], ...], *heads: Kind) -> Naming:
    return Naming(model_class=model_class, prefix=prefix, places=places, heads=heads, pooling="last")


NAMINGS: Mapping[str, Naming] = {
    "bert": _encoder("BertAdapterModel", "bert."),
    "roberta": _encoder("RobertaAdapterModel", "roberta."),
    "xlm-roberta": _encoder("XLMRobertaAdapterModel", "roberta."),
    "electra": _encoder("ElectraAdapterModel", "electra."),
    "deberta-v2": _encoder("DebertaV2AdapterModel", "deberta."),
    "distilbert": _encoder("DistilBertAdapterModel", "distilbert.", _IN_LAYER),
    "bart": _encoder_decoder("BartAdapterModel", "model.", _BART, "classification", "extractive_qa"),
    # The last token of mBART's texts is the language, and its heads read the one before.
    "mbart": _encoder_decoder("MBartAdapterModel", "model.", _BART, "extractive_qa"),
    # Of what T5's heads read, all but classification's is scaled by H ** -0.5 there.
    "t5": _encoder_decoder("T5AdapterModel", "transformer.", _T5, "classification"),
    "mt5": _encoder_decoder("MT5AdapterModel", "transformer.", _T5, "classification"),
    "gpt2": _decoder("GPT2AdapterModel", "transformer."),
    "llama": _decoder("LlamaAdapterModel", "model."),
    "mistral": _decoder("MistralAdapterModel", "model."),
}
"""`config.model_type` -> names; `tests/parity` compares each with the library."""

_LEAVES = {
    "down.weight": "adapter_down.0.weight",
    "down.bias": "adapter_down.0.bias",
    "up.weight": "adapter_up.weight",
    "up.bias": "adapter_up.bias",
    "scaling": "scaling",
}
"""Our names of a bottleneck's tensors -> the library's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """What must be known of a model to name the adapters in it."""

    model_type: str
    hidden_size: int
    stacks: tuple[int, ...]
    """Layers of each stack: one number, or the encoder's and the decoder's."""

    @classmethod
    def of(cls, base: "PreTrainedModel") -> "Shape":
        """Measure a model; its weights are not looked at.

        Raises:
            BundleError: The library's names in this family are not known here.
        """
        model_type = base.config.model_type
        if model_type not in NAMINGS:
            rule = "is a model family whose AdapterHub names are not known"
            raise BundleError(fault("checkpoint", model_type, rule, f"Use one of {', '.join(NAMINGS)}"))
        kinds = [stack for _, stack in layers_of(base)]
        counts = tuple(kinds.count(stack) for stack in dict.fromkeys(kinds))
        return cls(model_type=model_type, hidden_size=base.config.hidden_size, stacks=counts)

    @property
    def num_layers(self) -> int:
        return sum(self.stacks)


def tensor_names(method: MethodConfig, shape: Shape, name: str) -> dict[str, str]:
    """Our name of every tensor -> the library's in a bare model, in the order of the layers."""
    names = {}
    stacks = zip(ANATOMIES[shape.model_type].stacks, NAMINGS[shape.model_type].places, shape.stacks, strict=True)
    layers = [(f"{stack.layers}.{i}", places) for stack, places, count in stacks for i in range(count)]
    for number in chosen_layers(method.layers, shape.num_layers):
        layer, places = layers[number]
        for place in LAYOUTS[method.name].places:
            for ours, theirs in _LEAVES.items():
                if ours != "scaling" or method.scaling == "learned":
                    names[f"layers.{number}.{place}.{ours}"] = f"{layer}.{places[place]}.adapters.{name}.{theirs}"
    return names

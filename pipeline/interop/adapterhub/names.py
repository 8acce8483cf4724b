"""What the library calls the adapters of a model family."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedModel

from pipeline.adapters.anatomy import layers_of
from pipeline.adapters.insert import chosen_layers
from pipeline.adapters.layouts import LAYOUTS, Place
from pipeline.config import Kind, MethodConfig
from pipeline.errors import BundleError
from pipeline.interop.files import fault


@dataclass(frozen=True, kw_only=True, slots=True)
class Stack:
    """Layers that are built alike, and what the library calls its adapters in them."""

    layers: str
    """The list of them, by its path in the bare model."""
    places: Mapping[Place, str]
    """Where its adapters are, by path in a layer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Naming:
    """The library's names in one model family, and those of its heads that have a like one here."""

    model_class: str
    """Its model with heads that are added and taken off."""
    prefix: str
    """What that model calls the bare model."""
    stacks: tuple[Stack, ...]
    heads: tuple[Kind, ...] = ("classification", "tagging", "multiple_choice", "extractive_qa")
    """Kinds of tasks whose heads read the same there and here."""
    pooling: Literal["first", "last"] = "first"
    """Which token's vector a head on a text reads."""


_IN_OUTPUT: Mapping[Place, str] = {"attention": "attention.output", "feed_forward": "output"}
_IN_LAYER: Mapping[Place, str] = {"attention": "attention_adapters", "feed_forward": "output_adapters"}
_BERT = (Stack(layers="encoder.layer", places=_IN_OUTPUT),)
_BART = (Stack(layers="encoder.layers", places=_IN_LAYER), Stack(layers="decoder.layers", places=_IN_LAYER))
_T5 = (
    Stack(layers="encoder.block", places={"attention": "layer.0", "feed_forward": "layer.1"}),
    Stack(layers="decoder.block", places={"attention": "layer.0", "feed_forward": "layer.2"}),
)


def _encoder(model_class: str, prefix: str, stacks: tuple[Stack, ...] = _BERT) -> Naming:
    return Naming(model_class=model_class, prefix=prefix, stacks=stacks)


def _decoder(model_class: str, prefix: str, layers: str) -> Naming:
    stacks = (Stack(layers=layers, places=_IN_LAYER),)
    heads: tuple[Kind, ...] = ("classification", "tagging", "extractive_qa")
    return Naming(model_class=model_class, prefix=prefix, stacks=stacks, heads=heads, pooling="last")


def _encoder_decoder(model_class: str, prefix: str, stacks: tuple[Stack, ...], *heads: Kind) -> Naming:
    return Naming(model_class=model_class, prefix=prefix, stacks=stacks, heads=heads, pooling="last")


NAMINGS: Mapping[str, Naming] = {
    "bert": _encoder("BertAdapterModel", "bert."),
    "roberta": _encoder("RobertaAdapterModel", "roberta."),
    "xlm-roberta": _encoder("XLMRobertaAdapterModel", "roberta."),
    "electra": _encoder("ElectraAdapterModel", "electra."),
    "deberta-v2": _encoder("DebertaV2AdapterModel", "deberta."),
    "distilbert": _encoder(
        "DistilBertAdapterModel", "distilbert.", (Stack(layers="transformer.layer", places=_IN_LAYER),)
    ),
    "bart": _encoder_decoder("BartAdapterModel", "model.", _BART, "classification", "extractive_qa"),
    # The last token of mBART's texts is the language, and its heads read the one before.
    "mbart": _encoder_decoder("MBartAdapterModel", "model.", _BART, "extractive_qa"),
    # Of what T5's heads read, all but classification's is scaled by H ** -0.5 there.
    "t5": _encoder_decoder("T5AdapterModel", "transformer.", _T5, "classification"),
    "mt5": _encoder_decoder("MT5AdapterModel", "transformer.", _T5, "classification"),
    "gpt2": _decoder("GPT2AdapterModel", "transformer.", "h"),
    "llama": _decoder("LlamaAdapterModel", "model.", "layers"),
    "mistral": _decoder("MistralAdapterModel", "model.", "layers"),
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
    def of(cls, base: PreTrainedModel) -> "Shape":
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
    stacks = NAMINGS[shape.model_type].stacks
    places = [(stack, i) for stack, count in zip(stacks, shape.stacks, strict=True) for i in range(count)]
    for number in chosen_layers(method.layers, shape.num_layers):
        stack, i = places[number]
        for place in LAYOUTS[method.name].places:
            for ours, theirs in _LEAVES.items():
                if ours != "scaling" or method.scaling == "learned":
                    path = f"{stack.layers}.{i}.{stack.places[place]}.adapters.{name}.{theirs}"
                    names[f"layers.{number}.{place}.{ours}"] = path
    return names

"""What a Transformer family is made of, and where its sub-blocks are; a new family is a new entry.

Every sub-block is told by three of its modules: the one that puts out h, the one that is given x, the residual,
and the LayerNorm. Post-norm families (BERT) compute LN(h + x); in pre-norm families (GPT-2, T5) the sub-block reads
LN(x), and nothing follows h + x.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from torch import nn

from pipeline.config import METHOD_TRAITS, MethodConfig
from pipeline.core.adapters.layouts import Place
from pipeline.errors import CheckpointError, fault

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Kind = Literal["encoder", "decoder", "encoder-decoder"]
Shape = Literal["alone", "pair", "biased"]
"""How a module puts out a hidden state: as it is; first of two; or before T5's position bias and something else."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SubBlock:
    """One sub-block of a layer, by paths of modules in the layer."""

    module: str
    """What puts out h, alone or first in a tuple, before the residual is added: an adapter wraps it."""
    source: str
    """What is given the residual x as its first argument."""
    norm: str
    """The LayerNorm of the sub-block."""
    post_norm: bool = True
    """Whether the norm reads h + x; else x."""
    shape: Shape = "alone"
    """Of what `module` puts out."""
    idle: tuple[str, ...] = ()
    """What computes nothing but what `module` is given: it need not be computed where h is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stack:
    """Layers that are built alike."""

    layers: str
    """The list of them, by its path in the body (`body_of`); `*` is every member of a list."""
    attention: SubBlock
    feed_forward: SubBlock
    shape: Shape = "alone"
    """Of what a layer puts out."""
    enterable: bool = True
    """Whether a model can be computed from a layer on, without those below it: each has weights of its own."""
    in_turn: bool = True
    """Whether a layer puts out its feed-forward sub-block's sum alone, as where this one follows the attention."""

    def sub_block(self, place: Place) -> SubBlock:
        return self.attention if place == "attention" else self.feed_forward


@dataclass(frozen=True, kw_only=True, slots=True)
class Anatomy:
    """What a family is made of."""

    kind: Kind
    stacks: tuple[Stack, ...]
    """In the order in which they are computed."""
    lora: tuple[str, ...] = ()
    """Where LoRA sits: the query and value projections, by the ends of their paths. Empty: LoRA is refused."""
    shared: str = ""
    """A config value by which LoRA's projections read what all rows of a batch have in common, too, so that each such
    adapter has batches of its own."""
    positions: bool = False
    """Whether positions are counted from the left edge unless `position_ids` say where each row's text begins."""
    behind_padding: bool = False
    """Whether positions are counted from behind the padding id, so that a text may be shorter by that many."""
    starts_with_padding: bool = False
    """Where decoding begins if config.json does not say: with the padding, or else with the text's last token (mBART:
    the language's code)."""
    requires: tuple[str, object] | None = None
    """A config value of the variant that is described, where the family has another that is built otherwise."""

    @property
    def input_norm(self) -> Literal["none", "rms"]:
        """What `method.input_norm=auto` means here.

        Behind a norm, what a bottleneck reads has a standard deviation near 1. Nothing normalises the sums of pre-norm
        layers, and they grow: in Gemma 3 270M from 31 after the first layer to 1,492 after the last. The steps of AdamW
        are as large whatever is read, so that there the first of them drive the bottleneck out of its range.
        """
        blocks = (block for stack in self.stacks for block in (stack.attention, stack.feed_forward))
        return "none" if all(block.post_norm for block in blocks) else "rms"


def _pre(module: str, norm: str, shape: Shape = "alone", *idle: str) -> SubBlock:
    """A pre-norm sub-block: its norm is what is given x."""
    return SubBlock(module=module, source=norm, norm=norm, post_norm=False, shape=shape, idle=idle)


def _one(kind: Kind, stack: Stack, *lora: str, **more: object) -> Anatomy:
    return Anatomy(kind=kind, stacks=(stack,), lora=lora, **more)  # type: ignore[arg-type]


def _two(encoder: Stack, decoder: Stack, *lora: str, **more: object) -> Anatomy:
    return Anatomy(kind="encoder-decoder", stacks=(encoder, decoder), lora=lora, **more)  # type: ignore[arg-type]


_BERT_LAYER = Stack(
    layers="encoder.layer",
    attention=SubBlock(
        module="attention.output.dense",
        source="attention",
        norm="attention.output.LayerNorm",
        idle=("attention.self",),
    ),
    feed_forward=SubBlock(module="output.dense", source="intermediate", norm="output.LayerNorm"),
)
_DEBERTA_LAYER = dataclasses.replace(_BERT_LAYER, shape="pair")
_ALBERT_LAYER = Stack(  # the layers share weights, and so they share adapters
    layers="encoder.albert_layer_groups.*.albert_layers",
    attention=SubBlock(module="attention.dense", source="attention", norm="attention.LayerNorm"),
    feed_forward=SubBlock(module="ffn_output", source="ffn", norm="full_layer_layer_norm"),
    enterable=False,
)
_DISTILBERT_LAYER = Stack(
    layers="transformer.layer",
    attention=SubBlock(module="attention", source="attention", norm="sa_layer_norm", shape="pair"),
    feed_forward=SubBlock(module="ffn", source="ffn", norm="output_layer_norm"),
)
_MODERNBERT_LAYER = Stack(
    layers="layers", attention=_pre("attn", "attn_norm", "pair"), feed_forward=_pre("mlp", "mlp_norm")
)
_GPT2_LAYER = Stack(layers="h", attention=_pre("attn", "ln_1", "pair"), feed_forward=_pre("mlp", "ln_2"))
_NEOX_LAYER = Stack(
    layers="layers",
    attention=_pre("attention", "input_layernorm", "pair"),
    feed_forward=_pre("mlp", "post_attention_layernorm"),
    in_turn=False,
)
_LLAMA_LAYER = Stack(
    layers="layers",
    attention=_pre("self_attn", "input_layernorm", "pair"),
    feed_forward=_pre("mlp", "post_attention_layernorm"),
)
_GEMMA3_LAYER = Stack(  # h leaves through a second norm
    layers="layers",
    attention=_pre("post_attention_layernorm", "input_layernorm", "alone", "self_attn"),
    feed_forward=_pre("post_feedforward_layernorm", "pre_feedforward_layernorm"),
)


def _bart_layers(stack: str) -> Stack:
    return Stack(
        layers=f"{stack}.layers",
        attention=SubBlock(module="self_attn", source="self_attn", norm="self_attn_layer_norm", shape="pair"),
        feed_forward=SubBlock(module="fc2", source="fc1", norm="final_layer_norm"),
    )


def _mbart_layers(stack: str) -> Stack:
    return Stack(
        layers=f"{stack}.layers",
        attention=_pre("self_attn", "self_attn_layer_norm", "pair"),
        feed_forward=_pre("fc2", "final_layer_norm"),
    )


def _t5_layers(stack: str, feed_forward: str) -> Stack:
    return Stack(
        layers=f"{stack}.block",
        attention=_pre("layer.0.SelfAttention", "layer.0.layer_norm", "biased"),
        feed_forward=_pre(f"{feed_forward}.DenseReluDense", f"{feed_forward}.layer_norm"),
        shape="biased",
    )


_T5 = _two(_t5_layers("encoder", "layer.1"), _t5_layers("decoder", "layer.2"), "q", "v", starts_with_padding=True)
_LLAMA = _one("decoder", _LLAMA_LAYER, "q_proj", "v_proj")
_ROBERTA = _one("encoder", _BERT_LAYER, "query", "value", behind_padding=True)

ANATOMIES: Mapping[str, Anatomy] = {
    "bert": _one("encoder", _BERT_LAYER, "query", "value", positions=True),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "electra": _one("encoder", _BERT_LAYER, "query", "value", positions=True),
    "deberta-v2": _one("encoder", _DEBERTA_LAYER, "query_proj", "value_proj", positions=True, shared="share_att_key"),
    "albert": _one("encoder", _ALBERT_LAYER, "query", "value", positions=True),
    "distilbert": _one("encoder", _DISTILBERT_LAYER, "q_lin", "v_lin", positions=True),
    "modernbert": _one("encoder", _MODERNBERT_LAYER, "Wqkv"),
    "t5": _T5,
    "mt5": _T5,
    "bart": _two(_bart_layers("encoder"), _bart_layers("decoder"), "q_proj", "v_proj"),
    "mbart": _two(_mbart_layers("encoder"), _mbart_layers("decoder"), "q_proj", "v_proj"),
    "gpt2": _one("decoder", _GPT2_LAYER, "c_attn", positions=True),
    "gpt_neox": _one("decoder", _NEOX_LAYER, "query_key_value"),
    "opt": _one("decoder", _mbart_layers("decoder"), "q_proj", "v_proj", requires=("do_layer_norm_before", True)),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen3": _LLAMA,
    "gemma3_text": _one("decoder", _GEMMA3_LAYER, "q_proj", "v_proj"),
}
"""`config.model_type` -> anatomy."""


def anatomy_of(config: object) -> Anatomy:
    """Look up the family of a model's config.

    Raises:
        CheckpointError: The family has no entry, or is there in another variant.
    """
    family = getattr(config, "model_type", "")
    if family not in ANATOMIES:
        rule = "is a model family that adapters cannot be placed in yet"
        remedy = (
            f"Use one of {', '.join(ANATOMIES)}, or add an entry to pipeline/core/adapters/anatomy.py that says where "
        )
        remedy += "its layers and their attention and feed-forward sub-blocks are"
        raise CheckpointError(fault("checkpoint", family, rule, remedy))
    anatomy = ANATOMIES[family]
    if anatomy.requires is not None:
        key, value = anatomy.requires
        if getattr(config, key) != value:
            rule = f"has {key}={getattr(config, key)} in its config.json; the known {family} has {value}"
            remedy = "Use another checkpoint, or add an entry for this variant to pipeline/core/adapters/anatomy.py"
            raise CheckpointError(fault("checkpoint", family, rule, remedy))
    return anatomy


def num_positions(config: Any) -> int | None:
    """Count the positions that a model has for tokens; None where there is any number, as in T5, whose are relative."""
    positions = getattr(config, "max_position_embeddings", None)
    offset = config.pad_token_id + 1 if anatomy_of(config).behind_padding else 0
    return positions - offset if positions else None


def settled(method: MethodConfig, family: str) -> MethodConfig:
    """The method with what its `auto` means in a family, a key of ANATOMIES: what a bundle is to say."""
    if method.input_norm != "auto" or "input_norm" not in METHOD_TRAITS[method.name].settings:
        return method
    return dataclasses.replace(method, input_norm=ANATOMIES[family].input_norm)


def body_of(base: "PreTrainedModel") -> "PreTrainedModel":
    """The Transformer itself: the base without its language-model head, if it has one."""
    return cast("PreTrainedModel", base.base_model)


def layers_of(base: "PreTrainedModel") -> list[tuple[nn.Module, Stack]]:
    """Every layer and how it is built, in the order of computation: what layer numbers count."""
    anatomy, body = anatomy_of(base.config), body_of(base)
    return [(layer, stack) for stack in anatomy.stacks for layer in _members(body, stack.layers.split("."))]


def _members(module: nn.Module, path: list[str]) -> Iterator[nn.Module]:
    """The members of the lists that a path leads to."""
    for i, name in enumerate(path):
        if name == "*":
            for child in module.children():
                yield from _members(child, path[i + 1 :])
            return
        module = module.get_submodule(name)
    yield from module.children()

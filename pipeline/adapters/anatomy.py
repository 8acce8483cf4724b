"""Where the sub-blocks of each Transformer family are; a new family is a new entry.

Paths are relative to the base model (`AutoModel`), those of a sub-block to its layer. Two forms occur:

* `closing`: the module adds the residual and normalises, `forward(hidden, residual)`, from its own `dense`,
  `dropout` and `LayerNorm` (BertSelfOutput, BertOutput and their like);
* `open`: the module returns h, alone or first in a tuple; the layer adds the residual and normalises afterwards.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pipeline.adapters.layouts import Place
from pipeline.errors import CheckpointError, Fault


@dataclass(frozen=True, kw_only=True, slots=True)
class SubBlock:
    """One sub-block of a layer: the module that an adapter wraps."""

    module: str
    form: Literal["closing", "open"]
    norm: str
    """LayerNorm after the residual."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Anatomy:
    """Where the layers of a family are, and where the sub-blocks in a layer."""

    layers: str
    sub_blocks: Mapping[Place, SubBlock]


_BERT = Anatomy(
    layers="encoder.layer",
    sub_blocks={
        "attention": SubBlock(module="attention.output", form="closing", norm="attention.output.LayerNorm"),
        "feed_forward": SubBlock(module="output", form="closing", norm="output.LayerNorm"),
    },
)
_DISTILBERT = Anatomy(
    layers="transformer.layer",
    sub_blocks={
        "attention": SubBlock(module="attention", form="open", norm="sa_layer_norm"),
        "feed_forward": SubBlock(module="ffn", form="open", norm="output_layer_norm"),
    },
)

ANATOMIES: Mapping[str, Anatomy] = {
    "bert": _BERT,
    "roberta": _BERT,
    "electra": _BERT,
    "distilbert": _DISTILBERT,
}
"""`config.model_type` -> anatomy."""


def anatomy_of(model_type: str) -> Anatomy:
    """Look up the family.

    Raises:
        CheckpointError: The family has no entry.
    """
    if model_type not in ANATOMIES:
        fault = Fault(
            where="checkpoint",
            value=model_type,
            rule="is a model family that adapters cannot be placed in yet",
            remedy=f"Use one of {', '.join(ANATOMIES)}, or add an entry to pipeline/adapters/anatomy.py",
        )
        raise CheckpointError(fault)
    return ANATOMIES[model_type]

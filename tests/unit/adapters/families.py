"""Tiny random models of every family in the table of anatomies."""

from collections.abc import Callable, Mapping

import torch
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    PreTrainedModel,
    RobertaConfig,
    RobertaModel,
)

_SIZES = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
}
_DISTIL = {
    "vocab_size": 60,
    "dim": 16,
    "n_layers": 3,
    "n_heads": 2,
    "hidden_dim": 32,
    "max_position_embeddings": 40,
}

FAMILIES: Mapping[str, Callable[[], PreTrainedModel]] = {
    "bert": lambda: BertModel(BertConfig(**_SIZES), add_pooling_layer=False),
    "roberta": lambda: RobertaModel(RobertaConfig(**_SIZES, pad_token_id=1), add_pooling_layer=False),
    "electra": lambda: ElectraModel(ElectraConfig(**_SIZES, embedding_size=16)),
    "distilbert": lambda: DistilBertModel(DistilBertConfig(**_DISTIL)),
}


def make(family: str) -> PreTrainedModel:
    """A frozen model in eval mode, the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = FAMILIES[family]()
    return model.requires_grad_(False).eval()


def inputs() -> dict[str, torch.Tensor]:
    """Two sequences, the second one padded; (2, 7)."""
    ids = torch.arange(5, 19).reshape(2, 7)
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    return {"input_ids": ids, "attention_mask": mask}

"""Tiny random models of every family in the table of anatomies."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import transformers as tf
from transformers import PreTrainedModel

_SIZES = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
}
_IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_DISTIL = {
    "vocab_size": 60,
    "dim": 16,
    "n_layers": 3,
    "n_heads": 2,
    "hidden_dim": 32,
    "max_position_embeddings": 40,
}
_T5 = {
    "vocab_size": 60,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 2,
    "num_heads": 2,
    "decoder_start_token_id": 0,
}
_BART = {
    "vocab_size": 60,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 40,
    "decoder_start_token_id": 2,
}
_GROUPED = {"num_key_value_heads": 1, "head_dim": 8}

CONFIGS: Mapping[str, Callable[[], tf.PretrainedConfig]] = {
    "bert": lambda: tf.BertConfig(**_SIZES),
    "roberta": lambda: tf.RobertaConfig(**_SIZES, pad_token_id=1),
    "xlm-roberta": lambda: tf.XLMRobertaConfig(**_SIZES, pad_token_id=1),
    "electra": lambda: tf.ElectraConfig(**_SIZES, embedding_size=8),
    "deberta-v2": lambda: tf.DebertaV2Config(
        **_SIZES, relative_attention=True, pos_att_type=["p2c", "c2p"], position_biased_input=False
    ),
    "albert": lambda: tf.AlbertConfig(**_SIZES, embedding_size=8, num_hidden_groups=1),
    "distilbert": lambda: tf.DistilBertConfig(**_DISTIL),
    "modernbert": lambda: tf.ModernBertConfig(**_SIZES, **_IDS, cls_token_id=1, sep_token_id=2),
    "t5": lambda: tf.T5Config(**_T5),
    "mt5": lambda: tf.MT5Config(**_T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "bart": lambda: tf.BartConfig(**_BART),
    "mbart": lambda: tf.MBartConfig(**{**_BART, "decoder_start_token_id": None}),
    "gpt2": lambda: tf.GPT2Config(vocab_size=60, n_embd=16, n_layer=3, n_head=2, n_positions=40, **_IDS),
    "gpt_neox": lambda: tf.GPTNeoXConfig(**_SIZES, **_IDS),
    "opt": lambda: tf.OPTConfig(
        **{k: v for k, v in _SIZES.items() if k != "intermediate_size"}, ffn_dim=32, word_embed_proj_dim=16, **_IDS
    ),
    "llama": lambda: tf.LlamaConfig(**_SIZES, **_GROUPED, **_IDS),
    "mistral": lambda: tf.MistralConfig(**_SIZES, **_GROUPED, **_IDS),
    "qwen3": lambda: tf.Qwen3Config(**_SIZES, **_GROUPED, **_IDS),
    "gemma3_text": lambda: tf.Gemma3TextConfig(**_SIZES, **_GROUPED, **_IDS),
}
"""One for every family."""


def make(family: str, model_class: Any = tf.AutoModel, **changes: object) -> PreTrainedModel:
    """A frozen model in eval mode, the same each time; its weights are large enough to tell differences."""
    config = CONFIGS[family]()
    for key, value in changes.items():
        setattr(config, key, value)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = model_class.from_config(config)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.2)
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model.requires_grad_(False).eval()


def inputs(family: str = "bert") -> dict[str, torch.Tensor]:
    """Two sequences, the second one padded on the right; (2, 7)."""
    ids = torch.arange(5, 19).reshape(2, 7)
    ids[1, 4:] = 1 if family in ("roberta", "xlm-roberta") else 0  # they count positions by it
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    return {"input_ids": ids, "attention_mask": mask}

"""Tiny random models of every family in the table of anatomies, and whole checkpoints of them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers as tf
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedModel

from pipeline.core.adapters.anatomy import ANATOMIES

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


WIDTHS: Mapping[str, int] = {"albert": 128, "electra": 32, "gpt_neox": 512, "deberta-v2": 48, "mt5": 48}
"""Hidden size where 64 is not a multiple of the heads, or leaves none of their size; else 64, or 48 for 12 heads."""
LAYERS: Mapping[str, int] = {"gemma3_text": 6, "modernbert": 3}
"""Where the kind of attention changes from layer to layer, one of each; else 2."""
_TEXTS = {
    "$A </s>": ("t5", "mt5", "mbart"),
    "<s> $A": ("opt", "llama", "mistral", "gemma3_text"),
    "$A": ("gpt2", "gpt_neox", "qwen3"),
}
TEXTS: Mapping[str, str] = {family: text for text, families in _TEXTS.items() for family in families}
"""What the family's tokenizer makes of a text; else `<s> $A </s>`."""


def default_config(family: str, vocab_size: int) -> tf.PretrainedConfig:
    """The default of the family's class, made small.

    Heads, norms, scales, tied embeddings, windows, positions and special tokens stay as they are; ids behind the small
    vocabulary become its last ones.
    """
    own = tf.AutoConfig.for_model(family).to_dict()
    heads = tf.AutoConfig.for_model(family).num_attention_heads
    width = WIDTHS.get(family, 48 if heads == 12 else 64)
    sizes = {"vocab_size": vocab_size, "embedding_size": 16}
    for names, size in {
        "hidden_size d_model n_embd dim word_embed_proj_dim": width,
        "intermediate_size d_ff hidden_dim encoder_ffn_dim decoder_ffn_dim ffn_dim n_inner": 2 * width,
        "num_hidden_layers num_layers num_decoder_layers n_layers n_layer encoder_layers decoder_layers": (
            LAYERS.get(family, 2)
        ),
    }.items():
        sizes |= dict.fromkeys(names.split(), size)
    ids = {key: value for key, value in own.items() if key.endswith("_token_id") and (value or 0) >= vocab_size}
    last = sorted(set(ids.values()), reverse=True)
    sizes |= {key: vocab_size - 1 - last.index(value) for key, value in ids.items()}
    return tf.AutoConfig.for_model(family, **{key: value for key, value in sizes.items() if key in own})


def default_checkpoint(family: str, words: Sequence[str], folder: Path) -> None:
    """Save a model of `default_config` with random weights, and a tokenizer of whole words with its special tokens."""
    vocab_size = len(words) + 8
    config = default_config(family, vocab_size)
    names = {"<pad>": config.pad_token_id, "<s>": getattr(config, "bos_token_id", None), "</s>": config.eos_token_id}
    vocabulary: dict[str, int] = {}
    for token, number in names.items():
        if number is not None and number not in vocabulary.values():  # GPT-2 has one for both ends
            vocabulary[token] = number
    free = (number for number in range(vocab_size) if number not in vocabulary.values())
    text = TEXTS.get(family, "<s> $A </s>")
    missing = [token for token in ("<s>", "</s>") if token in text.split() and token not in vocabulary]  # [CLS], [SEP]
    for token in (*missing, "<unk>", *words, *(f"<extra_{number}>" for number in range(8))):
        if len(vocabulary) < vocab_size:
            vocabulary[token] = next(free)
    inner = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = WhitespaceSplit()
    specials = [(token, vocabulary[token]) for token in ("<s>", "</s>") if token in text.split()]
    inner.post_processor = TemplateProcessing(single=text, special_tokens=specials)
    by_id = {number: token for token, number in vocabulary.items()}
    roles = {"pad_token": config.pad_token_id, "bos_token": names["<s>"], "eos_token": config.eos_token_id}
    given = {role: by_id[number] for role, number in roles.items() if number is not None}
    tf.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", **given).save_pretrained(folder)
    kind = ANATOMIES[family].kind
    classes = {"encoder": tf.AutoModel, "decoder": tf.AutoModelForCausalLM, "encoder-decoder": tf.AutoModelForSeq2SeqLM}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classes[kind].from_config(config).save_pretrained(folder)

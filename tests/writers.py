"""Tiny random models with a language-model head, and tokenizers that treat the ends of a text as the families do."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers as tf
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from pipeline.config import CheckpointConfig, EngineConfig, MethodConfig, TaskConfig
from pipeline.core.adapters.checkpoint import Checkpoint
from pipeline.core.data.rows import Dataset, Row, Split, make_row
from pipeline.core.data.splits import fingerprint
from pipeline.core.engine.trials import Job, Settings
from pipeline.core.tasks.kinds import task_for

PAD, BEGIN, END, UNKNOWN = "<pad>", "<s>", "</s>", "<unk>"
TEMPLATES = {"gpt2": None, "llama": f"{BEGIN} $A", "t5": f"$A {END}", "bart": f"{BEGIN} $A {END}"}
"""Family -> what its tokenizer makes of a text."""
FAMILIES = ("gpt2", "t5", "bart")
"""Families that `make_model` makes."""

PLAIN = TaskConfig(name="say", kind="generation", prompt="{question} :", completion="{target}", max_new_tokens=6)
WORDS = [f"w{i}" for i in range(40)] + [":"]
ROWS = [
    {"question": "w1 w2 w3 w4 w5", "target": "w6 w7"},
    {"question": "w8", "target": "w9"},
    {"question": "w3 w10 w11", "target": "w12 w13 w14 w15"},
]
"""Of PLAIN, in WORDS."""

_NAMES = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")


def make_tokenizer(
    family: str, words: Sequence[str], *, longest: int = 48, ends: bool = True
) -> PreTrainedTokenizerBase:
    """A tokenizer of whole words.

    Args:
        family: Key of TEMPLATES.
        words: Its vocabulary, besides the special tokens.
        longest: Its `model_max_length`.
        ends: Whether it has an end-of-text token.
    """
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys([PAD, BEGIN, END, UNKNOWN, *words]))}
    inner = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    inner.pre_tokenizer = WhitespaceSplit()
    if template := TEMPLATES[family]:
        specials = [(BEGIN, 1), (END, 2)]
        inner.post_processor = TemplateProcessing(single=template, special_tokens=specials)
    special = {"pad_token": PAD, "bos_token": BEGIN, "unk_token": UNKNOWN} | ({"eos_token": END} if ends else {})
    return PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=longest, **special)


def make_model(family: str, vocab_size: int, *, width: int = 32, std: float | None = None) -> PreTrainedModel:
    """A frozen model of two layers in eval mode without dropout, always the same.

    Args:
        family: One of FAMILIES.
        vocab_size: Of its tokenizer.
        width: H.
        std: Of its matrices, where they are not the family's own initial ones.
    """
    ids: dict[str, Any] = {"vocab_size": vocab_size, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config: tf.PretrainedConfig
    if family == "gpt2":
        off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        config = tf.GPT2Config(**ids, **off, n_embd=width, n_layer=2, n_head=2, n_positions=48)
    elif family == "t5":
        sizes = {"d_kv": width // 2, "d_ff": 2 * width, "num_layers": 2, "num_heads": 2}
        config = tf.T5Config(**ids, **sizes, d_model=width, dropout_rate=0.0, decoder_start_token_id=0)
    else:
        both = {"layers": 2, "attention_heads": 2, "ffn_dim": 2 * width}
        sizes = {f"{part}_{name}": value for part in ("encoder", "decoder") for name, value in both.items()}
        config = tf.BartConfig(
            **ids, **sizes, d_model=width, dropout=0.0, max_position_embeddings=48, decoder_start_token_id=2
        )
    model_class: Any = tf.AutoModelForCausalLM if family == "gpt2" else tf.AutoModelForSeq2SeqLM
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: PreTrainedModel = model_class.from_config(config)
        for parameter in model.parameters():
            if std is not None and parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=std)
    model.generation_config = GenerationConfig(**{name: getattr(config, name, None) for name in _NAMES})
    return model.requires_grad_(False).eval()


def make_checkpoint(family: str, *, has_lm_head: bool = True) -> Checkpoint:
    """What is said of such a model; nothing of it is on disk."""
    return Checkpoint(
        config=CheckpointConfig(name="tiny", source="path", location="nowhere"),
        folder=Path("nowhere"),
        sha256="a" * 64,
        architecture=tf.AutoConfig.for_model(family),
        has_lm_head=has_lm_head,
    )


def make_job(
    config: TaskConfig,
    values: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    method: MethodConfig,
    engine: EngineConfig,
    num_held_out: int = 0,
) -> Job:
    """A job on rows of which the last are validation and test; if none are held out, the training rows are."""
    rows: list[Row] = []
    for number, one in enumerate(values, start=1):
        made = next(make_row(one, config, f"rows:{number}"))
        assert isinstance(made, Row), made
        rows.append(made)
    train, held_out = (rows[:-num_held_out], rows[-num_held_out:]) if num_held_out else (rows, rows)
    parts = {"train": train, "validation": held_out, "test": held_out}
    splits: dict[str, Any] = {name: Split(name, tuple(some), fingerprint(some), None) for name, some in parts.items()}
    dataset = Dataset(config.name, "default", "test", **splits, overlap={}, notes=())
    task = task_for(config, dataset)
    return Job(
        name=f"{config.name}/default",
        registered_name=config.name,
        task=task,
        dataset=dataset,
        encoded={name: task.encode(split.rows, tokenizer) for name, split in splits.items()},
        settings=Settings(method=method, engine=engine),
        seed=0,
    )

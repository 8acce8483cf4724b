"""Make the fixtures that `tests/unit/interop` compares with: tiny models, adapters as AdapterHub saves them, outputs.

    .venv-peer/bin/python tests/parity/make_reference.py

Runs with `adapters` and its own transformers, and imports nothing of the pipeline. For each family it writes

    fixtures/<family>/base/            the bare model
    fixtures/<family>/<adapter>/       what `save_adapter` wrote: seq_bn, double_seq_bn, par_bn, partial
    fixtures/<family>/outputs.safetensors   inputs, last hidden states without and with each adapter, logits

and for BERT `fixtures/heads/<head>/` with adapters that have heads of other kinds.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import adapters
import torch
import transformers
from adapters import AutoAdapterModel, DoubleSeqBnConfig, ParBnConfig, SeqBnConfig
from safetensors.torch import save_file
from torch import Tensor

FIXTURES = Path("tests/parity/fixtures")
SIZE, VOCABULARY, PAD, EOS = 16, 60, 1, 2
NAME = "probe"


@dataclass(frozen=True, kw_only=True)
class Family:
    """A model family: its config class, and what makes it tiny."""

    config: str
    values: dict[str, Any]
    activation: str
    """Of the adapter `partial`."""
    head: bool = True
    """Whether `seq_bn` is saved with a classification head."""


_BERT = {
    "hidden_size": SIZE,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 16,
    "initializer_range": 0.3,
    "type_vocab_size": 2,
}
_BART = {
    "d_model": SIZE,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": 16,
    "init_std": 0.3,
}
_T5 = {
    "d_model": SIZE,
    "d_kv": 8,
    "d_ff": 24,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 2,
    "decoder_start_token_id": PAD,
}
_LLAMA = {
    "hidden_size": SIZE,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 16,
    "initializer_range": 0.3,
}
FAMILIES = {
    "bert": Family(config="BertConfig", values=_BERT, activation="gelu"),
    "roberta": Family(config="RobertaConfig", values=_BERT, activation="gelu_new"),
    "xlm-roberta": Family(config="XLMRobertaConfig", values=_BERT, activation="silu"),
    "electra": Family(config="ElectraConfig", values={**_BERT, "embedding_size": 12}, activation="tanh"),
    "deberta-v2": Family(
        config="DebertaV2Config",
        values={**_BERT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 4}
        | {"share_att_key": True, "norm_rel_ebd": "layer_norm"},
        activation="mish",
    ),
    "distilbert": Family(
        config="DistilBertConfig",
        values={"dim": SIZE, "n_layers": 3, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": 16}
        | {"initializer_range": 0.3},
        activation="leakyrelu",
    ),
    "bart": Family(config="BartConfig", values=_BART, activation="relu"),
    "mbart": Family(config="MBartConfig", values=_BART, activation="linear", head=False),
    "t5": Family(config="T5Config", values=_T5, activation="swish"),
    "mt5": Family(config="MT5Config", values=_T5, activation="quick_gelu"),
    "gpt2": Family(
        config="GPT2Config",
        values={"n_embd": SIZE, "n_layer": 3, "n_head": 2, "n_positions": 16, "initializer_range": 0.3},
        activation="sigmoid",
    ),
    "llama": Family(config="LlamaConfig", values=_LLAMA, activation="relu6"),
    "mistral": Family(config="MistralConfig", values=_LLAMA, activation="leaky_relu"),
}


def main() -> None:
    """Write everything anew."""
    shutil.rmtree(FIXTURES, ignore_errors=True)
    for number, (name, family) in enumerate(FAMILIES.items()):
        torch.manual_seed(number)
        make_base(family).save_pretrained(FIXTURES / name / "base")
        make_family(FIXTURES / name, family)
    make_heads(FIXTURES / "bert" / "base", FIXTURES / "heads")


def make_base(family: Family) -> Any:
    """Make a bare model whose weights, norms and biases too, are all random."""
    config = getattr(transformers, family.config)(
        vocab_size=VOCABULARY, pad_token_id=PAD, bos_token_id=0, eos_token_id=EOS, **family.values
    )
    model = transformers.AutoModel.from_config(config)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.2 * torch.randn_like(parameter)
    return model


def make_family(folder: Path, family: Family) -> None:
    """Save the family's adapters and what the model says with them."""
    base = str(folder / "base")
    flexible, bare = AutoAdapterModel.from_pretrained(base), transformers.AutoModel.from_pretrained(base)
    adapters.init(bare)
    decoder = bool(bare.config.is_encoder_decoder)
    inputs = make_inputs(decoder=decoder)
    tensors = {f"inputs.{key}": value for key, value in inputs.items()}
    with torch.no_grad():
        tensors["hidden.none"] = bare.eval()(**inputs).last_hidden_state
    # Keys have the prefix of the base in a model with heads, none in a bare one; both kinds are out there.
    for name, config in adapter_configs(family, decoder=decoder):
        model = flexible if name in ("seq_bn", "partial") else bare
        model.add_adapter(NAME, config=config)
        if name == "seq_bn" and family.head:
            labels = {0: "bad", 1: "fair", 2: "good"}
            model.add_classification_head(NAME, num_labels=3, layers=1, id2label=labels)
        tensors |= {
            f"{key}.{name}": value for key, value in save(model, folder / name, inputs, head=family.head).items()
        }
        model.delete_adapter(NAME)
        if name == "seq_bn" and family.head:
            model.delete_head(NAME)
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "outputs.safetensors")


def adapter_configs(family: Family, *, decoder: bool) -> Iterator[tuple[str, Any]]:
    """The presets, of widths that suit a tiny model, and one that leaves layers out and has two widths."""
    yield "seq_bn", SeqBnConfig(reduction_factor=4)
    yield "double_seq_bn", DoubleSeqBnConfig(reduction_factor=2.5)
    yield "par_bn", ParBnConfig(reduction_factor=2)
    factors: dict[str, float] = {"0": 2, "default": 8}
    yield (
        "partial",
        DoubleSeqBnConfig(
            reduction_factor=factors,
            leave_out=[1, 2] if decoder else [1],
            non_linearity=family.activation,
            scaling="learned",
            init_weights="houlsby",
        ),
    )


def make_inputs(*, decoder: bool) -> dict[str, Tensor]:
    """Three rows of different lengths, each with an end of sequence, padded on the right."""
    inputs = _padded("", [7, 4, 5])
    return inputs | _padded("decoder_", [5, 6, 3]) if decoder else inputs


def _padded(prefix: str, lengths: list[int]) -> dict[str, Tensor]:
    mask = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    ids = torch.randint(3, VOCABULARY, mask.shape)
    ids[range(len(lengths)), [length - 1 for length in lengths]] = EOS
    return {f"{prefix}input_ids": torch.where(mask, ids, PAD), f"{prefix}attention_mask": mask.long()}


def save(model: Any, folder: Path, inputs: dict[str, Tensor], *, head: bool) -> dict[str, Tensor]:
    """Randomise and save the model's adapter, with its head if it has one; return hidden states and logits."""
    model.set_active_adapters(NAME)
    for key, parameter in model.named_parameters():
        if f".{NAME}." in key:
            parameter.data.normal_(0.5 if key.endswith("scaling") else 0.0, 0.3)
    head = head and folder.name == "seq_bn"
    model.save_adapter(str(folder), NAME, with_head=head, use_safetensors=folder.name in ("double_seq_bn", "partial"))
    model.eval()
    bare = model.base_model
    with torch.no_grad():
        outputs = {"hidden": bare(**inputs).last_hidden_state}
        if head:
            # A model with two stacks shifts the text to the right for its decoder by itself.
            outputs["logits"] = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
    return outputs


def make_heads(base: Path, folder: Path) -> None:
    """Save BERT adapters with every other kind of head, and the logits of those that have one vector a token."""
    inputs = make_inputs(decoder=False)
    tensors = {f"inputs.{key}": value for key, value in inputs.items()}
    folder.mkdir()
    for name, model in models_with_heads(str(base)):
        model.save_adapter(str(folder / name), NAME, use_safetensors=name != "tagging")
        with torch.no_grad():
            outputs = model.eval()(**inputs)
        if "logits" in outputs:
            tensors[f"logits.{name}"] = outputs.logits
        else:
            tensors[f"logits.{name}"] = torch.stack([outputs.start_logits, outputs.end_logits], -1)
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "outputs.safetensors")


def models_with_heads(base: str) -> Iterator[tuple[str, Any]]:
    """BERT with one adapter and one head, of a new kind each time."""
    tags = {number: tag for number, tag in enumerate(["O", "B-LOC", "I-LOC", "B-PER", "I-PER"])}
    flexible: dict[str, tuple[str, dict[str, Any]]] = {
        "tagging": ("add_tagging_head", {"num_labels": 5, "id2label": tags}),
        "question_answering": ("add_qa_head", {}),
        "multiple_choice": ("add_multiple_choice_head", {"num_choices": 3, "layers": 1}),
        "two_layers": ("add_classification_head", {"num_labels": 2}),
        "pooler": ("add_classification_head", {"num_labels": 2, "layers": 1, "use_pooler": True}),
        "multilabel": ("add_classification_head", {"num_labels": 2, "layers": 1, "multilabel": True}),
    }
    static = {
        "static_tagging": (transformers.BertForTokenClassification, tags),
        "static_question_answering": (transformers.BertForQuestionAnswering, None),
        "static_classification": (transformers.BertForSequenceClassification, {0: "bad", 1: "good"}),
    }
    torch.manual_seed(100)
    for name, (method, values) in flexible.items():
        model = AutoAdapterModel.from_pretrained(base)
        _add_adapter(model)
        getattr(model, method)(NAME, **values)
        yield name, model
    for name, (cls, labels) in static.items():
        options = {"id2label": labels, "label2id": {v: k for k, v in labels.items()}} if labels else {}
        model = cls.from_pretrained(base, **options)
        adapters.init(model)
        _add_adapter(model)
        yield name, model


def _add_adapter(model: Any) -> None:
    model.add_adapter(NAME, config=SeqBnConfig(reduction_factor=16, leave_out=[0, 1]), set_active=True)
    for key, parameter in model.named_parameters():
        if f".{NAME}." in key:
            parameter.data.normal_(0.0, 0.3)


if __name__ == "__main__":
    main()

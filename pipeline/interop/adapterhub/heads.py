"""Heads in the library's format: `head_config.json` with `pytorch_model_head.bin` or `model_head.safetensors`.

A head of ours is dropout and one linear map, on one vector a text or on every token. The library has that as a
flexible head with `layers=1` and `use_pooler=False`, and as the static head of some classes of transformers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.config import Kind
from pipeline.core.tasks.kinds import TASK_KINDS
from pipeline.errors import BundleError, Fault, fault
from pipeline.interop.adapterhub.names import NAMINGS, Shape
from pipeline.interop.files import is_number, raise_faults, read_json, read_tensors

RECORD = "head_config.json"
WEIGHTS = ("model_head.safetensors", "pytorch_model_head.bin")

_KINDS: Mapping[str, Kind] = {
    "classification": "classification",
    "multilabel_classification": "multi_label",
    "multiple_choice": "multiple_choice",
    "tagging": "tagging",
    "question_answering": "extractive_qa",
}
"""`head_type` -> kind of task; of one output, classification is regression there."""
_READ_ALIKE: Mapping[Kind, Kind] = {"multi_label": "classification", "regression": "classification"}
"""Kinds whose heads read what those of another kind do, here and there."""
_STATIC = {"ForTokenClassification": "tagging", "ForQuestionAnswering": "question_answering"}
"""End of a class's name -> `head_type`, where its head is one linear map on every token."""
_MOST_DROPOUT = 0.9
"""Of `EngineConfig.head_dropout`."""
_REMEDY = "Leave the head out (head=false), or train one anew here"


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignHead:
    """A head between the two."""

    kind: Kind
    state: Mapping[str, Tensor]
    """Of `pipeline.core.tasks.model.LinearHead`: `linear.weight` (outputs, H), `linear.bias` (outputs,)."""
    labels: Sequence[str] = ()
    """What the outputs stand for; of multiple choice, names of the options."""
    dropout: float | None = None
    """Before the linear map. None: what the checkpoint's config says."""


def read_head(folder: Path, shape: Shape) -> ForeignHead | None:
    """Read the head beside an adapter, if there is one.

    Raises:
        BundleError: It is damaged, or is no single linear map; with a fault for each setting that is in the way.
    """
    if not any((folder / name).exists() for name in (RECORD, *WEIGHTS)):
        return None
    file = folder / RECORD
    record = read_json(file)
    weights, tensors = read_tensors(folder, WEIGHTS)
    config = record.get("config")
    if config is None:
        config = _static_config(record)
        if config["head_type"] is None:
            rule = "has a head that cannot be represented: "
            rule += "it reads the pooler, or is of several layers, or of another kind"
            raise BundleError(fault(f"{file}: model_class", record.get("model_class"), rule, _REMEDY))
    elif isinstance(config, dict):  # heads whose names begin alike are saved together
        own = f"heads.{record.get('name')}."
        tensors = {key: tensor for key, tensor in tensors.items() if key.startswith(own)}
    else:
        raise BundleError(fault(f"{file}: config", config, "must be the settings of a head", _REMEDY))
    raise_faults(_config_faults(config, shape, f"{file}: config"))
    stored = {key.rpartition(".")[2]: tensor for key, tensor in tensors.items()}
    raise_faults(_tensor_faults(stored, len(tensors), _num_outputs(config), shape, weights))
    numbers = {} if config["head_type"] == "question_answering" else config.get("label2id") or {}
    bias = stored.get("bias", torch.zeros(len(stored["weight"])))
    return ForeignHead(
        kind=_kind_of(config),
        state={"linear.weight": stored["weight"], "linear.bias": bias},
        labels=sorted(numbers, key=lambda label: int(numbers[label])),
        dropout=config.get("dropout_prob"),
    )


def has_head(kind: Kind, model_type: str) -> bool:
    """Whether the library has a head for the kind that reads the same of the family there and here."""
    return _READ_ALIKE.get(kind, kind) in NAMINGS[model_type].heads


def head_settings(head: ForeignHead) -> dict[str, Any]:
    """The `config` of a flexible head that is one linear map."""
    of = _READ_ALIKE[head.kind] if head.kind not in _KINDS.values() else head.kind
    head_type = next(theirs for theirs, ours in _KINDS.items() if ours == of)
    labels = head.labels or [f"LABEL_{number}" for number in range(len(head.state["linear.bias"]))]
    settings: dict[str, Any] = {
        "activation_function": "tanh",  # between the layers of a deeper head
        "dropout_prob": head.dropout,
        "head_type": head_type,
        "label2id": {label: number for number, label in enumerate(labels)},
        "layers": 1,
    }
    if TASK_KINDS[head.kind].pooled:
        settings["use_pooler"] = False
    if head_type in ("classification", "multilabel_classification"):
        settings["bias"] = True
    settings["num_choices" if head_type == "multiple_choice" else "num_labels"] = len(labels)
    return settings


def head_tensors(head: ForeignHead, name: str) -> dict[str, Tensor]:
    """The head's tensors by the library's names; its dropout is number 0."""
    return {f"heads.{name}.1.{leaf}": head.state[f"linear.{leaf}"] for leaf in ("weight", "bias")}


def _static_config(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the config of a flexible head would be."""
    ends = (kind for end, kind in _STATIC.items() if str(record.get("model_class")).endswith(end))
    return {
        "head_type": next(ends, None),
        "layers": 1,
        "label2id": record.get("label2id"),
        "num_labels": record.get("num_labels"),
    }


def _config_faults(config: Mapping[str, Any], shape: Shape, where: str) -> Iterator[Fault]:
    head_type = str(config.get("head_type"))
    if head_type not in _KINDS:
        rule = f"cannot be represented: it must be one of {', '.join(_KINDS)}"
        yield fault(f"{where}.head_type", head_type, rule, _REMEDY)
        return
    if not has_head(_KINDS[head_type], shape.model_type):
        rule = f"cannot be represented on {shape.model_type}: it reads other states there than here"
        yield fault(f"{where}.head_type", head_type, rule, _REMEDY)
    if config.get("layers") != 1:
        yield fault(f"{where}.layers", config.get("layers"), "cannot be represented: it must be 1", _REMEDY)
    if config.get("use_pooler"):
        rule = "cannot be represented: the head reads the checkpoint's pooler"
        yield fault(f"{where}.use_pooler", config["use_pooler"], rule, _REMEDY)
    dropout = config.get("dropout_prob")
    if dropout is not None and not (is_number(dropout) and 0 <= dropout <= _MOST_DROPOUT):
        yield fault(f"{where}.dropout_prob", dropout, f"must be between 0 and {_MOST_DROPOUT}", _REMEDY)
    number = _num_outputs(config) if head_type != "multiple_choice" else config.get("num_choices")
    least = 1 if head_type == "classification" else 2
    if not isinstance(number, int) or number < least:
        key = "num_choices" if head_type == "multiple_choice" else "num_labels"
        yield fault(f"{where}.{key}", number, f"cannot be represented: it must be {least} or more", _REMEDY)
    elif config.get("label2id") is not None:
        yield from _label_faults(config, number, f"{where}.label2id")


def _label_faults(config: Mapping[str, Any], number: int, where: str) -> Iterator[Fault]:
    numbers = config["label2id"]
    if not isinstance(numbers, dict) or sorted(map(str, numbers.values())) != sorted(map(str, range(number))):
        yield fault(where, numbers, f"must number the labels from 0 to {number - 1}", _REMEDY)
    elif config["head_type"] == "tagging":
        for tag in sorted(numbers):
            if tag != "O" and not (tag[:2] in ("B-", "I-") and len(tag) > 2) and not tag.startswith("LABEL_"):
                yield fault(where, tag, "is no BIO tag: a tag is O, B-<type> or I-<type>", _REMEDY)


def _tensor_faults(
    stored: Mapping[str, Tensor], num_stored: int, num_outputs: int, shape: Shape, file: Path
) -> Iterator[Fault]:
    expected = (num_outputs, shape.hidden_size)
    if set(stored) - {"bias"} != {"weight"} or num_stored != len(stored):
        yield fault(file, ", ".join(stored), "must hold one weight, and a bias or none", _REMEDY)
    elif stored["weight"].shape != expected:
        rule = f"has a weight of shape {tuple(stored['weight'].shape)}, head_config.json means {expected}"
        yield fault(file, "", rule, _REMEDY)
    elif "bias" in stored and stored["bias"].shape != expected[:1]:
        rule = f"has a bias of shape {tuple(stored['bias'].shape)}, head_config.json means {expected[:1]}"
        yield fault(file, "", rule, _REMEDY)


def _kind_of(config: Mapping[str, Any]) -> Kind:
    return "regression" if config.get("num_labels") == 1 else _KINDS[config["head_type"]]


def _num_outputs(config: Mapping[str, Any]) -> Any:
    return 1 if config["head_type"] == "multiple_choice" else config.get("num_labels")

"""What AdapterHub's library wrote and computed (`tests/parity`), for the tests that read it."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.config import CheckpointConfig
from pipeline.core.adapters import insert
from pipeline.core.adapters.checkpoint import Checkpoint, open_checkpoint
from pipeline.interop.adapterhub import Foreign

FIXTURES = Path(__file__).parent / "parity" / "fixtures"
ENCODERS = ("bert", "roberta", "xlm-roberta", "electra", "deberta-v2", "distilbert")
DECODERS = ("gpt2", "llama", "mistral")
FAMILIES = (*ENCODERS, *DECODERS, "bart", "mbart", "t5", "mt5")
ADAPTERS = ("seq_bn", "double_seq_bn", "par_bn", "partial")
TOLERANCE = 5e-6
"""Float32 of hidden states up to 6, in other orders of summation: attention is eager in one program and not in the
other. Most families come out equal to the last bit."""

Base = Callable[[str], PreTrainedModel]
"""Family -> its tiny model, without adapters."""


def checkpoint(family: str) -> Checkpoint:
    found = open_checkpoint(CheckpointConfig(name=family, source="path", location=str(FIXTURES / family / "base")))
    return dataclasses.replace(found, has_lm_head=False)  # the bare model, which puts out hidden states


def reference(folder: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What the model was given, and what came out with AdapterHub."""
    tensors = load_file(FIXTURES / folder / "outputs.safetensors")
    inputs = {key.removeprefix("inputs."): tensor for key, tensor in tensors.items() if key.startswith("inputs.")}
    return inputs, tensors


@torch.no_grad()
def hidden(model: PreTrainedModel, inputs: dict[str, Tensor]) -> Tensor:
    states: Tensor = model(**inputs).last_hidden_state
    return states


def put(foreign: Foreign, model: PreTrainedModel) -> None:
    insert.attach(model, foreign.method, 0)
    insert.load(model, foreign.adapter)


def tensors_of(file: Path) -> dict[str, Tensor]:
    loaded: dict[str, Tensor] = load_file(file) if file.suffix == ".safetensors" else torch.load(file)
    return loaded


def changed(tmp_path: Path, record: str = "adapter_config.json", **values: Any) -> Path:
    """A copy of BERT's seq_bn whose record has other values; keys of the inner config begin with `config__`."""
    folder = tmp_path / "changed"
    shutil.copytree(FIXTURES / "bert" / "seq_bn", folder)
    contents = json.loads((folder / record).read_text("utf-8"))
    for key, value in values.items():
        if key.startswith("config__"):
            contents["config"][key.removeprefix("config__")] = value
        else:
            contents[key] = value
    (folder / record).write_text(json.dumps(contents), "utf-8")
    return folder

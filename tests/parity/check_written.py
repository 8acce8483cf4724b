"""Prove that the library reads what we write: the same hidden states and logits, nothing missing, the same files back.

    .venv/bin/python tests/parity/check_written.py write <folder>
    .venv-peer/bin/python tests/parity/check_written.py check <folder>

The first command attaches adapters of ours, with random weights, to the models of the fixtures, and writes them with
what they compute; the second loads them with `load_adapter`. Exit code 1 where they differ.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

FIXTURES = Path("tests/parity/fixtures")
TOLERANCE = 1e-5
OUTPUTS = "outputs.safetensors"
NUM_OUTPUTS = {"classification": 3, "tagging": 3, "multiple_choice": 1}


def methods(num_layers: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Settings of ours: the three methods, one with layers left out and two widths, and every activation."""
    yield "houlsby", {"name": "houlsby", "width": 5, "activation": "swish"}
    yield "pfeiffer", {"name": "pfeiffer", "width": 3, "dropout": 0.1, "init": "bert"}
    yield "parallel", {"name": "parallel", "width": 7, "scaling": 4.0}
    factors = {"0": 2.0, "default": 4.0}
    layers = [0, num_layers - 1]
    yield "partial", {"name": "houlsby", "reduction_factor": factors, "layers": layers, "scaling": "learned"}


def write(target: Path) -> None:
    """Write every adapter, what was put into its model, and what came out."""
    from typing import get_args

    from transformers import AutoModel

    from pipeline.config import Activation
    from pipeline.interop.adapterhub import NAMINGS

    torch.manual_seed(0)
    for family, naming in NAMINGS.items():
        base = AutoModel.from_pretrained(FIXTURES / family / "base").requires_grad_(False).eval()
        inputs = {
            key.removeprefix("inputs."): value
            for key, value in load_file(FIXTURES / family / OUTPUTS).items()
            if key.startswith("inputs.")
        }
        inputs = {key: _other(value) if key.endswith("ids") else value for key, value in inputs.items()}
        settings = dict(methods(base.config.num_hidden_layers * (2 if base.config.is_encoder_decoder else 1)))
        for activation in get_args(Activation) if family == "bert" else ():
            if activation != "selu":
                settings[activation] = {"name": "pfeiffer", "width": 5, "activation": activation}
        for name, values in settings.items():
            write_one(target / family / name, base, family, values, None, inputs)
        for kind in naming.heads:
            write_one(target / family / kind, base, family, settings["houlsby"], kind, inputs)


def write_one(
    folder: Path, base: Any, family: str, values: dict[str, Any], kind: Any, inputs: dict[str, Tensor]
) -> None:
    """Write one adapter, with a head for a kind of task or without one."""
    from pipeline.config import MethodConfig
    from pipeline.core.adapters import insert
    from pipeline.core.tasks.model import LinearHead, TaskModel
    from pipeline.interop.adapterhub import NAMINGS, Foreign, ForeignHead, Shape
    from pipeline.interop.adapterhub import write as write_adapter

    method, shape, naming = MethodConfig(**values, input_norm="none"), Shape.of(base), NAMINGS[family]
    insert.attach(base, method, 0)
    state = insert.state(base)
    for tensor in state.values():
        tensor.normal_(0.0, 0.3)
    linear = LinearHead(shape.hidden_size, NUM_OUTPUTS.get(kind, 2), dropout=0.0)
    labels = {"classification": "abc", "tagging": "abc", "multiple_choice": "abc"}.get(kind, "")
    head = ForeignHead(kind=kind, state=linear.state_dict(), labels=labels, dropout=0.1) if kind else None
    foreign = Foreign(
        name="ours",
        shape=shape,
        method=method,
        adapter={key: tensor.clone() for key, tensor in state.items()},
        head=head,
        model_class=naming.model_class,
        prefix=naming.prefix,
    )
    model = TaskModel(base, linear, pooling=naming.pooling)
    texts = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        outputs = {"hidden": base(**inputs).last_hidden_state}
        if kind:
            pooled = kind in ("classification", "multiple_choice")
            outputs["logits"] = model.logits(model.pooled(texts) if pooled else model.hidden(texts))
        insert.undo(base)
        outputs["plain"] = base(**inputs).last_hidden_state
    write_adapter(folder, foreign, safetensors=method.name == "parallel")
    tensors = outputs | {f"inputs.{key}": value for key, value in inputs.items()}
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / OUTPUTS)


def check(source: Path) -> bool:
    """Load every adapter with the library, compare, and print the largest differences; whether all are small."""
    from adapters import AutoAdapterModel

    good = True
    print(f"{'family':13}{'adapter':15}{'matters':>8}{'hidden':>10}{'logits':>10}  files")
    for folder in sorted(path.parent for path in source.rglob("adapter_config.json")):
        family = folder.parent.name
        model = AutoAdapterModel.from_pretrained(str(FIXTURES / family / "base"))
        safetensors = (folder / "adapter.safetensors").exists()
        info: dict[str, list[str]] = {}
        name = model.load_adapter(str(folder), set_active=True, use_safetensors=safetensors, loading_info=info)
        model.eval()
        tensors = load_file(folder / OUTPUTS)
        inputs = {key.removeprefix("inputs."): tensors[key] for key in tensors if key.startswith("inputs.")}
        with torch.no_grad():
            hidden = model.base_model(**inputs).last_hidden_state
        real = inputs.get("decoder_attention_mask", inputs["attention_mask"]).bool()
        matters = float((tensors["hidden"] - tensors["plain"])[real].abs().max())
        differences = [float((hidden - tensors["hidden"])[real].abs().max())]
        if "logits" in tensors:
            differences.append(_logits_differ(model, inputs, tensors["logits"]))
        missing = [key for keys in info.values() for key in keys]
        same = same_files(model, folder, name, safetensors)
        good &= max(differences) < TOLERANCE < 0.05 < matters and not missing and same
        words = f"{'the same' if same else 'OTHER'}{f', not loaded: {missing}' if missing else ''}"
        shown = [f"{difference:.1e}" for difference in differences] + ["-"]
        print(f"{family:13}{folder.name:16}{matters:7.2f}{shown[0]:>10}{shown[1]:>10}  {words}")
    return good


def same_files(model: Any, folder: Path, name: str, safetensors: bool) -> bool:
    """Whether the library saves the adapter as it found it, but for the name of the checkpoint."""
    again = folder.with_name(f".{folder.name}-again")
    model.save_adapter(str(again), name, use_safetensors=safetensors)
    same = {file.name for file in again.iterdir()} == {file.name for file in folder.iterdir()} - {OUTPUTS}
    for file in again.iterdir():
        if file.suffix == ".json":
            ours, theirs = (json.loads((one / file.name).read_text("utf-8")) for one in (folder, again))
            same &= {**ours, "model_name": None} == {**theirs, "model_name": None}
        else:
            ours, theirs = (_tensors(one / file.name) for one in (folder, again))
            same &= ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
        file.unlink()
    again.rmdir()
    return same


@torch.no_grad()
def _logits_differ(model: Any, inputs: dict[str, Tensor], expected: Tensor) -> float:
    """The largest difference of the logits, on real tokens where each token has some."""
    mask = inputs["attention_mask"]
    out = model(input_ids=inputs["input_ids"], attention_mask=mask)
    logits = out.logits if "logits" in out else torch.stack([out.start_logits, out.end_logits], -1)
    if logits.shape[:2] == mask.shape:
        logits, expected = logits[mask.bool()], expected[mask.bool()]
    return float((logits.reshape(expected.shape) - expected).abs().max())


def _tensors(file: Path) -> dict[str, Tensor]:
    loaded: dict[str, Tensor] = load_file(file) if file.suffix == ".safetensors" else torch.load(file)
    return loaded


def _other(ids: Tensor) -> Tensor:
    """Other words in the places of the words; 0 to 2 are special."""
    return torch.where(ids > 2, (ids * 7 + 3) % 57 + 3, ids)


if __name__ == "__main__":
    mode, place = sys.argv[1:]
    if mode == "write":
        write(Path(place))
    else:
        sys.exit(0 if check(Path(place)) else 1)

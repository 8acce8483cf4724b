"""Folders as the library's `save_adapter` writes them and its `load_adapter` reads them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.config import MethodConfig
from pipeline.errors import Fault, fault
from pipeline.files import new_folder
from pipeline.interop.adapterhub import heads
from pipeline.interop.adapterhub.heads import ForeignHead, head_settings, head_tensors, read_head
from pipeline.interop.adapterhub.names import NAMINGS, Shape, tensor_names
from pipeline.interop.adapterhub.settings import method_of, settings_of
from pipeline.interop.files import raise_faults, read_json, read_tensors, write_tensors

VERSION = "adapters.1.3.0"
"""Of the library whose format is written."""
RECORD = "adapter_config.json"
_FUSION = "adapter_fusion_config.json"
_WEIGHTS = ("adapter.safetensors", "pytorch_adapter.bin")


@dataclass(frozen=True, kw_only=True, slots=True)
class Foreign:
    """An adapter between the two: our method and names, and what the library's files say beside them."""

    name: str
    """Of the adapter, and of its head."""
    shape: Shape
    method: MethodConfig
    adapter: Mapping[str, Tensor]
    """As `pipeline.core.adapters.insert.state` names them."""
    head: ForeignHead | None = None
    model_class: str
    """Class, of the library's or of transformers, that it was saved from."""
    model_name: str | None = None
    """Hub id or path of the checkpoint that it was trained on."""
    prefix: str = ""
    """What `model_class` calls the bare model; empty where it is one."""


def read(folder: Path, shape: Shape, *, with_head: bool = True) -> Foreign:
    """Read what `save_adapter` wrote: an adapter, for a model of that shape, and its head if there is one.

    Raises:
        BundleError: A file is missing or damaged, the adapter is of another model, or nothing of ours does what
            the files say. One fault for each such setting.
    """
    file = folder / RECORD
    raise_faults(_folder_faults(folder))
    record = read_json(file)
    if "peft_type" in record:
        remedy = "Give a folder that save_adapter of AdapterHub's library wrote"
        raise_faults([fault(f"{file}: peft_type", record["peft_type"], "is an adapter of peft's, not read", remedy)])
    raise_faults(_record_faults(record, shape, file))
    method = method_of(record, shape, str(file))
    ours = {theirs: name for name, theirs in tensor_names(method, shape, record["name"]).items()}
    weights, stored = read_tensors(folder, _WEIGHTS)
    # Keys begin with the name of the bare model, unless they were saved from one.
    prefixes = {key: "" if key in ours else key[: key.find(".") + 1] for key in stored}
    adapter = {ours.get(key.removeprefix(prefixes[key]), key): tensor for key, tensor in stored.items()}
    raise_faults(_tensor_faults(adapter, list(ours.values()), method, shape, weights))
    return Foreign(
        name=record["name"],
        shape=shape,
        method=method,
        adapter=adapter,
        head=read_head(folder, shape) if with_head else None,
        model_class=str(record.get("model_class")),
        model_name=record.get("model_name"),
        prefix=next(iter(prefixes.values())),
    )


def write(folder: Path, foreign: Foreign, *, safetensors: bool = False, card: str = "") -> None:
    """Write an adapter so that `load_adapter` reads it.

    Args:
        folder: Must not be there yet.
        safetensors: Write safetensors, which `load_adapter` reads with `use_safetensors=True`; else pickles of
            tensors, which it reads in any case.
        card: README.md, if there is one.

    Raises:
        BundleError: The library has no setting for what the method does, or the folder is there.
    """
    settings = settings_of(foreign.method, foreign.shape)
    names = tensor_names(foreign.method, foreign.shape, foreign.name)
    tensors = {foreign.prefix + theirs: foreign.adapter[ours] for ours, theirs in names.items()}
    file = 0 if safetensors else 1
    with new_folder(folder) as draft:
        _write_record(draft / RECORD, foreign, foreign.model_class, settings)
        write_tensors(draft / _WEIGHTS[file], tensors)
        if foreign.head is not None:
            flexible = NAMINGS[foreign.shape.model_type].model_class
            _write_record(draft / heads.RECORD, foreign, flexible, head_settings(foreign.head))
            write_tensors(draft / heads.WEIGHTS[file], head_tensors(foreign.head, foreign.name))
        if card:
            (draft / "README.md").write_text(card, "utf-8")


def _write_record(file: Path, foreign: Foreign, model_class: str, config: Mapping[str, Any]) -> None:
    """Write a record as the library does, byte for byte."""
    record = {
        "config": config,
        "hidden_size": foreign.shape.hidden_size,
        "model_class": model_class,
        "model_name": foreign.model_name,
        "model_type": foreign.shape.model_type,
        "name": foreign.name,
        "version": VERSION,
    }
    file.write_text(json.dumps(record, indent=2, sort_keys=True), "utf-8")


def _folder_faults(folder: Path) -> Iterator[Fault]:
    if not (folder / RECORD).exists() and (folder / _FUSION).exists():
        remedy = "Convert the adapters that it fuses, one by one"
        yield fault(folder / _FUSION, "", "cannot be represented: it fuses the outputs of several adapters", remedy)


def _record_faults(record: Mapping[str, Any], shape: Shape, file: Path) -> Iterator[Fault]:
    remedy = "Choose the checkpoint that the adapter was trained on"
    for key, own in (("model_type", shape.model_type), ("hidden_size", shape.hidden_size)):
        if record.get(key) != own:
            yield fault(f"{file}: {key}", record.get(key), f"must be the checkpoint's, which is {own}", remedy)
    if not isinstance(record.get("name"), str):
        yield fault(f"{file}: name", record.get("name"), "must be the adapter's name", "Save the adapter anew")


def _tensor_faults(
    adapter: Mapping[str, Tensor], expected: list[str], method: MethodConfig, shape: Shape, file: Path
) -> Iterator[Fault]:
    """What the tensors are not that the config says they are."""
    remedy = "Choose the checkpoint that the adapter was trained on, or save it anew"
    what = f"a {method.name} adapter in {shape.num_layers} layers of {shape.model_type}"
    for name in adapter:
        if name not in expected:
            yield fault(file, name, f"has no place in {what}", remedy)
    for name in expected:
        if name not in adapter:
            yield fault(file, name, f"is missing of {what}", remedy)
        elif name.endswith("down.weight"):
            width = method.width_in(int(name.split(".")[1]), shape.hidden_size)
            found = tuple(adapter[name].shape)
            if found != (width, shape.hidden_size):
                rule = f"has shape {found}, by config.reduction_factor it is {(width, shape.hidden_size)}"
                yield fault(file, name, rule, remedy)

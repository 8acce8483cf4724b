"""An adapter of another program becomes a bundle, or a bundle an adapter of another program.

source=<what save_adapter wrote> target=<new folder> checkpoint=bert_base job=sentiment
source=<bundle, or task> target=<new folder> [to=peft|edge|onnx]
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import MethodConfig, TaskConfig
from pipeline.config.commands import ConvertConfig
from pipeline.config.strict import build, nearest
from pipeline.core.engine.bundle import Bundle
from pipeline.errors import BundleError, CheckpointError, ConfigError, fault

if TYPE_CHECKING:
    from pipeline.core.adapters.checkpoint import Checkpoint


def kind_of_target(config: ConvertConfig) -> str:
    """What is written: what the command says, or else the other of what `source` holds."""
    if config.to != "auto":
        return config.to
    source = Path(config.source)
    for file, kind in {"bundle.json": "adapterhub", "adapter_config.json": "bundle"}.items():
        if (source / file).is_file():
            return kind
    if not source.exists():
        return "adapterhub"  # of a registered name
    remedy = "Give a bundle, or a folder that save_adapter wrote"
    raise ConfigError(fault("source", config.source, "holds no bundle.json and no adapter_config.json", remedy))


def bundle_at(config: ConvertConfig) -> Bundle:
    """The bundle in the folder `source`; where there is no such folder, that of the champion of this name."""
    from pipeline.core.engine.bundle import read_bundle

    folder = Path(config.source)
    if not folder.exists():
        if config.source.startswith((".", "/", "~")):
            remedy = "Give a bundle, or a task whose champion is meant"
            raise ConfigError(fault("source", config.source, "is no folder", remedy))
        from pipeline.tracking.lookup import fetch
        from pipeline.tracking.store import open_registry

        folder = fetch(open_registry(config.tracking), config.source)
    return read_bundle(folder)


def to_bundle(config: ConvertConfig) -> Iterator[str]:
    """AdapterHub's folder -> bundle."""
    task, domain = task_of(config)
    from pipeline.core.adapters.checkpoint import build_base, load_tensors, load_tokenizer, open_checkpoint, reading_of
    from pipeline.core.engine.bundle import write_bundle
    from pipeline.interop.adapterhub import read
    from pipeline.interop.bundles import bundle_of, shape_of

    checkpoint = open_checkpoint(config.checkpoint)
    foreign = read(Path(config.source), shape_of(checkpoint), with_head=config.head)
    base = build_base(checkpoint, load_tensors(checkpoint))
    with suppress(CheckpointError):  # no tokenizer is needed to convert, but to answer
        checkpoint = replace(checkpoint, reading=reading_of(load_tokenizer(checkpoint), checkpoint.architecture))
    record, tensors = bundle_of(foreign, checkpoint, base, task, domain=domain, seed=config.seed)
    write_bundle(Path(config.target), record, tensors)
    yield described(foreign.method, foreign.shape.num_layers, record.num_trained)
    if foreign.head is None:
        yield "The source has no head: the bundle's is new, with random weights, and wants training."
    else:
        yield f"Head: {foreign.head.kind}{': ' if record.labels else ''}{', '.join(record.labels)}"
    yield f"Bundle for {record.job} on {checkpoint.config.name}: {config.target}"


def to_adapterhub(config: ConvertConfig) -> Iterator[str]:
    """Bundle -> AdapterHub's folder."""
    from pipeline.core.adapters.checkpoint import open_checkpoint
    from pipeline.interop.adapterhub import write
    from pipeline.interop.bundles import foreign_of

    bundle = bundle_at(config)
    checkpoint = open_checkpoint(bundle.record.checkpoint)
    foreign = foreign_of(
        bundle,
        checkpoint,
        name=config.name,
        num_choices=config.num_choices,
        with_head=config.head,
    )
    load = f'model.load_adapter("{Path(config.target).name}", use_safetensors={config.safetensors})'
    lines = ["from adapters import AutoAdapterModel"]
    lines += [f"model = AutoAdapterModel.from_pretrained({_place(checkpoint)!r})", f"model.set_active_adapters({load})"]
    card = card_of(bundle, checkpoint, lines, library="adapter-transformers", tags=["adapter-transformers"])
    write(Path(config.target), foreign, safetensors=config.safetensors, card=card)
    num_trained = sum(tensor.numel() for tensor in foreign.adapter.values())
    yield described(foreign.method, foreign.shape.num_layers, num_trained)
    yield f"Head: {foreign.head.kind}" if foreign.head else "Without a head."
    yield f"Adapter {foreign.name!r} for load_adapter: {config.target}"


def to_peft(config: ConvertConfig) -> Iterator[str]:
    """Bundle of LoRA -> peft's folder, without the head."""
    from pipeline.core.adapters.checkpoint import empty_base, open_checkpoint
    from pipeline.core.engine.assemble import parted
    from pipeline.core.methods import lora

    bundle = bundle_at(config)
    method = bundle.record.method
    if method.name != "lora":
        rule, remedy = f"has the method {method.name}, which peft does not have", "Give a bundle of METHOD=lora"
        raise BundleError(fault(config.source, "", rule, remedy))
    tensors, _ = parted(bundle.tensors())
    checkpoint = open_checkpoint(bundle.record.checkpoint)
    lines = ["from peft import PeftModel", "from transformers import AutoModel"]
    base = f"AutoModel.from_pretrained({_place(checkpoint)!r})"
    lines += [f'model = PeftModel.from_pretrained({base}, "{Path(config.target).name}")  # without the head']
    card = card_of(bundle, checkpoint, lines, library="peft", tags=["lora"])
    lora.save(Path(config.target), empty_base(checkpoint), method, tensors, checkpoint.config.location, card=card)
    yield f"lora, rank {method.width}: {sum(tensor.numel() for tensor in tensors.values())} parameters"
    yield f"For peft, vLLM and LoRAX, without the head: {config.target}"


def to_edge(config: ConvertConfig) -> Iterator[str]:
    """Bundle -> a folder for torch and transformers alone."""
    from pipeline.core.adapters.checkpoint import open_checkpoint
    from pipeline.interop.edge import export

    bundle = bundle_at(config)
    checkpoint = open_checkpoint(bundle.record.checkpoint)
    name = Path(config.target).name
    lines = [f'import sys; sys.path.insert(0, "{name}")', "from transformers import AutoModel"]
    base = f"AutoModel.from_pretrained({_place(checkpoint)!r})"
    lines += [f'from adapter import AdaptedModel; model = AdaptedModel({base}, "{name}")']
    card = card_of(bundle, checkpoint, lines, library="pytorch", tags=["transformers"])
    export(Path(config.target), bundle, checkpoint, card=card)
    yield f"{bundle.record.method.name} and head of {bundle.record.job}: {bundle.record.num_trained} parameters"
    yield f"For torch and transformers: {config.target}"


def to_onnx(config: ConvertConfig) -> Iterator[str]:
    """Bundle and checkpoint -> a folder for onnxruntime and tokenizers alone."""
    from pipeline.core.adapters.checkpoint import open_checkpoint
    from pipeline.interop.onnx_model import TOLERANCE, export

    bundle = bundle_at(config)
    checkpoint = open_checkpoint(bundle.record.checkpoint)
    name = Path(config.target).name
    lines = ["from onnxruntime import InferenceSession", "from tokenizers import Tokenizer"]
    lines += [f'session = InferenceSession("{name}/model.onnx")']
    lines += [f'tokenizer = Tokenizer.from_file("{name}/tokenizer.json")  # task.json says what the logits stand for']
    card = card_of(bundle, checkpoint, lines, library="onnx", tags=["onnx"])
    export(Path(config.target), bundle, checkpoint, card=card)
    yield f"{checkpoint.config.name} with {bundle.record.method.name} and head of {bundle.record.job}, in one model"
    yield f"Tried by onnxruntime: its logits are ours to {TOLERANCE:.0e}."
    yield f"For onnxruntime and tokenizers: {config.target}"


def card_of(
    bundle: Bundle, checkpoint: "Checkpoint", lines: Sequence[str], *, library: str, tags: Sequence[str]
) -> str:
    """README.md of an exported folder: the card of the registered version that the bundle is of, if it is of one.

    Args:
        bundle, checkpoint: What is exported, and what it was trained on.
        lines: Of Python, that load the folder.
        library, tags: As for `pipeline.rules.card.front_matter`.
    """
    from pipeline.core.adapters.stated import stated
    from pipeline.pyfunc import ORIGIN
    from pipeline.rules.card import Origin, front_matter, model_card

    told = stated(checkpoint.folder)
    try:
        origin = build(Origin, json.loads((bundle.folder.parent / ORIGIN).read_text("utf-8")))
    except (OSError, ValueError, ConfigError):  # a bundle from elsewhere, or registered before that was kept
        origin = None
    above = front_matter(bundle, told, library=library, tags=tags)
    return above + model_card(bundle, origin, told, usage="\n".join(lines))


def _place(checkpoint: "Checkpoint") -> str:
    """What a reader elsewhere finds the checkpoint by: its hub id, or a word for its folder."""
    return checkpoint.config.location if checkpoint.config.source == "hub" else f"<folder of {checkpoint.config.name}>"


CONVERSIONS: Mapping[str, Callable[[ConvertConfig], Iterator[str]]] = {
    "bundle": to_bundle,
    "adapterhub": to_adapterhub,
    "peft": to_peft,
    "edge": to_edge,
    "onnx": to_onnx,
}
"""`ConvertConfig.to` -> what is done, yielding what is to be said about it; the place to add a format."""


def described(method: MethodConfig, num_layers: int, num_trained: int) -> str:
    """Method, width, layers and parameters in a line."""
    width = f"width {method.width}"
    if isinstance(method.reduction_factor, Mapping):
        width = "reduction factors " + ", ".join(f"{k}: {v:g}" for k, v in sorted(method.reduction_factor.items()))
    layers = f"all {num_layers} layers" if method.layers == "all" else f"layers {method.layers} of {num_layers}"
    return f"{method.name}, {width}, {method.activation}, {layers}: {num_trained} parameters"


def task_of(config: ConvertConfig) -> tuple[TaskConfig, str]:
    """The task and domain that `job` names; a ConfigError where there is none of that name."""
    name, _, domain = config.job.partition("/")
    if name not in config.task:
        remedy = nearest(name, sorted(config.task)) if name else "Name the task that the adapter is for: job=sentiment"
        raise ConfigError(fault("job", config.job, "is no task", remedy))
    task = config.task[name]
    return task, domain or task.default_domain

"""A bundle as a folder that a device reads with torch and transformers alone: only the adapter travels."""

import json
import shutil
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from pipeline.core.adapters.anatomy import ANATOMIES, body_of, layers_of, settled
from pipeline.core.adapters.checkpoint import Checkpoint, empty_base
from pipeline.core.adapters.insert import chosen_layers
from pipeline.core.adapters.layouts import LAYOUTS, PLACES
from pipeline.core.engine.assemble import parted
from pipeline.core.engine.bundle import Bundle
from pipeline.core.tasks.kinds import restore
from pipeline.errors import BundleError, fault
from pipeline.files import new_folder
from pipeline.interop import edge_runtime


def export(folder: Path, bundle: Bundle, checkpoint: Checkpoint, *, card: str = "") -> None:
    """Write `adapter.json`, `adapter.safetensors` and `adapter.py` (`pipeline.interop.edge_runtime`).

    Args:
        folder: Must not be there yet.
        bundle: With a bottleneck adapter, and a linear head.
        checkpoint: Its weights are not read.
        card: README.md, if there is one.

    Raises:
        BundleError: The bundle is of another kind.
    """
    record, tensors = bundle.record, bundle.tensors()
    _check(bundle, checkpoint, tensors)
    base = empty_base(checkpoint)
    method, layers = record.method, layers_of(base)
    paths = {id(module): path for path, module in body_of(base).named_modules()}
    places, norms = [], {}
    for number in chosen_layers(method.layers, len(layers)):
        layer, stack = layers[number]
        for place in PLACES:
            block, name = stack.sub_block(place), f"layers.{number}.{place}"
            inside = {key: f"{paths[id(layer)]}.{getattr(block, key)}" for key in ("module", "source", "norm")}
            if f"adapter.{name}.norm.weight" in tensors:
                norms[inside["norm"]] = f"{name}.norm"
            if place in LAYOUTS[method.name].places:
                places.append({"name": name, **inside, "norm": inside["norm"] if block.post_norm else None})
    facts = {
        "checkpoint": record.checkpoint.location,
        "checkpoint_sha256": record.checkpoint_sha256,
        "task": record.job,
        "kind": record.task.kind,
        "labels": record.labels,
        "pooling": checkpoint.pooling if restore(record.task).pooled else None,
        "activation": "leaky_relu" if method.activation == "leakyrelu" else method.activation,
        "scaling": method.scaling,
        "input_norm": settled(method, checkpoint.model_type).input_norm,
        "reads": LAYOUTS[method.name].reads,
        "places": places,
        "norms": norms,
    }
    weights, head = parted(tensors)
    weights |= {f"head.{name}": value for name, value in restore(record.task, record.labels).exported(head).items()}
    with new_folder(folder) as draft:
        (draft / "adapter.json").write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
        save_file(weights, draft / "adapter.safetensors")
        shutil.copy(edge_runtime.__file__, draft / "adapter.py")
        if card:
            (draft / "README.md").write_text(card, "utf-8")


def _check(bundle: Bundle, checkpoint: Checkpoint, tensors: dict[str, Tensor]) -> None:
    record = bundle.record
    wrong = ""
    if record.method.name not in LAYOUTS:
        wrong = f"has the method {record.method.name}; only {', '.join(LAYOUTS)} are exported"
    elif ANATOMIES[checkpoint.model_type].kind == "encoder-decoder":
        wrong = f"is for {checkpoint.model_type}, an encoder with a decoder, which is not exported"
    elif "head.linear.weight" not in tensors or "head.log_scale" in tensors:
        wrong = f"has no linear head ({record.task.kind}, {record.task.scoring} scoring)"
    if wrong:
        raise BundleError(fault(bundle.folder, "", wrong, "Serve it with the pipeline, or train one of the other kind"))

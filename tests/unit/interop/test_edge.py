"""A bundle on a device: the exported folder, torch and transformers, and nothing of ours."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModel

from pipeline.config import CheckpointConfig, EngineConfig, MethodConfig, TaskConfig
from pipeline.core.adapters.checkpoint import Checkpoint, build_base, load_tensors, open_checkpoint
from pipeline.core.engine.assemble import fresh_model
from pipeline.core.engine.bundle import read_bundle
from pipeline.core.tasks.kinds import restore
from pipeline.errors import BundleError
from pipeline.interop.edge import export
from tests.bundles import write
from tests.families import inputs, make

LABELS = ["O", "B-PER", "I-PER"]
"""Of any kind."""
KEPT = {"thresholds": [1.0, 0.0, -2.0], "mean": [10.0], "std": [2.0]}
READ = """
import sys
sys.modules["pipeline"] = None
sys.path.insert(0, sys.argv[1])
import torch
from adapter import AdaptedModel
from transformers import AutoModel
model = AdaptedModel(AutoModel.from_pretrained(sys.argv[2]), sys.argv[1])
with torch.no_grad():
    torch.save(model(**torch.load(sys.argv[3])), sys.argv[4])
"""


def bundled(
    folder: Path, family: str, kind: str = "classification", scoring: str = "joint", **method: Any
) -> tuple[Checkpoint, Tensor]:
    """A bundle with random weights in `folder / "bundle"`, its checkpoint, and what the engine's model says."""
    make(family).save_pretrained(folder / "base")
    checkpoint = open_checkpoint(CheckpointConfig(name=family, source="path", location=str(folder / "base")))
    base = build_base(checkpoint, load_tensors(checkpoint))
    task_config = TaskConfig(name="t", kind=kind, scoring=scoring)  # type: ignore[arg-type]
    config = MethodConfig(**{"name": "houlsby", "width": 4, **method})
    task = restore(task_config, LABELS)
    model = fresh_model(base, checkpoint, task, config, EngineConfig(), seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                nn.init.normal_(parameter, std=0.3)
        for name, kept in model.head.named_buffers():
            kept.copy_(torch.tensor(KEPT[name]))
        batch = inputs(family)
        features = model.hidden(batch) if kind == "tagging" else model.pooled(batch)
        logits = model.logits(features) if scoring == "joint" else features
    write(folder / "bundle", model, checkpoint=checkpoint, task=task_config, labels=LABELS, method=config, seed=1)
    return checkpoint, logits


@pytest.mark.parametrize("family", ["bert", "distilbert", "albert", "deberta-v2", "modernbert", "gpt2", "llama"])
@pytest.mark.parametrize("name", ["houlsby", "pfeiffer", "parallel"])
def test_it_says_what_the_engine_says(family: str, name: str, tmp_path: Path) -> None:
    from pipeline.interop.edge_runtime import AdaptedModel

    checkpoint, expected = bundled(tmp_path, family, name=name, scaling="learned", norms=True, layers="top-1")
    export(tmp_path / "edge", read_bundle(tmp_path / "bundle"), checkpoint)
    model = AdaptedModel(AutoModel.from_pretrained(tmp_path / "base"), tmp_path / "edge")
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs(family)), expected, rtol=0, atol=1e-5)
    assert model.labels == LABELS
    assert sorted(path.name for path in (tmp_path / "edge").iterdir()) == [
        "adapter.json",
        "adapter.py",
        "adapter.safetensors",
    ]


def test_tokens_get_logits_of_their_own(tmp_path: Path) -> None:
    from pipeline.interop.edge_runtime import AdaptedModel

    checkpoint, expected = bundled(tmp_path, "bert", kind="tagging")
    export(tmp_path / "edge", read_bundle(tmp_path / "bundle"), checkpoint, card="# A card\n")
    assert (tmp_path / "edge" / "README.md").read_text("utf-8") == "# A card\n"
    model = AdaptedModel(AutoModel.from_pretrained(tmp_path / "base"), tmp_path / "edge")
    are_text = inputs()["attention_mask"].bool()  # positions of padding are of no account
    torch.testing.assert_close(model(**inputs())[are_text], expected[are_text], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["multi_label", "regression"])
def test_what_is_kept_beside_the_weights_is_put_into_them(tmp_path: Path, kind: str) -> None:
    from pipeline.interop.edge_runtime import AdaptedModel

    checkpoint, logits = bundled(tmp_path, "bert", kind=kind)
    export(tmp_path / "edge", read_bundle(tmp_path / "bundle"), checkpoint)
    model = AdaptedModel(AutoModel.from_pretrained(tmp_path / "base"), tmp_path / "edge")
    expected = logits - torch.tensor([1.0, 0.0, -2.0]) if kind == "multi_label" else logits * 2 + 10
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs()), expected, rtol=0, atol=1e-5)


@pytest.mark.commands
def test_another_process_reads_it_without_the_pipeline(tmp_path: Path) -> None:
    checkpoint, expected = bundled(tmp_path, "bert")
    export(tmp_path / "edge", read_bundle(tmp_path / "bundle"), checkpoint)
    torch.save(inputs(), tmp_path / "batch.pt")
    arguments = [str(tmp_path / name) for name in ("edge", "base", "batch.pt", "out.pt")]
    subprocess.run([sys.executable, "-c", READ, *arguments], cwd=tmp_path, check=True, capture_output=True)
    torch.testing.assert_close(torch.load(tmp_path / "out.pt"), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "given", "message"),
    [
        ("bert", {"name": "lora"}, "has the method lora; only houlsby, pfeiffer, parallel are exported"),
        ("t5", {}, "is for t5, an encoder with a decoder"),
        ("bert", {"kind": "multiple_choice", "scoring": "dual"}, r"has no linear head \(multiple_choice, dual scoring"),
    ],
)
def test_what_cannot_be_exported_is_refused_and_leaves_nothing(
    family: str, given: dict[str, Any], message: str, tmp_path: Path
) -> None:
    checkpoint, _ = bundled(tmp_path, family, **given)
    with pytest.raises(BundleError, match=message):
        export(tmp_path / "edge", read_bundle(tmp_path / "bundle"), checkpoint)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "bundle"]

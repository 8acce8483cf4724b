"""A bundle in ONNX: what onnxruntime says alone, what cannot be exported, and that nothing is left of what failed."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from pipeline.config import EngineConfig, MethodConfig, TaskConfig
from pipeline.core.adapters.checkpoint import Checkpoint, build_base, load_checkpoint, load_tensors
from pipeline.core.bank.predictor import Predictor
from pipeline.core.engine.assemble import bundle_model, fresh_model
from pipeline.core.engine.bundle import Bundle, read_bundle
from pipeline.core.tasks.kinds import restore
from pipeline.errors import BundleError, ConfigError
from pipeline.interop import onnx_model
from pipeline.interop.onnx_model import export
from tests import bundles
from tests.families import inputs
from tests.tiny import tiny_checkpoint
from tests.unit.interop.test_edge import bundled

if TYPE_CHECKING:
    from tests.conftest import TinyBert

PAGE = Path(__file__).parents[3] / "docs" / "onnx.md"
TEXTS = ["Two hours I want back.", "a great book", "good", "the plot is dull and the song was awful " * 12]


@pytest.fixture(scope="module")
def made(tiny_bert: TinyBert, tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Bundle]:
    """A tiny checkpoint with its tokenizer, and a bundle on it with random weights."""
    root = tmp_path_factory.mktemp("onnx")
    checkpoint = tiny_checkpoint(*tiny_bert(), root / "base")
    task, method = (
        TaskConfig(name="sentiment", kind="classification", max_length=24),
        MethodConfig(name="houlsby", width=4),
    )
    base = build_base(checkpoint, load_tensors(checkpoint))
    model = fresh_model(base, checkpoint, restore(task, ["bad", "good"]), method, EngineConfig(), 1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.5, generator=torch.Generator().manual_seed(1))
    labels = ["bad", "good"]
    bundles.write(root / "bundle", model, checkpoint=checkpoint, task=task, labels=labels, method=method, seed=1)
    return checkpoint, read_bundle(root / "bundle")


@pytest.mark.commands
def test_another_process_answers_by_the_page_without_torch_transformers_or_the_pipeline(
    made: tuple[Checkpoint, Bundle], tmp_path: Path
) -> None:
    checkpoint, bundle = made
    export(tmp_path / "edge", bundle, checkpoint, card="# A card\n")
    names = {path.name for path in (tmp_path / "edge").iterdir()}
    assert names >= {"model.onnx", "tokenizer.json", "task.json", "README.md"}
    facts = json.loads((tmp_path / "edge" / "task.json").read_text("utf-8"))
    assert (facts["kind"], facts["labels"], facts["max_length"]) == ("classification", ["bad", "good"], 24)
    (code,) = (code for code in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S) if "onnx" in code)
    alone = "import sys\nsys.modules |= dict.fromkeys(['torch', 'transformers', 'pipeline'])\n"
    code = re.sub(r"texts = .*", f"texts = {TEXTS!r}", code) + "\nprint(json.dumps(logits.tolist()))\n"
    done = subprocess.run([sys.executable, "-c", alone + code], cwd=tmp_path, check=True, capture_output=True)
    *said, logits = done.stdout.decode().splitlines()
    answers = Predictor(load_checkpoint(checkpoint)).predict(bundle, TEXTS)
    assert [line.split()[0] for line in said] == [answer["label"] for answer in answers]
    assert answers[-1]["truncated"]
    shares = torch.tensor(json.loads(logits)).softmax(-1)
    expected = torch.tensor([list(answer["scores"].values()) for answer in answers])
    torch.testing.assert_close(shares, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["tagging", "extractive_qa", "multi_label", "regression", "multiple_choice"])
def test_what_is_exported_is_what_the_engine_computes_for_every_kind_with_a_linear_head(
    kind: str, tmp_path: Path
) -> None:
    checkpoint, logits = bundled(tmp_path, "bert", kind="tagging" if kind == "extractive_qa" else kind)
    model, task = bundle_model(
        build_base(checkpoint, load_tensors(checkpoint)), checkpoint, read_bundle(tmp_path / "bundle")
    )
    tokenizer: Any = SimpleNamespace(
        model_input_names=["input_ids", "token_type_ids", "attention_mask"], pad_token_id=0
    )
    graph = onnx_model._Graph(model, task, tokenizer)
    expected = {
        "multi_label": lambda: logits - torch.tensor([1.0, 0.0, -2.0]),
        "regression": lambda: logits * 2 + 10,
    }.get(kind, lambda: logits)()
    torch.testing.assert_close(graph(**inputs()), expected, rtol=0, atol=1e-5)
    made_up = graph.inputs(3, 2)
    assert list(made_up) == ["input_ids", "attention_mask", "token_type_ids"]
    assert made_up["attention_mask"].tolist() == [[1, 1], [1, 0], [1, 0]]


@pytest.mark.parametrize(
    ("family", "given", "message"),
    [
        ("t5", {}, "is for t5, an encoder with a decoder, which torch does not export"),
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


def test_a_bundle_that_writes_is_refused(made: tuple[Checkpoint, Bundle], tmp_path: Path) -> None:
    checkpoint, bundle = made
    task = TaskConfig(name="t", kind="generation")
    writes = dataclasses.replace(bundle, record=dataclasses.replace(bundle.record, task=task))
    with pytest.raises(BundleError, match=r"has no linear head \(generation"):
        export(tmp_path / "edge", writes, checkpoint)


def test_a_library_that_is_missing_is_named_with_how_to_install_it(
    made: tuple[Checkpoint, Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_model, "find_spec", lambda name: None if "script" in name else find_spec(name))
    with pytest.raises(ConfigError, match=r"to: 'onnx' needs onnxscript.* pip install 'adapter-pipeline\[onnx\]'"):
        export(tmp_path / "edge", made[1], made[0])


def test_a_model_that_torch_does_not_export_or_that_answers_otherwise_leaves_nothing(
    made: tuple[Checkpoint, Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise torch.onnx.OnnxExporterError("Step 3 failed\nsee the report\n\n## Exception summary\n\nno such operator")

    monkeypatch.setattr(torch.onnx, "export", fails)
    with pytest.raises(BundleError, match=r"cannot be exported by torch \d.* \(no such operator\)"):
        export(tmp_path / "edge", made[1], made[0])
    written = SimpleNamespace(save=lambda file: file.write_bytes(b"x"))
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: written)
    zeros = SimpleNamespace(run=lambda _, given: [torch.zeros(len(given["input_ids"]), 2).numpy()])
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda *_, **__: zeros)
    with pytest.raises(BundleError, match=r"answers otherwise in ONNX, by up to \d\.\de[+-]\d\d in a logit"):
        export(tmp_path / "edge", made[1], made[0])
    assert list(tmp_path.iterdir()) == []

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from pipeline.config import CheckpointConfig, EngineConfig, MethodConfig, TaskConfig
from pipeline.core.engine.bundle import BundleRecord, read_bundle, write_bundle
from pipeline.errors import BundleError

TENSORS = {"adapter.layers.0.feed_forward.down.weight": torch.randn(4, 8), "head.linear.bias": torch.randn(2)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    record = BundleRecord(
        job="sentiment/films",
        task=TaskConfig(name="sentiment", kind="classification"),
        labels=["negative", "positive"],
        method=MethodConfig(name="pfeiffer", scaling="learned", layers=[0, 1]),
        engine=EngineConfig(),
        checkpoint=CheckpointConfig(name="tiny", source="path", location="somewhere"),
        checkpoint_sha256="a" * 64,
        seed=3,
        epoch=2,
        validation={"accuracy": 0.75},
        data={"train": "0123"},
        num_trained=34,
        num_checkpoint=1000,
    )
    write_bundle(tmp_path / "bundle", record, TENSORS)
    return tmp_path / "bundle"


def test_what_was_written_is_read(folder: Path) -> None:
    bundle = read_bundle(folder)
    assert bundle.record.method == MethodConfig(name="pfeiffer", scaling="learned", layers=[0, 1])
    assert bundle.record.share == 0.034
    assert set(bundle.record.versions) >= {"torch", "transformers"}
    for name, tensor in bundle.tensors().items():
        assert torch.equal(tensor, TENSORS[name])
    assert sorted(file.name for file in folder.iterdir()) == ["bundle.json", "weights.safetensors"]
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]


def test_labels_of_before_are_those_that_rows_have_now_unless_two_would_be_one(folder: Path) -> None:
    record = read_bundle(folder).record
    for labels, found in (
        ([" negative", "positive\t"], ["negative", "positive"]),
        (["positive", "positive ", "1.0"], ["positive", "positive ", "1"]),
    ):
        write_bundle(folder.parent / labels[0], dataclasses.replace(record, labels=labels), TENSORS)
        assert read_bundle(folder.parent / labels[0]).record.labels == found


def test_damaged_weights_are_refused(folder: Path) -> None:
    weights = folder / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(BundleError, match=r"weights.safetensors: does not have the checksum"):
        read_bundle(folder)


def test_another_format_is_refused(folder: Path) -> None:
    file = folder / "bundle.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 99}))
    with pytest.raises(BundleError, match="has format 99, this version reads 1"):
        read_bundle(folder)


def test_a_damaged_record_is_refused(folder: Path) -> None:
    file = folder / "bundle.json"
    values = json.loads(file.read_text())
    del values["labels"]
    file.write_text(json.dumps(values))
    with pytest.raises(BundleError, match=r"bundle.json: is damaged: labels: is missing"):
        read_bundle(folder)
    file.write_text("{")
    with pytest.raises(BundleError, match="not valid JSON"):
        read_bundle(folder)


def test_a_missing_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"nothing.*holds no readable bundle.json"):
        read_bundle(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("method", "reads"),
    [
        ({"name": "houlsby", "width": 4}, "none"),
        ({"name": "houlsby", "width": 4, "input_norm": "rms"}, "rms"),
        ({"name": "lora", "width": 4}, "auto"),
    ],
)
def test_a_bottleneck_of_before_there_was_a_choice_reads_what_it_did(
    folder: Path, method: dict[str, object], reads: str
) -> None:
    file = folder / "bundle.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"method": method}))
    assert read_bundle(folder).record.method.input_norm == reads


@pytest.mark.parametrize("method", [None, [], {}, {"name": []}])
def test_a_record_without_a_method_is_damaged(folder: Path, method: object) -> None:
    file = folder / "bundle.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"method": method}))
    with pytest.raises(BundleError, match="is damaged"):
        read_bundle(folder)

"""An adapter of AdapterHub as a bundle, which answers as it did there, and the bundle as an adapter again."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel

from pipeline.config import CheckpointConfig, MethodConfig, TaskConfig
from pipeline.core.adapters.checkpoint import Checkpoint, build_base, load_tensors, open_checkpoint
from pipeline.core.adapters.insert import adapter_modules
from pipeline.core.engine.assemble import bundle_model
from pipeline.core.engine.bundle import Bundle, read_bundle, write_bundle
from pipeline.errors import BundleError, ConfigError
from pipeline.interop.adapterhub import read, write
from pipeline.interop.bundles import bundle_of, foreign_of, shape_of
from tests.foreign import FIXTURES, tensors_of

OPINION = TaskConfig(name="opinion", kind="classification")
PLACES = TaskConfig(name="places", kind="tagging", labels=["LOC", "PER"])
ANSWERS = TaskConfig(name="answers", kind="extractive_qa")
CHOICE = TaskConfig(name="choice", kind="multiple_choice")
TOPICS = TaskConfig(name="topics", kind="multi_label", labels=["LABEL_0", "LABEL_1"])
STARS = TaskConfig(name="stars", kind="regression")

Convert = Callable[..., Bundle]


def opened(family: str) -> Checkpoint:
    return open_checkpoint(CheckpointConfig(name=family, source="path", location=str(FIXTURES / family / "base")))


def base_of(checkpoint: Checkpoint) -> PreTrainedModel:
    return build_base(checkpoint, load_tensors(checkpoint))


@pytest.fixture
def convert(tmp_path: Path) -> Convert:
    """Make a bundle of a fixture: `convert("bert/seq_bn", OPINION)`."""

    def convert(folder: str, task: TaskConfig, *, with_head: bool = True) -> Bundle:
        family = folder.partition("/")[0].replace("heads", "bert")
        checkpoint = opened(family)
        foreign = read(FIXTURES / folder, shape_of(checkpoint), with_head=with_head)
        base = base_of(checkpoint)
        record, tensors = bundle_of(foreign, checkpoint, base, task, domain="default", seed=0)
        assert not any(True for _ in adapter_modules(base)), "the base is left as it was"
        target = tmp_path / folder.replace("/", "-")
        write_bundle(target, record, tensors)
        return read_bundle(target)

    return convert


@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2", "llama", "bart", "t5"])
def test_a_bundle_says_what_the_foreign_adapter_said(convert: Convert, family: str) -> None:
    bundle = convert(f"{family}/seq_bn", OPINION)
    record = bundle.record
    assert (record.job, record.labels, record.method.name) == (
        "opinion/default",
        ["bad", "fair", "good"],
        "pfeiffer",
    )
    checkpoint = open_checkpoint(record.checkpoint)
    model, task = bundle_model(base_of(checkpoint), checkpoint, bundle)
    assert task.labels == ("bad", "fair", "good")
    tensors = load_file(FIXTURES / family / "outputs.safetensors")
    inputs = {key: tensors[f"inputs.{key}"] for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        logits = model.logits(model.pooled(inputs))
    assert torch.allclose(logits, tensors["logits.seq_bn"], rtol=0, atol=5e-6)


@pytest.mark.parametrize(
    ("folder", "task", "values"),
    [
        ("bert/seq_bn", OPINION, {}),
        ("t5/seq_bn", OPINION, {}),
        ("heads/tagging", PLACES, {}),
        ("heads/multilabel", TOPICS, {}),
        ("heads/question_answering", ANSWERS, {}),
        ("heads/multiple_choice", CHOICE, {"num_choices": 3}),
    ],
)
def test_the_bundle_is_the_same_adapter_again(
    convert: Convert, tmp_path: Path, folder: str, task: TaskConfig, values: dict[str, Any]
) -> None:
    bundle = convert(folder, task)
    foreign = foreign_of(bundle, open_checkpoint(bundle.record.checkpoint), name="probe", **values)
    write(tmp_path / "again", foreign, safetensors=(FIXTURES / folder / "adapter.safetensors").exists())
    original = read(FIXTURES / folder, foreign.shape)
    again = read(tmp_path / "again", foreign.shape)
    assert (again.method, again.name, again.prefix) == (original.method, original.name, original.prefix)
    for file in (FIXTURES / folder).iterdir():
        if file.suffix != ".json":
            tensors, expected = tensors_of(tmp_path / "again" / file.name), tensors_of(file)
            assert tensors.keys() == expected.keys()
            assert all(torch.equal(tensors[key], expected[key]) for key in expected)
    assert again.head is not None
    assert original.head is not None
    assert again.head.labels == original.head.labels


@pytest.mark.parametrize(
    ("task", "kept", "head_type", "bias"),
    [
        (TOPICS, {"thresholds": [1.0, -2.0]}, "multilabel_classification", [-0.5, 2.5]),
        (STARS, {"mean": [10.0], "std": [2.0]}, "classification", [11.0]),
    ],
)
def test_what_is_kept_beside_the_weights_goes_into_the_head_there_and_comes_back(
    convert: Convert, tmp_path: Path, task: TaskConfig, kept: dict[str, list[float]], head_type: str, bias: list[float]
) -> None:
    bare = convert("bert/seq_bn", task, with_head=False)
    tensors = bare.tensors() | {f"head.{name}": torch.tensor(value) for name, value in kept.items()}
    tensors["head.linear.bias"] = torch.full_like(tensors["head.linear.bias"], 0.5)
    checkpoint = open_checkpoint(dataclasses.replace(bare.record.checkpoint, pooling="first"))
    write_bundle(tmp_path / "ours", bare.record, tensors)
    write(tmp_path / "theirs", foreign_of(read_bundle(tmp_path / "ours"), checkpoint))
    assert f'"head_type": "{head_type}"' in (tmp_path / "theirs" / "head_config.json").read_text("utf-8")
    again = read(tmp_path / "theirs", shape_of(checkpoint))
    assert again.head is not None and again.head.kind == task.kind
    assert again.head.state["linear.bias"].tolist() == bias
    record, back = bundle_of(again, checkpoint, base_of(checkpoint), task, domain="default", seed=0)
    assert record.labels == (task.labels or []) and back["head.linear.bias"].tolist() == bias
    (name, plain) = ("thresholds", [0.0, 0.0]) if task is TOPICS else ("std", [1.0])
    assert back[f"head.{name}"].tolist() == plain


def test_tags_keep_the_order_of_the_head(convert: Convert) -> None:
    bundle = convert("heads/tagging", dataclasses.replace(PLACES, labels=["PER", "LOC"]))
    assert bundle.record.labels == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]


def test_an_adapter_without_a_head_gets_a_new_one(convert: Convert) -> None:
    bundle = convert("bert/par_bn", PLACES)
    assert bundle.record.labels == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    assert bundle.tensors()["head.linear.weight"].shape == (5, 16)
    assert bundle.record.checkpoint.pooling == "auto"


def test_a_new_head_needs_labels(convert: Convert) -> None:
    with pytest.raises(ConfigError, match=r"task\.opinion\.labels: are missing: a new head needs them"):
        convert("bert/par_bn", OPINION)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (ANSWERS, "task answers: 'extractive_qa' is another kind than the head, which is for classification"),
        (dataclasses.replace(OPINION, labels=["bad", "good"]), "are not the head's, which are bad, fair, good"),
    ],
)
def test_a_head_for_another_task_is_refused(convert: Convert, task: TaskConfig, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        convert("bert/seq_bn", task)
    assert convert("bert/seq_bn", dataclasses.replace(task, labels=["a", "b"]), with_head=False)


@pytest.mark.parametrize(
    ("pooling", "task", "field"),
    [
        ("mean", OPINION, "checkpoint.pooling"),
        ("first", CHOICE, "num_choices"),
        ("first", dataclasses.replace(CHOICE, scoring="dual"), "task.scoring"),
    ],
)
def test_a_head_that_the_library_lacks_is_refused(convert: Convert, pooling: Any, task: TaskConfig, field: str) -> None:
    bundle = convert("bert/seq_bn", OPINION)
    config = dataclasses.replace(bundle.record.checkpoint, pooling=pooling)
    bundle = dataclasses.replace(bundle, record=dataclasses.replace(bundle.record, task=task, checkpoint=config))
    checkpoint = open_checkpoint(config)
    with pytest.raises(BundleError) as caught:
        foreign_of(bundle, checkpoint)
    (fault,) = caught.value.faults
    assert fault.where.endswith(field)
    assert foreign_of(bundle, checkpoint, with_head=False).head is None


def test_a_method_without_settings_there_is_refused_when_it_is_written(convert: Convert, tmp_path: Path) -> None:
    bundle = convert("bert/seq_bn", OPINION)
    record = dataclasses.replace(bundle.record, method=MethodConfig(name="lora"))
    foreign = foreign_of(dataclasses.replace(bundle, record=record), open_checkpoint(record.checkpoint))
    with pytest.raises(BundleError, match=r"method\.name: 'lora' is no method of AdapterHub's bottlenecks"):
        write(tmp_path / "lora", foreign)


def test_labels_without_names_there_are_those_of_the_task() -> None:
    checkpoint = opened("bert")
    foreign = read(FIXTURES / "bert" / "seq_bn", shape_of(checkpoint))
    assert foreign.head is not None
    unnamed = dataclasses.replace(foreign.head, labels=["LABEL_0", "LABEL_1", "LABEL_2"])
    foreign = dataclasses.replace(foreign, head=unnamed)
    listed = dataclasses.replace(OPINION, labels=["low", "middle", "high"])
    record, _ = bundle_of(foreign, checkpoint, base_of(checkpoint), listed, domain="default", seed=0)
    assert record.labels == ["low", "middle", "high"]
    with pytest.raises(BundleError, match="task opinion: labels: must list the 3 labels of the head"):
        bundle_of(foreign, checkpoint, base_of(checkpoint), OPINION, domain="default", seed=0)

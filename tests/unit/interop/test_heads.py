"""Heads in AdapterHub's folders, as the library wrote them: the same logits, the same files back."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.core.tasks.model import LinearHead, TaskModel
from pipeline.errors import BundleError
from pipeline.interop.adapterhub import NAMINGS, Shape, read, write
from tests.foreign import (
    FAMILIES,
    FIXTURES,
    TOLERANCE,
    Base,
    changed,
    hidden,
    put,
    reference,
    tensors_of,
)


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "mbart"])
def test_a_head_on_one_vector_says_what_it_did_there(base: Base, family: str) -> None:
    model = base(family)
    foreign = read(FIXTURES / family / "seq_bn", Shape.of(model))
    assert foreign.head is not None
    assert (foreign.head.kind, foreign.head.labels) == ("classification", ["bad", "fair", "good"])
    put(foreign, model)
    linear = LinearHead(16, 3, dropout=0.0)
    linear.load_state_dict(dict(foreign.head.state))
    task_model = TaskModel(model, linear, pooling=NAMINGS[family].pooling)
    inputs, expected = reference(family)
    with torch.no_grad():
        logits = task_model.logits(task_model.pooled(inputs))
    assert torch.allclose(logits, expected["logits.seq_bn"], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("name", "kind", "labels"),
    [
        ("tagging", "tagging", ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]),
        ("static_tagging", "tagging", ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]),
        ("question_answering", "extractive_qa", []),
        ("static_question_answering", "extractive_qa", []),
        ("multiple_choice", "multiple_choice", ["LABEL_0", "LABEL_1", "LABEL_2"]),
    ],
)
def test_a_head_of_another_kind_says_what_it_did_there(base: Base, name: str, kind: str, labels: list[str]) -> None:
    model = base("bert")
    foreign = read(FIXTURES / "heads" / name, Shape.of(model))
    assert foreign.head is not None
    assert (foreign.head.kind, foreign.head.labels) == (kind, labels)
    put(foreign, model)
    inputs, expected = reference("heads")
    features = hidden(model, inputs)
    if kind == "multiple_choice":
        features = features[:, 0]
    logits = features @ foreign.head.state["linear.weight"].T + foreign.head.state["linear.bias"]
    assert torch.allclose(logits.reshape(expected[f"logits.{name}"].shape), expected[f"logits.{name}"], atol=TOLERANCE)


@pytest.mark.parametrize("name", ["tagging", "question_answering", "multiple_choice", "multilabel"])
def test_a_head_of_another_kind_is_written_back_as_it_was(tmp_path: Path, bert: Shape, name: str) -> None:
    original = FIXTURES / "heads" / name
    write(tmp_path / name, read(original, bert), safetensors=name != "tagging")
    for file in original.iterdir():
        if file.suffix == ".json":
            assert (tmp_path / name / file.name).read_bytes() == file.read_bytes()
        else:
            tensors, expected = tensors_of(tmp_path / name / file.name), tensors_of(file)
            assert tensors.keys() == expected.keys()
            assert all(torch.equal(tensors[key], expected[key]) for key in expected)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("two_layers", "config.layers"),
        ("pooler", "config.use_pooler"),
        ("static_classification", "model_class"),
    ],
)
def test_a_head_that_is_no_linear_map_is_refused_by_name(bert: Shape, name: str, field: str) -> None:
    folder = FIXTURES / "heads" / name
    with pytest.raises(BundleError) as caught:
        read(folder, bert)
    assert [fault.where for fault in caught.value.faults] == [f"{folder / 'head_config.json'}: {field}"]
    assert read(folder, bert, with_head=False).head is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("config", "tagging"),
        ("config__head_type", "causal_lm"),
        ("config__num_labels", 0),
        ("config__label2id", {"bad": 0, "fair": 1}),
        ("config__label2id", {"bad": 0, "fair": 1, "good": 3}),
        ("config__dropout_prob", 0.95),
    ],
)
def test_a_setting_that_no_head_has_is_refused_by_name(tmp_path: Path, bert: Shape, key: str, value: Any) -> None:
    folder = changed(tmp_path, "head_config.json", **{key: value})
    with pytest.raises(BundleError) as caught:
        read(folder, bert)
    (fault,) = caught.value.faults
    assert fault.where == f"{folder / 'head_config.json'}: {key.replace('__', '.')}"


def test_a_head_of_another_size_than_its_record_says_is_refused(tmp_path: Path, bert: Shape) -> None:
    folder = changed(tmp_path, "head_config.json", config__num_labels=4, config__label2id=None)
    with pytest.raises(BundleError, match=r"has a weight of shape \(3, 16\), head_config.json means \(4, 16\)"):
        read(folder, bert)


@pytest.mark.parametrize(("family", "head_type"), [("t5", "question_answering"), ("mbart", "classification")])
def test_a_head_that_reads_other_states_there_is_refused(
    base: Base, tmp_path: Path, family: str, head_type: str
) -> None:
    shutil.copytree(FIXTURES / family / "par_bn", tmp_path / "x")
    record = {"config": {"head_type": head_type, "layers": 1, "num_labels": 2}, "name": "probe"}
    (tmp_path / "x" / "head_config.json").write_text(json.dumps(record), "utf-8")
    torch.save({"heads.probe.1.weight": torch.zeros(2, 16)}, tmp_path / "x" / "pytorch_model_head.bin")
    with pytest.raises(BundleError, match=rf"config\.head_type: '{head_type}' cannot be represented on {family}"):
        read(tmp_path / "x", Shape.of(base(family)))


def test_a_head_is_told_from_one_whose_name_begins_alike(tmp_path: Path, bert: Shape) -> None:
    expected = read(FIXTURES / "bert" / "seq_bn", bert).head
    folder = changed(tmp_path)
    tensors = tensors_of(folder / "pytorch_model_head.bin")
    others = {key.replace("probe", "probe2"): torch.zeros(7) for key in tensors}
    torch.save(tensors | others, folder / "pytorch_model_head.bin")
    head = read(folder, bert).head
    assert head is not None
    assert expected is not None
    assert all(torch.equal(head.state[key], expected.state[key]) for key in expected.state)


def test_a_head_without_a_bias_has_one_of_zeros(tmp_path: Path, bert: Shape) -> None:
    folder = changed(tmp_path, "head_config.json", config__bias=False)
    tensors = tensors_of(folder / "pytorch_model_head.bin")
    torch.save({"heads.probe.1.weight": tensors["heads.probe.1.weight"]}, folder / "pytorch_model_head.bin")
    head = read(folder, bert).head
    assert head is not None
    assert head.state["linear.bias"].tolist() == [0, 0, 0]


def test_an_adapter_without_a_head_has_none(bert: Shape) -> None:
    assert read(FIXTURES / "bert" / "par_bn", bert).head is None

"""AdapterHub's folders, as the library wrote them (`tests/parity`): the same hidden states, the same files back."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.config import MethodConfig
from pipeline.errors import BundleError
from pipeline.interop.adapterhub import NAMINGS, Foreign, Shape, read, write
from tests.foreign import (
    ADAPTERS,
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

# Parity


@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_alone_computes_what_it_did_there(base: Base, family: str) -> None:
    inputs, expected = reference(family)
    assert torch.allclose(hidden(base(family), inputs), expected["hidden.none"], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_foreign_adapter_computes_what_it_did_there(base: Base, family: str, name: str) -> None:
    model = base(family)
    inputs, expected = reference(family)
    put(read(FIXTURES / family / name, Shape.of(model)), model)
    assert (expected[f"hidden.{name}"] - expected["hidden.none"]).abs().max() > 0.1, "the adapter must matter"
    assert torch.allclose(hidden(model, inputs), expected[f"hidden.{name}"], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("change", [{"activation": "tanh"}, {"name": "parallel"}, {"scaling": 1.001}])
def test_another_setting_is_no_parity(base: Base, change: dict[str, Any]) -> None:
    inputs, expected = reference("bert")
    model = base("bert")
    foreign = read(FIXTURES / "bert" / "seq_bn", Shape.of(model))
    put(dataclasses.replace(foreign, method=dataclasses.replace(foreign.method, **change)), model)
    assert (hidden(model, inputs) - expected["hidden.seq_bn"]).abs().max() > 100 * TOLERANCE


def test_every_family_with_names_has_fixtures() -> None:
    assert set(NAMINGS) == set(FAMILIES) == {path.name for path in FIXTURES.iterdir()} - {"heads"}


# What is read


def test_the_presets_are_methods_of_ours(bert: Shape) -> None:
    methods = {name: read(FIXTURES / "bert" / name, bert).method for name in ADAPTERS}
    assert {name: method.name for name, method in methods.items()} == {
        "seq_bn": "pfeiffer",
        "double_seq_bn": "houlsby",
        "par_bn": "parallel",
        "partial": "houlsby",
    }
    assert (methods["par_bn"].scaling, methods["par_bn"].init) == (4.0, "zero")
    partial = methods["partial"]
    assert (partial.layers, partial.scaling, partial.activation) == ([0, 2], "learned", "gelu")
    assert [partial.width_in(layer, 16) for layer in (0, 2)] == [8, 2]


def test_layers_left_out_are_counted_on_from_the_encoder_in_the_decoder(base: Base) -> None:
    shape = Shape.of(base("bart"))
    assert shape.stacks == (2, 2)
    foreign = read(FIXTURES / "bart" / "partial", shape)
    assert foreign.method.layers == [0, 3]
    assert {name.split(".")[1] for name in foreign.adapter} == {"0", "3"}


# What is written


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_what_was_read_is_written_back_as_it_was(base: Base, tmp_path: Path, family: str, name: str) -> None:
    original, written = FIXTURES / family / name, tmp_path / "written"
    safetensors = (original / "adapter.safetensors").exists()
    write(written, read(original, Shape.of(base(family))), safetensors=safetensors)
    assert {file.name for file in written.iterdir()} == {file.name for file in original.iterdir()}
    for file in original.iterdir():
        if file.suffix == ".json":
            assert (written / file.name).read_bytes() == file.read_bytes()
        else:
            tensors, expected = tensors_of(written / file.name), tensors_of(file)
            assert list(tensors) == list(expected)
            assert all(torch.equal(tensors[key], expected[key]) for key in expected)


def test_a_width_is_written_as_the_factor_that_gives_it(tmp_path: Path, bert: Shape) -> None:
    foreign = read(FIXTURES / "bert" / "seq_bn", bert)
    for hidden_size in (768, 1024, 312):
        shape = Shape(model_type="bert", hidden_size=hidden_size, stacks=(3,))
        for width in (*range(1, 130), 768, 1000):
            method = MethodConfig(name="pfeiffer", width=width)
            zeros = {
                f"layers.{layer}.feed_forward.{leaf}": torch.zeros(size)
                for layer in range(3)
                for leaf, size in {"down.weight": 1, "down.bias": 1, "up.weight": 1, "up.bias": 1}.items()
            }
            made = Foreign(name="x", shape=shape, method=method, adapter=zeros, model_class=foreign.model_class)
            folder = tmp_path / f"{hidden_size}-{width}"
            write(folder, made)
            factor = json.loads((folder / "adapter_config.json").read_text("utf-8"))["config"]["reduction_factor"]
            assert int(hidden_size // factor) == width


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"name": "lora"}, "method.name"),
        ({"name": "houlsby", "norms": True}, "method.norms"),
        ({"name": "houlsby", "input_norm": "rms"}, "method.input_norm"),
    ],
)
def test_a_method_that_the_library_lacks_is_refused(
    tmp_path: Path, bert: Shape, values: dict[str, Any], field: str
) -> None:
    foreign = Foreign(name="x", shape=bert, method=MethodConfig(**values), adapter={}, model_class="BertAdapterModel")
    with pytest.raises(BundleError) as caught:
        write(tmp_path / "x", foreign)
    assert [fault.where for fault in caught.value.faults] == [field]
    assert not any(tmp_path.iterdir())


def test_a_folder_that_is_there_is_not_written_to(tmp_path: Path, bert: Shape) -> None:
    with pytest.raises(BundleError, match="is there already"):
        write(tmp_path, read(FIXTURES / "bert" / "seq_bn", bert))
    assert not any(tmp_path.iterdir())


# What is refused


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("config__adapter_size", 3),
        ("config__architecture", "lora"),
        ("config__architecture", "prefix_tuning"),
        ("config__architecture", "union"),
        ("config__cross_adapter", True),
        ("config__dropout", 0.95),
        ("config__init_weights", "xavier"),
        ("config__inv_adapter", "nice"),
        ("config__leave_out", [0, 1, 2]),
        ("config__leave_out", "all"),
        ("config__ln_after", True),
        ("config__ln_before", True),
        ("config__mh_adapter", True),
        ("config__non_linearity", "prelu"),
        ("config__non_linearity", None),
        ("config__original_ln_after", False),
        ("config__original_ln_before", False),
        ("config__output_adapter", False),
        ("config__phm_layer", True),
        ("config__reduction_factor", {"0": 2}),
        ("config__reduction_factor", 0),
        ("config__residual_before_ln", "post_add"),
        ("config__residual_before_ln", False),
        ("config__scaling", "channel"),
        ("config__stochastic_depth", 0.1),
        ("config__use_gating", True),
        ("config", None),
        ("hidden_size", 768),
        ("model_type", "roberta"),
        ("name", None),
    ],
)
def test_a_setting_that_no_method_has_is_refused_by_name(tmp_path: Path, bert: Shape, key: str, value: Any) -> None:
    folder = changed(tmp_path, **{key: value})
    with pytest.raises(BundleError) as caught:
        read(folder, bert)
    (fault,) = caught.value.faults
    assert fault.where == f"{folder / 'adapter_config.json'}: {key.replace('__', '.')}"
    assert fault.value == str(value)


def test_all_settings_that_are_in_the_way_are_named_at_once(tmp_path: Path, bert: Shape) -> None:
    folder = changed(tmp_path, config__phm_layer=True, config__use_gating=True, config__scaling="channel")
    with pytest.raises(BundleError) as caught:
        read(folder, bert)
    assert [fault.where.rpartition(".")[2] for fault in caught.value.faults] == ["phm_layer", "use_gating", "scaling"]


@pytest.mark.parametrize(
    "values",
    [
        {"config__architecture": None},
        {"config__phm_dim": 8},
        {"config__adapter_residual_before_ln": True},
        {"config__init_weights_seed": 3},
        {"config__leave_out": None},
        {"config__leave_out": [7]},
        {"config__non_linearity": "ReLU"},
    ],
)
def test_a_setting_without_effect_is_no_hindrance(tmp_path: Path, bert: Shape, values: dict[str, Any]) -> None:
    expected = read(FIXTURES / "bert" / "seq_bn", bert).method
    assert read(changed(tmp_path, **values), bert).method == expected


def test_a_folder_without_a_version_has_the_old_names_of_gelu(tmp_path: Path, bert: Shape) -> None:
    folder = changed(tmp_path, config__non_linearity="gelu")
    assert read(folder, bert).method.activation == "gelu"
    record = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    del record["version"]
    (folder / "adapter_config.json").write_text(json.dumps(record), "utf-8")
    assert read(folder, bert).method.activation == "gelu_new"


def test_tensors_that_the_config_does_not_tell_of_are_refused_by_name(tmp_path: Path, bert: Shape) -> None:
    folder = changed(tmp_path, config__leave_out=[0], config__reduction_factor={"1": 2, "default": 4})
    with pytest.raises(BundleError) as caught:
        read(folder, bert)
    shown = str(caught.value)
    assert "encoder.layer.0.output.adapters.probe.adapter_down.0.weight' has no place in a pfeiffer adapter" in shown
    assert "layers.1.feed_forward.down.weight' has shape (4, 16), by config.reduction_factor it is (8, 16)" in shown


def test_a_fusion_is_refused_by_its_file(tmp_path: Path, bert: Shape) -> None:
    (tmp_path / "adapter_fusion_config.json").write_text("{}", "utf-8")
    with pytest.raises(BundleError, match=r"adapter_fusion_config\.json: cannot be represented: it fuses"):
        read(tmp_path, bert)


def test_a_missing_tensor_is_named(tmp_path: Path, bert: Shape) -> None:
    folder = changed(tmp_path)
    tensors = tensors_of(folder / "pytorch_adapter.bin")
    del tensors["bert.encoder.layer.2.output.adapters.probe.adapter_up.bias"]
    torch.save(tensors, folder / "pytorch_adapter.bin")
    with pytest.raises(BundleError, match=r"'layers\.2\.feed_forward\.up\.bias' is missing of a pfeiffer adapter"):
        read(folder, bert)


class Bomb:
    """What a pickle may hold and a file of tensors must not."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return (print, ("a pickle was run",))


@pytest.mark.parametrize(
    ("name", "contents", "rule"),
    [
        ("adapter_config.json", None, "adapter_config.json: cannot be read (No such file or directory)"),
        ("adapter_config.json", b"{", "is not valid JSON"),
        ("adapter_config.json", b"[]", "must be a JSON object"),
        ("pytorch_adapter.bin", None, "holds no adapter.safetensors and no pytorch_adapter.bin"),
        ("pytorch_adapter.bin", b"nothing", "cannot be read as tensors"),
        ("pytorch_adapter.bin", Bomb(), "cannot be read as tensors"),
        ("pytorch_adapter.bin", [1], "must be tensors by name"),
        ("adapter.safetensors", b"nothing", "cannot be read as tensors"),
        ("head_config.json", None, "head_config.json: cannot be read"),
        ("pytorch_model_head.bin", None, "holds no model_head.safetensors and no pytorch_model_head.bin"),
    ],
)
def test_a_damaged_file_is_named(
    tmp_path: Path, bert: Shape, capfd: pytest.CaptureFixture[str], name: str, contents: Any, rule: str
) -> None:
    folder = changed(tmp_path)
    if contents is None:
        (folder / name).unlink()
    elif isinstance(contents, bytes):
        (folder / name).write_bytes(contents)
    else:
        torch.save(contents, folder / name)
    with pytest.raises(BundleError) as caught:
        read(folder, bert)
    assert rule in str(caught.value)
    assert "pickle was run" not in capfd.readouterr().out


def test_a_family_whose_names_are_not_known_is_refused(base: Base) -> None:
    model = base("bert")
    model.config.model_type = "albert"
    try:
        with pytest.raises(BundleError, match="'albert' is a model family whose AdapterHub names are not known"):
            Shape.of(model)
    finally:
        model.config.model_type = "bert"


@pytest.mark.parametrize(
    ("record", "values"),
    [
        ("adapter_config.json", {"config__init_weights": []}),
        ("head_config.json", {"config__dropout_prob": []}),
        ("head_config.json", {"config__dropout_prob": True}),
    ],
)
def test_a_setting_of_another_type_is_named(tmp_path: Path, bert: Shape, record: str, values: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match=next(iter(values)).removeprefix("config__")):
        read(changed(tmp_path, record, **values), bert)


@pytest.mark.parametrize("content", [b"t", b"s", b"q\x00", b"\x80\x02."])
def test_a_pickle_that_was_spoiled_is_refused(tmp_path: Path, bert: Shape, content: bytes) -> None:
    folder = changed(tmp_path)
    (folder / "pytorch_adapter.bin").write_bytes(content)
    with pytest.raises(BundleError, match="cannot be read as tensors"):
        read(folder, bert)

import pickle

import pytest
import torch
from families import FAMILIES, inputs, make  # type: ignore[import-not-found]
from torch import Tensor, nn
from transformers import PreTrainedModel

from pipeline.adapters.anatomy import ANATOMIES
from pipeline.adapters.insert import (
    adapter_state,
    attach,
    bottlenecks,
    chosen_layers,
    detach,
    load_adapter_state,
)
from pipeline.adapters.layouts import LAYOUTS
from pipeline.config import MethodConfig
from pipeline.errors import CheckpointError, ConfigError


def run(model: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        out: Tensor = model(**inputs()).last_hidden_state
    return out


def config(name: str, **changes: object) -> MethodConfig:
    return MethodConfig(**{"name": name, "width": 4, "init": "bert", **changes})  # type: ignore[arg-type]


def test_every_family_of_the_table_is_tested() -> None:
    assert set(FAMILIES) == set(ANATOMIES)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_zero_initialised_adapter_gives_the_output_of_the_base(family: str, layout: str) -> None:
    model = make(family)
    plain = run(model)
    attach(model, config(layout, init="zero"), seed=1)
    assert torch.equal(run(model), plain)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_adapter_changes_the_output_and_detach_brings_the_base_back(family: str, layout: str) -> None:
    model = make(family)
    plain, names = run(model), list(model.state_dict())
    attach(model, config(layout), seed=1)
    assert not torch.equal(run(model), plain)
    detach(model)
    assert torch.equal(run(model), plain)
    assert list(model.state_dict()) == names


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_only_bottlenecks_get_gradients(family: str, layout: str) -> None:
    model = make(family)
    attach(model, config(layout, scaling="learned"), seed=1)
    model(**inputs()).last_hidden_state.pow(2).sum().backward()
    trained = {id(p) for _, bottleneck in bottlenecks(model) for p in bottleneck.parameters()}
    for parameter in model.parameters():
        assert (parameter.grad is not None) == (id(parameter) in trained)
    assert len(trained) == 5 * 3 * len(LAYOUTS[layout].places)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_output_follows_the_formula_of_the_layout(family: str, layout: str) -> None:
    """Recompute the last layer's feed-forward from its parts: x is its input, h its output, LN the norm after it."""
    model = make(family)
    attach(model, config(layout, scaling=2.0), seed=1)
    anatomy = ANATOMIES[family]
    layers = model.get_submodule(anatomy.layers)
    assert isinstance(layers, nn.ModuleList)
    layer, block = layers[-1], anatomy.sub_blocks["feed_forward"]
    wrapper = layer.get_submodule(block.module)
    seen: dict[str, Tensor] = {}
    if block.form == "closing":
        wrapper.register_forward_pre_hook(lambda _, given: seen.update(hidden=given[0], x=given[1]))
        wrapper.register_forward_hook(lambda _, __, out: seen.update(out=out))
    else:
        wrapper.register_forward_pre_hook(lambda _, given: seen.update(x=given[0]))
        layer.register_forward_hook(lambda _, __, out: seen.update(out=out))
    run(model)
    bottleneck, inner, x = wrapper.get_submodule("bottleneck"), wrapper.get_submodule("inner"), seen["x"]
    norm = inner.get_submodule("LayerNorm") if block.form == "closing" else layer.get_submodule(block.norm)
    with torch.no_grad():
        h = inner.get_submodule("dense")(seen["hidden"]) if block.form == "closing" else inner(x)
        read = {"houlsby": h, "pfeiffer": norm(h + x), "parallel": x}[layout]
        down, up = bottleneck.get_submodule("down"), bottleneck.get_submodule("up")
        expected = norm(h + 2.0 * up(torch.relu(down(read))) + x)
    torch.testing.assert_close(seen["out"], expected, rtol=0, atol=1e-6)


def test_the_state_travels_to_another_base_bit_for_bit() -> None:
    first, second = make("bert"), make("bert")
    attach(first, config("houlsby", scaling="learned"), seed=1)
    attach(second, config("houlsby", scaling="learned"), seed=2)
    assert not torch.equal(run(first), run(second))
    load_adapter_state(second, adapter_state(first))
    assert torch.equal(run(first), run(second))
    assert "layers.2.attention.down.weight" in adapter_state(first)


def test_a_state_with_tensors_that_have_no_place_is_refused() -> None:
    model = make("bert")
    attach(model, config("pfeiffer"), seed=1)
    state = adapter_state(model) | {"layers.9.feed_forward.down.weight": torch.zeros(4, 16)}
    with pytest.raises(RuntimeError, match="1 of 13 adapter tensors"):
        load_adapter_state(model, state)


def test_only_the_chosen_layers_carry_adapters() -> None:
    model = make("bert")
    attach(model, config("pfeiffer", layers="top-2"), seed=1)
    assert [name for name, _ in bottlenecks(model)] == ["layers.1.feed_forward", "layers.2.feed_forward"]


def test_an_adapted_model_shows_its_adapters_and_survives_pickling() -> None:
    model = make("distilbert")
    attach(model, config("pfeiffer"), seed=1)
    assert "Bottleneck" in repr(model)
    assert torch.equal(run(pickle.loads(pickle.dumps(model))), run(model))


def test_the_seed_decides_the_initial_weights() -> None:
    states = []
    for seed in (1, 1, 2):
        model = make("bert")
        attach(model, config("pfeiffer"), seed=seed)
        states.append(adapter_state(model)["layers.0.feed_forward.down.weight"])
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


@pytest.mark.parametrize(
    ("layers", "expected"),
    [("all", [0, 1, 2, 3]), ("top-1", [3]), ("top-4", [0, 1, 2, 3]), ([2, 0, 2], [0, 2])],
)
def test_layers_are_resolved(layers: str | list[int], expected: list[int]) -> None:
    assert chosen_layers(layers, 4) == expected


@pytest.mark.parametrize("layers", ["top-5", [4], [-1], []])
def test_layers_that_the_model_does_not_have_are_refused(layers: str | list[int]) -> None:
    with pytest.raises(ConfigError, match=r"method.layers.*has 4, numbered from 0"):
        chosen_layers(layers, 4)


def test_an_unknown_family_names_the_known_ones() -> None:
    model = make("bert")
    model.config.model_type = "xlnet"
    with pytest.raises(CheckpointError, match=r"xlnet.*bert, roberta, electra, distilbert.*anatomy.py"):
        attach(model, config("pfeiffer"), seed=1)

import pickle

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.config import MethodConfig
from pipeline.core.adapters import insert
from pipeline.core.adapters.anatomy import ANATOMIES, layers_of, settled
from pipeline.core.adapters.bottleneck import Bottleneck
from pipeline.core.adapters.checkpoint import fingerprint, num_parameters
from pipeline.core.adapters.insert import Adapted, adapter_modules, chosen_layers
from pipeline.core.adapters.layouts import LAYOUTS, Place
from pipeline.errors import CheckpointError, ConfigError
from tests.families import CONFIGS, inputs, make


def forward(model: PreTrainedModel) -> Tensor:
    given = inputs(model.config.model_type)
    if model.config.is_encoder_decoder:
        given |= {"decoder_input_ids": given["input_ids"], "decoder_attention_mask": given["attention_mask"]}
    out: Tensor = model(**given).last_hidden_state
    return out


def run(model: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        return forward(model)


def bottlenecks(model: PreTrainedModel) -> list[tuple[str, Bottleneck]]:
    return [(name, module) for name, module in adapter_modules(model) if isinstance(module, Bottleneck)]


def config(name: str, **changes: object) -> MethodConfig:
    return MethodConfig(**{"name": name, "width": 4, "init": "bert", **changes})  # type: ignore[arg-type]


GROWING = ("modernbert", "t5", "mt5", "mbart", "gpt2", "gpt_neox", "opt", "llama", "mistral", "qwen3", "gemma3_text")
"""Families whose sums of layers are not normalised."""


def test_every_family_of_the_table_is_tested() -> None:
    assert set(CONFIGS) == set(ANATOMIES)


def test_what_a_bottleneck_reads_is_normalised_where_sums_grow_unless_the_method_says_otherwise() -> None:
    assert [family for family in ANATOMIES if settled(config("houlsby"), family).input_norm == "rms"] == list(GROWING)
    assert settled(config("houlsby", input_norm="none"), "llama").input_norm == "none"
    assert settled(config("houlsby", input_norm="rms"), "bert").input_norm == "rms"
    lora = MethodConfig(name="lora")
    assert settled(lora, "llama") == lora


def test_the_size_of_a_growing_sum_does_not_reach_the_bottleneck() -> None:
    """Embeddings 100 times as large are what a deep layer's sum is like."""
    for reads, changed in {"none": True, "rms": False}.items():
        model = make("llama")
        layer = layers_of(model)[0][0]
        insert.attach(model, config("parallel", input_norm=reads, layers=[0]), seed=1)
        adapted = layer.get_submodule("mlp")
        assert isinstance(adapted, Adapted) and adapted.bottleneck is not None
        x = torch.randn(1, 4, 16, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            few, many = adapted.bottleneck(x), adapted.bottleneck(100 * x)
        assert ((few - many).abs().max() > 0.01) == changed


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_zero_initialised_adapter_gives_the_output_of_the_base(family: str, layout: str) -> None:
    model = make(family)
    plain = run(model)
    insert.attach(model, config(layout, init="zero"), seed=1)
    assert torch.equal(run(model), plain)


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_adapter_changes_the_output_and_detach_brings_the_base_back(family: str, layout: str) -> None:
    model = make(family)
    plain, names = run(model), list(model.state_dict())
    insert.attach(model, config(layout), seed=1)
    assert not torch.equal(run(model), plain)
    insert.undo(model)
    assert torch.equal(run(model), plain)
    assert list(model.state_dict()) == names


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_only_bottlenecks_get_gradients(family: str, layout: str) -> None:
    model = make(family)
    insert.attach(model, config(layout, scaling="learned"), seed=1)
    torch.autograd.backward(forward(model).pow(2).sum())
    trained = {id(p) for _, bottleneck in bottlenecks(model) for p in bottleneck.parameters()}
    for parameter in model.parameters():
        assert (parameter.grad is not None) == (id(parameter) in trained)
    assert len(trained) == 5 * len(layers_of(model)) * len(LAYOUTS[layout].places)


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("place", ["attention", "feed_forward"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("reads", ["auto", "none", "rms"])
def test_the_output_follows_the_formula_of_the_layout(family: str, place: Place, layout: str, reads: str) -> None:
    """Recompute the bottleneck of the last layer from x, the residual, and h, the output, which the layer shows."""
    if place not in LAYOUTS[layout].places:
        return
    model = make(family)
    insert.attach(model, config(layout, scaling=2.0, input_norm=reads), seed=1)
    layer, stack = layers_of(model)[-1]
    block = stack.sub_block(place)
    adapted = layer.get_submodule(block.module)
    assert isinstance(adapted, Adapted)
    seen: dict[str, Tensor] = {}

    def first(value: object) -> Tensor:
        one = value[0] if isinstance(value, tuple) else value
        assert isinstance(one, Tensor)
        return one

    # What the residual is: that which, taken from what comes after the residual, leaves h.
    source, inner = layer.get_submodule(block.source), adapted.inner
    source.register_forward_pre_hook(
        lambda _, args, kwargs: seen.update(x=args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )
    inner.register_forward_hook(lambda _, __, out: seen.update(h=first(out)))
    adapted.register_forward_hook(lambda _, __, out: seen.update(out=first(out)))
    norm = layer.get_submodule(block.norm)
    norm.register_forward_pre_hook(lambda _, args: seen.update(read=args[0]))
    run(model)
    x, h = seen["x"], seen["h"]
    if block.post_norm:  # the checkpoint adds the very residual that was found
        torch.testing.assert_close(seen["read"], seen["out"] + x, rtol=0, atol=1e-5)
    else:  # the norm before the sub-block reads it
        assert torch.equal(seen["read"], x)
    bottleneck = adapted.bottleneck
    assert isinstance(bottleneck, Bottleneck)
    with torch.no_grad():
        read = {"houlsby": h, "pfeiffer": norm(h + x) if block.post_norm else h + x, "parallel": x}[layout]
        if reads == "rms" or (reads == "auto" and family in GROWING):
            read = read / (read.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()
        expected = h + 2.0 * bottleneck.up(torch.relu(bottleneck.down(read)))
    torch.testing.assert_close(seen["out"], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", CONFIGS)
def test_norms_are_trained_as_copies(family: str) -> None:
    model = make(family)
    plain = run(model)
    insert.attach(model, config("pfeiffer", init="zero", norms=True), seed=1)
    assert torch.equal(run(model), plain)
    norms = [(name, module) for name, module in adapter_modules(model) if name.endswith(".norm")]
    expected = 2 * len(layers_of(model)) - (family == "modernbert")  # whose first norm is the identity
    assert len(norms) == expected
    assert num_parameters(model) == num_parameters(make(family)), "the norms that are put aside still count"
    before = fingerprint(dict(make(family).named_parameters()))
    with torch.no_grad():
        for _, norm in norms:
            norm.get_parameter("weight").add_(0.5)
    changed = run(model)
    assert not torch.equal(changed, plain)
    other = make(family)
    insert.attach(other, config("pfeiffer", init="bert", norms=True), seed=2)
    insert.load(other, insert.state(model))
    assert torch.equal(run(other), changed)
    insert.undo(model)
    assert torch.equal(run(model), plain)
    assert fingerprint(dict(model.named_parameters())) == before


def test_reduction_factors_give_the_widths() -> None:
    model = make("bert")
    insert.attach(model, config("houlsby", reduction_factor={"1": 4, "default": 2}), seed=1)
    widths = {name: bottleneck.down.out_features for name, bottleneck in bottlenecks(model)}
    assert widths["layers.0.attention"] == widths["layers.2.feed_forward"] == 8
    assert widths["layers.1.attention"] == widths["layers.1.feed_forward"] == 4
    assert config("houlsby", reduction_factor=64).width_in(0, 16) == 1  # AdapterHub's least


def test_layers_are_counted_from_the_encoder_to_the_decoder() -> None:
    model = make("t5")
    insert.attach(model, config("pfeiffer", layers="top-1"), seed=1)
    assert isinstance(model.decoder.block[1].layer[2].DenseReluDense, Adapted)
    assert [name for name, _ in bottlenecks(model)] == ["layers.3.feed_forward"]


def test_the_state_travels_to_another_base_bit_for_bit() -> None:
    first, second = make("bert"), make("bert")
    insert.attach(first, config("houlsby", scaling="learned"), seed=1)
    insert.attach(second, config("houlsby", scaling="learned"), seed=2)
    assert not torch.equal(run(first), run(second))
    insert.load(second, insert.state(first))
    assert torch.equal(run(first), run(second))
    assert "layers.2.attention.down.weight" in insert.state(first)


def test_a_state_with_tensors_that_have_no_place_is_refused() -> None:
    model = make("bert")
    insert.attach(model, config("pfeiffer"), seed=1)
    state = insert.state(model) | {"layers.9.feed_forward.down.weight": torch.zeros(4, 16)}
    with pytest.raises(RuntimeError, match="1 of 13 adapter tensors"):
        insert.load(model, state)


def test_only_the_chosen_layers_carry_adapters() -> None:
    model = make("bert")
    insert.attach(model, config("pfeiffer", layers="top-2"), seed=1)
    assert [name for name, _ in bottlenecks(model)] == ["layers.1.feed_forward", "layers.2.feed_forward"]


def test_an_adapted_model_shows_its_adapters_and_survives_pickling() -> None:
    model = make("distilbert")
    insert.attach(model, config("pfeiffer"), seed=1)
    assert "Bottleneck" in repr(model)
    assert torch.equal(run(pickle.loads(pickle.dumps(model))), run(model))


def test_the_seed_decides_the_initial_weights() -> None:
    states = []
    for seed in (1, 1, 2):
        model = make("bert")
        insert.attach(model, config("pfeiffer"), seed=seed)
        states.append(insert.state(model)["layers.0.feed_forward.down.weight"])
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
    with pytest.raises(CheckpointError, match=r"xlnet.*bert, roberta.*gemma3_text.*anatomy.py"):
        insert.attach(model, config("pfeiffer"), seed=1)

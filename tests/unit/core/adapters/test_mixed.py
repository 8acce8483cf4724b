"""What adapters add to the rows of a mixed batch, whichever way it is computed, and the gradients that they get."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pipeline.config import MethodConfig
from pipeline.core.adapters import insert, mixed
from pipeline.core.adapters.bottleneck import Bottleneck
from pipeline.core.adapters.insert import adapter_modules
from pipeline.core.adapters.layouts import LAYOUTS
from pipeline.core.adapters.mixed import Part, adapted
from pipeline.core.adapters.sites import Placed, Sites
from tests.families import inputs, make

METHODS: tuple[dict[str, Any], ...] = (
    {"name": "houlsby", "width": 4},
    {"name": "houlsby", "width": 7, "scaling": 3.0, "layers": "top-1"},
    {"name": "pfeiffer", "width": 3, "norms": True, "activation": "gelu"},
    {"name": "parallel", "width": 5, "scaling": "learned", "input_norm": "rms"},
)
Ways = Callable[..., Tensor]
Made = Callable[[], list[tuple[int, Part | None]]]
WAYS: Mapping[str, Ways] = {
    "one by one": mixed._one_by_one,
    "in place": lambda *given: mixed._by_blocks(mixed._in_place, *given),
    "padded": lambda *given: mixed._by_blocks(mixed._padded, *given),
}


def bottleneck(seed: int, width: int, **changes: Any) -> Bottleneck:
    config = MethodConfig(name="houlsby", width=width, init="bert", **{"input_norm": "none", **changes})
    made = Bottleneck(16, width, config, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.empty_like(parameter).normal_(generator=torch.Generator().manual_seed(seed)))
    return made


def parts() -> list[tuple[int, Part | None]]:
    """Groups of 1 to 3 rows: neighbours that are alike, others, and one without a bottleneck."""
    norm = nn.LayerNorm(16)
    return [
        (2, Part(bottleneck(1, 4), "output")),
        (1, Part(bottleneck(2, 6, scaling=0.5), "output")),
        (3, None),
        (1, Part(bottleneck(3, 2, activation="gelu"), "output")),
        (1, Part(bottleneck(4, 2, scaling="learned"), "normed", norm)),
        (2, Part(bottleneck(5, 3, input_norm="rms"), "input")),
        (1, Part(bottleneck(6, 5, input_norm="rms"), "input")),
    ]


def alike() -> list[tuple[int, Part | None]]:
    """Groups of one size and width, which may share a product, but for one that is scaled; some have no biases."""
    with_biases = [Part(bottleneck(seed, 4).weights(), "output") for seed in (1, 2, 3)]
    without = [
        Part(dataclasses.replace(bottleneck(seed, 4).weights(), down_bias_R=None, up_bias_H=None), "input")
        for seed in (4, 5)
    ]
    scaled = Part(bottleneck(6, 4, scaling=0.5).weights(), "output")
    return [*((2, one) for one in with_biases), (2, scaled), *((1, one) for one in without)]


def rows(count: int, *shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(count, *shape, 16, generator=generator) for _ in "hx")  # type: ignore[return-value]


@pytest.mark.parametrize("made", [parts, alike])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("times", [1, 3])
def test_each_group_gets_what_its_own_bottleneck_gives_it_alone(way: str, times: int, made: Made) -> None:
    groups = made()
    h, x = rows(sum(size for size, _ in groups) * times, 5)
    with torch.no_grad():
        said, first = WAYS[way](h, x, groups, times), 0
        for size, part in groups:
            last = first + size * times
            wanted = h[first:last] if part is None else part(h[first:last], x[first:last])
            torch.testing.assert_close(said[first:last], wanted, rtol=0, atol=1e-5)
            first = last


def test_rows_that_stand_flattened_or_several_times_are_told_apart() -> None:
    groups = parts()
    h, x = rows(11, 5)
    with torch.no_grad():
        flat = adapted(h.flatten(0, 1), x.flatten(0, 1), groups)
        torch.testing.assert_close(flat.view(h.shape), adapted(h, x, groups), rtol=0, atol=1e-5)
        twice = adapted(h.repeat_interleave(2, 0), x.repeat_interleave(2, 0), groups)
        torch.testing.assert_close(twice[::2], adapted(h, x, groups), rtol=0, atol=1e-5)


@pytest.mark.parametrize("count", [1, 12, 17])
def test_rows_that_cannot_be_told_apart_are_no_answer(count: int) -> None:
    h, x = rows(count, 5)
    with pytest.raises(RuntimeError, match="a batch of 11 rows of several adapters meets a tensor of"):
        adapted(h, x, parts())


def test_its_weights_compute_what_the_bottleneck_does() -> None:
    x, _ = rows(3, 4)
    for one in (bottleneck(1, 4), bottleneck(2, 3, input_norm="rms", scaling="learned", activation="gelu")):
        assert torch.equal(one.weights()(x), one(x))


def placed(model: PreTrainedModel, sites: Sites, config: MethodConfig) -> Placed:
    """An attached adapter as it stands beside others: the modules themselves, whose gradients are looked at."""
    found: dict[str, Part | nn.Module] = dict(adapter_modules(model))
    for name in [name for name in found if not name.endswith(".norm")]:
        _, number, place = name.split(".")
        after = sites.after(int(number), place)  # type: ignore[arg-type]
        norm = after and found.get(f"{name}.norm", after)
        found[name] = Part(found[name], LAYOUTS[config.name].reads, norm)  # type: ignore[arg-type]
    return found


def gradients(modules: Placed) -> Iterator[Tensor]:
    """Take them: the next ones begin at none."""
    for one in modules.values():
        for parameter in (one.compute if isinstance(one, Part) else one).parameters():  # type: ignore[union-attr]
            assert parameter.grad is not None
            yield parameter.grad
            parameter.grad = None


@pytest.mark.parametrize("way", ["one by one", "padded"])
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_the_gradients_of_a_mixed_batch_are_those_of_separate_models(
    family: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64, to 1e-9 of the largest; of T5 and others the order of sums alone differs."""
    monkeypatch.setattr(mixed, "_one_by_one", WAYS[way])
    model = make(family).double()
    sites, given = Sites(model), inputs(family)
    adapters, wanted, frozen = [], [], list(model.parameters())
    for seed, values in enumerate(METHODS):
        config = MethodConfig(**{"init": "bert", **values})
        insert.attach(model, config, seed)
        model.double()
        torch.autograd.backward(model(**given).last_hidden_state.pow(2).sum())
        adapters.append(placed(model, sites, config))
        wanted.append(list(gradients(adapters[-1])))
        insert.undo(model)
    groups: list[tuple[int, Placed]] = [(2, one) for one in adapters]
    several = {name: torch.cat([tensor] * 5) for name, tensor in given.items()}
    with sites.carrying([*groups[:2], (2, {}), *groups[2:]]):
        torch.autograd.backward(model(**several).last_hidden_state.pow(2).sum())
    for one, its in zip(adapters, wanted, strict=True):
        for mine, alone in zip(gradients(one), its, strict=True):
            torch.testing.assert_close(mine, alone, rtol=0, atol=1e-9 * max(1.0, alone.abs().max().item()))
    assert all(parameter.grad is None for parameter in frozen)


def test_an_error_in_the_middle_of_a_batch_leaves_the_base_as_it_was() -> None:
    model = make("bert")
    sites, before = Sites(model), [type(module) for module in model.modules()]
    config = MethodConfig(name="parallel", width=2, norms=True)
    insert.attach(model, config, 1)
    one = placed(model, sites, config)
    insert.undo(model)
    with pytest.raises(RuntimeError, match="three"), sites.carrying([(1, one), (1, {})]):
        assert [type(module) for module in model.modules()] != before
        raise RuntimeError("three")
    assert [type(module) for module in model.modules()] == before
    assert not any(module._forward_pre_hooks for module in model.modules())

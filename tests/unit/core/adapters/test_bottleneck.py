import pytest
import torch

from pipeline.config import MethodConfig
from pipeline.core.adapters.bottleneck import Bottleneck, rms_normalised


def make(**changes: object) -> Bottleneck:
    config = MethodConfig(**{"name": "pfeiffer", "width": 5, "init": "bert", **changes})  # type: ignore[arg-type]
    return Bottleneck(8, 5, config, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("activation", ["relu", "gelu", "swish", "tanh", "leakyrelu", "linear"])
def test_it_computes_scaling_times_up_of_activation_of_down(activation: str) -> None:
    bottleneck = make(activation=activation, scaling=4.0)
    functions = {
        "relu": torch.relu,
        "gelu": torch.nn.functional.gelu,
        "swish": torch.nn.functional.silu,
        "tanh": torch.tanh,
        "leakyrelu": torch.nn.functional.leaky_relu,
        "linear": torch.clone,
    }
    torch.nn.init.normal_(bottleneck.down.bias)
    torch.nn.init.normal_(bottleneck.up.bias)
    x = torch.randn(2, 3, 8)
    inner = functions[activation](x @ bottleneck.down.weight.T + bottleneck.down.bias)
    expected = 4.0 * (inner @ bottleneck.up.weight.T + bottleneck.up.bias)
    torch.testing.assert_close(bottleneck(x), expected)


@pytest.mark.parametrize("size", [1e-2, 1.0, 1500.0])
def test_what_is_read_may_be_divided_by_its_root_mean_square(size: float) -> None:
    x = size * torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(1))
    bare, normalised = make(input_norm="none"), make(input_norm="rms")
    assert list(normalised.state_dict()) == list(bare.state_dict())
    torch.testing.assert_close(normalised(x), bare(x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()))


def test_large_sums_in_half_precision_are_divided_in_float32() -> None:
    x = torch.full((1, 1, 8), 6e4, dtype=torch.float16)  # whose square is infinite there
    assert torch.equal(rms_normalised(x), torch.ones(1, 1, 8, dtype=torch.float16))
    assert torch.equal(rms_normalised(torch.zeros(1, 1, 8)), torch.zeros(1, 1, 8))


def test_zero_initialisation_adds_nothing_but_learns() -> None:
    bottleneck = make(init="zero")
    out = bottleneck(torch.randn(2, 3, 8))
    assert torch.equal(out, torch.zeros_like(out))
    out.sum().backward()
    assert bottleneck.up.weight.grad is not None and bottleneck.up.weight.grad.abs().sum() > 0


def test_initialisations_have_their_spread() -> None:
    wide = MethodConfig(name="pfeiffer", width=400, init="bert")
    weight = Bottleneck(400, 400, wide, torch.Generator().manual_seed(0)).down.weight
    assert weight.std().item() == pytest.approx(0.02, rel=0.02)
    narrow = MethodConfig(name="pfeiffer", width=400, init="houlsby")
    weight = Bottleneck(400, 400, narrow, torch.Generator().manual_seed(0)).down.weight
    assert weight.abs().max().item() <= 0.02
    assert weight.std().item() == pytest.approx(0.0088, rel=0.03)  # of a normal cut at two standard deviations


def test_learned_scaling_is_trained_from_one() -> None:
    bottleneck = make(scaling="learned")
    assert "scaling" in dict(bottleneck.named_parameters())
    x = torch.randn(1, 2, 8)
    assert torch.equal(bottleneck(x), make(scaling=1.0)(x))


def test_dropout_acts_in_training_only() -> None:
    bottleneck = make(dropout=0.5)
    x = torch.randn(4, 4, 8)
    assert not torch.equal(bottleneck.train()(x), bottleneck.train()(x))
    assert torch.equal(bottleneck.eval()(x), bottleneck.eval()(x))

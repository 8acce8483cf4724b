"""Pooling, precision, and what follows train mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn
from transformers import RobertaConfig, RobertaModel

from pipeline.core.tasks.model import LinearHead, TaskModel

if TYPE_CHECKING:
    from tests.conftest import TinyBert


class Adapted(nn.Module):
    """A frozen block with an adapter behind it, as the adapter layer puts it in."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.adapter = nn.Sequential(nn.Linear(32, 32), nn.Dropout(0.5))

    def forward(self, *args: Tensor) -> Tensor:
        output: Tensor = self.adapter(self.inner(*args))
        return output


def make(tiny_bert: TinyBert, pooling: str = "mean") -> TaskModel:
    base, _ = tiny_bert()
    return TaskModel(base, LinearHead(32, 3, dropout=0.5), pooling=pooling)  # type: ignore[arg-type]


def inputs(length: int = 5) -> dict[str, Tensor]:
    return {
        "input_ids": torch.arange(5, 5 + length).unsqueeze(0),
        "attention_mask": torch.ones(1, length, dtype=torch.long),
        "token_type_ids": torch.zeros(1, length, dtype=torch.long),
    }


def padded(batch: dict[str, Tensor], by: int) -> dict[str, Tensor]:
    return {name: nn.functional.pad(tensor, (0, by)) for name, tensor in batch.items()}


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_padding_does_not_change_the_pooled_text(tiny_bert: TinyBert, pooling: str) -> None:
    model = make(tiny_bert, pooling)
    torch.testing.assert_close(model.pooled(inputs()), model.pooled(padded(inputs(), 3)), atol=1e-5, rtol=0)


def test_pooling_is_the_mean_or_the_first_token(tiny_bert: TinyBert) -> None:
    hidden = make(tiny_bert).hidden(inputs())
    torch.testing.assert_close(make(tiny_bert).pooled(inputs()), hidden.mean(1))
    torch.testing.assert_close(make(tiny_bert, "first").pooled(inputs()), hidden[:, 0])


def test_train_switches_head_and_adapter_but_not_the_frozen_block_around_it(tiny_bert: TinyBert) -> None:
    model = make(tiny_bert)
    layer = model.base.encoder.layer[0]
    layer.output = Adapted(layer.output)
    for _ in range(2):  # the second time from train mode
        model.train()
        assert model.training and model.head.training
        assert [one.training for one in layer.output.adapter.modules()] == [True, True, True]
        frozen = [one for one in model.base.modules() if one not in set(layer.output.adapter.modules())]
        assert not any(one.training for one in frozen)
    model.eval()
    assert not any(one.training for one in model.modules())


def test_train_switches_the_whole_base_where_all_of_it_is_trained(tiny_bert: TinyBert) -> None:
    model = make(tiny_bert)
    model.base.requires_grad_(True)
    assert all(one.training for one in model.train().modules())


def test_a_new_model_is_in_eval_mode(tiny_bert: TinyBert) -> None:
    base, _ = tiny_bert()
    model = TaskModel(base.train(), LinearHead(32, 3, dropout=0.5), pooling="mean")
    assert not any(one.training for one in model.modules())


def test_frozen_features_do_not_change_in_training(tiny_bert: TinyBert) -> None:
    model = make(tiny_bert)
    assert torch.equal(model.eval().pooled(inputs()), model.train().pooled(inputs()))


def test_the_head_computes_in_float32_over_a_bfloat16_base_and_under_autocast(tiny_bert: TinyBert) -> None:
    model = make(tiny_bert).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.logits(model.pooled(inputs())).dtype == torch.float32
        assert model.logits(model.hidden(inputs())).dtype == torch.float32
    model.base.to(torch.bfloat16)
    assert model.hidden(inputs()).dtype == torch.bfloat16
    assert model.logits(model.hidden(inputs())).dtype == torch.float32


def test_a_head_begins_with_the_shares_of_its_outputs() -> None:
    shares = [0.9, 0.07, 0.03]
    head = LinearHead(32, 3, dropout=0.0, shares=shares)
    torch.testing.assert_close(head(torch.zeros(32)).softmax(-1), torch.tensor(shares))
    assert torch.equal(LinearHead(32, 3, dropout=0.0).linear.bias, torch.zeros(3))


def test_an_output_without_any_share_begins_rare_and_finite() -> None:
    probabilities = LinearHead(32, 3, dropout=0.0, shares=[0.5, 0.5, 0.0])(torch.zeros(32)).softmax(-1)
    assert 0 < probabilities[2].item() < 0.001


def test_segments_are_read_only_by_a_base_that_knows_two(tiny_bert: TinyBert) -> None:
    model = make(tiny_bert)
    second = inputs() | {"token_type_ids": torch.ones(1, 5, dtype=torch.long)}
    assert not torch.allclose(model.hidden(inputs()), model.hidden(second))
    config = RobertaConfig(vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, type_vocab_size=1)
    roberta = TaskModel(RobertaModel(config, add_pooling_layer=False), LinearHead(32, 3, dropout=0), pooling="mean")
    torch.testing.assert_close(roberta.hidden(inputs()), roberta.hidden(second))

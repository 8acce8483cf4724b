"""A model on another device than a CPU is not asked what is in its masks."""

from __future__ import annotations

import pytest
import torch
from transformers import AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from pipeline.core.adapters.masks import ask_no_gpu
from pipeline.core.tasks.model import TaskModel
from tests.families import CONFIGS, inputs, make


@pytest.mark.parametrize("family", CONFIGS)
def test_no_family_asks_what_is_in_a_mask(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors on the device `meta` have nothing in them: who asks gets an error."""
    monkeypatch.setitem(AttentionMaskInterface._global_mapping, "sdpa", sdpa_mask)
    model = TaskModel(make(family).to("meta"), torch.nn.Identity(), pooling="mean")
    batch = {name: tensor.to("meta") for name, tensor in inputs(family).items()}
    if family != "deberta-v2":  # it makes its masks itself
        with pytest.raises(RuntimeError, match=r"\.item\(\) cannot be called on meta tensors"):
            model.hidden(batch)
    ask_no_gpu()
    assert model.hidden(batch).shape == (2, 7, 16)


def test_a_cpu_is_asked_since_no_mask_is_the_quicker_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(AttentionMaskInterface._global_mapping, "sdpa", sdpa_mask)
    ask_no_gpu()
    mask = AttentionMaskInterface._global_mapping["sdpa"]
    whole = torch.ones(2, 5, dtype=torch.bool)
    shape = {"batch_size": 2, "q_length": 5, "kv_length": 5}
    assert mask(**shape, attention_mask=whole, device=torch.device("cpu")) is None
    found = mask(**shape, attention_mask=whole.to("meta"), device=torch.device("meta"))
    assert found.shape == (2, 1, 5, 5)
    whole[1, 4] = False
    assert mask(**shape, attention_mask=whole, device="cpu")[1, 0, 3].tolist() == [True] * 4 + [False]

"""In which precision models compute, on machines that multiply bfloat16 and on others."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.config import EngineConfig
from pipeline.core.engine.precision import answering, has_bfloat16, is_halved, precision
from tests.families import CONFIGS, make

CPU = torch.device("cpu")
WITHOUT_SDPA = {"deberta-v2"}
"""Families whose attention is written out in transformers; autocast has its products in bfloat16."""


@pytest.mark.parametrize("family", CONFIGS)
def test_attention_is_computed_in_float32_and_what_is_around_it_in_bfloat16(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attended: list[torch.dtype] = []
    plain = nn.functional.scaled_dot_product_attention

    def attention(query: Tensor, key: Tensor, value: Tensor, **settings: Any) -> Tensor:
        mask = settings.get("attn_mask")
        attended.extend(one.dtype for one in (query, key, value, mask) if one is not None and one.dtype != torch.bool)
        return plain(query, key, value, **settings)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", attention)
    model = make(family).eval().requires_grad_(True)
    projected: list[torch.dtype] = []
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda _, inputs, output: projected.append(output.dtype))
    ids, mask = (
        torch.randint(3, 60, (2, 7), generator=torch.Generator().manual_seed(0)),
        torch.ones(2, 7, dtype=torch.long),
    )
    mask[1, 5:] = 0
    given = {"input_ids": ids, "attention_mask": mask}
    if model.config.is_encoder_decoder:
        given["decoder_input_ids"] = ids
    results = {}
    for kind in ("float32", "bfloat16"):
        attended.clear()
        with precision(CPU, EngineConfig(precision=kind)):
            results[kind] = model(**given)[0].float()
        assert set(attended) == (set() if family in WITHOUT_SDPA else {torch.float32}), kind
        results[kind].sum().backward()
    assert torch.bfloat16 in projected or family == "gpt2", "whose projections are no Linear"
    assert not torch.equal(*results.values())
    torch.testing.assert_close(*results.values(), atol=0.2, rtol=0.05)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True}, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({"avx512_f": True, "avx512_bf16": False, "amx_tile": True}, False),
        ({}, False),
    ],
)
def test_a_cpu_multiplies_bfloat16_where_it_has_instructions_for_it(
    capabilities: dict[str, bool], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert has_bfloat16("cpu") is expected


@pytest.mark.parametrize(
    ("gpus", "hip", "expected"),
    [
        ([(8, 0)], None, True),
        ([(9, 0), (8, 9)], None, True),
        ([(7, 5)], None, False),  # T4, which emulates it
        ([(8, 0), (7, 0)], None, False),  # a trial may get either
        ([(9, 0), (9, 4)], "6.4", True),
        ([], None, False),
    ],
)
def test_gpus_multiply_bfloat16_if_the_weakest_does_so_by_itself(
    gpus: list[tuple[int, int]], hip: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(gpus))
    monkeypatch.setattr(torch.cuda, "get_device_capability", gpus.__getitem__)
    monkeypatch.setattr(torch.version, "hip", hip)
    assert has_bfloat16("cuda") is expected


@pytest.mark.parametrize(
    ("trained", "has_it", "answers"),
    [
        ("bfloat16", True, "bfloat16"),
        ("bfloat16", False, "float32"),
        ("float32", True, "float32"),
        ("auto", True, "auto"),  # of a bundle of before: float32 on a CPU
    ],
)
def test_a_bundle_answers_as_it_was_trained_where_the_machine_can(
    trained: Any, has_it: bool, answers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has_it})
    config = EngineConfig(precision=trained, batch_size=3)
    found = answering(config, "cpu")
    assert found == dataclasses.replace(config, precision=answers)  # type: ignore[arg-type]
    assert is_halved(CPU, found) is (answers == "bfloat16")


@pytest.mark.parametrize(("kind", "writing", "halved"), [("bfloat16", False, True), ("bfloat16", True, False)])
def test_texts_are_written_in_float32_on_a_cpu(kind: Any, writing: bool, halved: bool) -> None:
    with precision(CPU, EngineConfig(precision=kind), writing=writing):
        assert torch.is_autocast_enabled("cpu") is halved

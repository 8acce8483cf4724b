"""Batches for a GPU have few lengths, none beyond the positions of the model, and hold the same rows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.config import TaskConfig
from pipeline.core.engine.batches import collated
from pipeline.core.engine.lengths import longest_of, padded, positions_of, widened
from pipeline.core.tasks.kinds import restore
from pipeline.core.tasks.model import KEPT, TaskModel
from pipeline.core.tasks.task import Example
from tests.families import make


def test_lengths_are_few_and_stay_within_what_is_allowed() -> None:
    lengths = {n: padded(n, 512) for n in (1, 8, 9, 64, 65, 250, 257, 500, 512)}
    assert lengths == {1: 8, 8: 8, 9: 16, 64: 64, 65: 96, 250: 256, 257: 320, 500: 512, 512: 512}
    assert [padded(n, 50) for n in (40, 49, 50)] == [40, 50, 50]
    assert len({padded(n, 512) for n in range(1, 513)}) == 18


@pytest.mark.parametrize(("family", "expected"), [("bert", 40), ("roberta", 38), ("t5", 2**31)])
def test_roberta_has_no_token_at_its_first_positions_and_t5_any_number(family: str, expected: int) -> None:
    assert positions_of(TaskModel(make(family), torch.nn.Identity(), pooling="mean")) == expected


def test_what_is_written_and_what_a_method_puts_before_the_text_take_their_positions() -> None:
    model = TaskModel(make("bert"), torch.nn.Identity(), pooling="mean")
    said = restore(TaskConfig(name="t", kind="generation", max_length=60, max_new_tokens=9))
    read = restore(TaskConfig(name="t", kind="classification", max_length=512), ["a", "b"], reserved=5)
    assert (longest_of(said, model), longest_of(read, model)) == (31, 35)


def ids(count: int) -> list[int]:
    return list(range(1, count + 1))


@pytest.mark.parametrize(
    ("device", "expected"), [("cpu", [(2, 11), (1, 3)]), ("cuda", [(2, 16), (1, 8)])], ids=["cpu", "cuda"]
)
def test_a_batch_for_a_gpu_has_one_of_few_lengths(
    device: str, expected: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    locked: list[Tensor] = []

    def pin_memory(tensor: Tensor) -> Tensor:
        locked.append(tensor)
        return tensor

    monkeypatch.setattr(Tensor, "pin_memory", pin_memory)
    task = restore(TaskConfig(name="t", kind="classification"), ["a", "b"])
    model: Any = SimpleNamespace(device=torch.device(device), base=make("bert"))
    examples: list[Example] = [{"row": 0, "input_ids": ids(3)}, {"row": 1, "input_ids": ids(11)}]
    batches = [collated(task, some, 0, model) for some in (examples, examples[:1])]
    assert [tuple(batch["input_ids"].shape) for batch in batches] == expected
    assert [tuple(batch["attention_mask"].sum(1).tolist()) for batch in batches] == [(3, 11), (3,)]
    assert len(locked) == (6 if device == "cuda" else 0)


def test_what_is_kept_of_a_row_is_as_wide_as_its_tokens() -> None:
    task = restore(TaskConfig(name="t", kind="classification"), ["a", "b"])
    example = {"row": 0, "input_ids": ids(3), KEPT: (torch.ones(3, 4), torch.ones(4))}
    batch = task.collate([widened(example, 64)], 0)
    assert [tuple(batch[f"{KEPT}{number}"].shape) for number in (0, 1)] == [(1, 8, 4), (1, 4)]
    assert batch[f"{KEPT}0"].sum() == 12

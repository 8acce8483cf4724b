"""The script for a machine with a GPU, at its small size, on whatever there is; its processes are left out."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.core.adapters.checkpoint import Checkpoint
from pipeline.core.engine.session import Session, train_together
from tests.bench import gpu


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return gpu.made(gpu.SMALL, tmp_path_factory.mktemp("checkpoint"))


def numbers(lines: Iterator[str], pattern: str) -> list[float]:
    return [float(found) for found in re.findall(pattern, "\n".join(lines))]


def test_a_pack_ends_as_its_candidates_alone(checkpoint: Checkpoint, tmp_path: Path) -> None:
    weights, losses = numbers(gpu.equality(gpu.SMALL, checkpoint, tmp_path), r"at most ([0-9.e+-]+[0-9])")
    assert weights < 1e-9 and losses < 1e-4


def test_that_they_do_not_is_seen(checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(sessions: list[Session], starts: list[int]) -> object:
        if len(sessions) > 1:
            sessions[1].training.optimizer.param_groups[0]["weight_decay"] = 0.5
        return train_together(sessions, starts)

    monkeypatch.setattr(gpu, "train_together", spoilt)
    weights, _ = numbers(gpu.equality(gpu.SMALL, checkpoint, tmp_path), r"at most ([0-9.e+-]+[0-9])")
    assert weights > 1e-6


def test_many_lengths_are_measured_padded_and_exact(checkpoint: Checkpoint, tmp_path: Path) -> None:
    assert numbers(gpu.lengths(gpu.SMALL, checkpoint, tmp_path), r"Steps at (\d+) lengths, \w+: \d") == [6, 6]


def test_packs_and_mixed_batches_are_measured(checkpoint: Checkpoint, tmp_path: Path) -> None:
    size = replace(gpu.SMALL, processes=(), rounds=1)
    assert numbers(gpu.training(size, checkpoint, tmp_path), r"\| (\d+) \| one pack") == [1, 2]
    assert len(list(gpu.bank(size, checkpoint))) >= 4


def test_the_base_is_compared_and_both_precisions_learn(checkpoint: Checkpoint, tmp_path: Path) -> None:
    assert numbers(gpu.copies(checkpoint, gpu.SMALL), r"([0-9.]+) ms an epoch")
    assert min(numbers(gpu.precisions(tmp_path), r"float(?:32|16) (\d\.\d+)")) > 0.5

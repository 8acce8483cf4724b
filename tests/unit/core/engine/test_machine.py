import os
import resource
import sys
import time
from pathlib import Path

import pytest
import torch

from pipeline.core.engine import machine
from pipeline.core.engine.machine import age_s, num_cpus, peak_bytes, reset_peak

CPU = torch.device("cpu")


def test_the_peak_holds_what_was_freed_until_it_is_reset() -> None:
    reset_peak(CPU)
    before = peak_bytes(CPU)
    block = torch.ones(40_000_000)  # 160 MB
    assert peak_bytes(CPU) > before + 120_000_000
    del block
    assert peak_bytes(CPU) > before + 120_000_000
    reset_peak(CPU)
    assert peak_bytes(CPU) < before + 60_000_000


@pytest.mark.parametrize(("platform", "unit"), [("darwin", 1), ("freebsd14", 1024)])
def test_without_proc_the_peak_is_that_of_getrusage_in_the_unit_of_the_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str, unit: int
) -> None:
    monkeypatch.setattr(machine, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(sys, "platform", platform)
    reset_peak(CPU)  # which has nothing to reset
    mark = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert peak_bytes(CPU) == pytest.approx(mark * unit, rel=0.01)


def test_cores_are_those_that_the_process_may_run_on_or_else_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 5}, raising=False)
    assert num_cpus() == 3
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert num_cpus() == 8
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert num_cpus() == 1


def test_a_process_is_as_old_as_the_system_says_or_else_as_what_it_has_computed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before, clock = age_s(), time.monotonic()
    assert before > time.process_time() / (os.cpu_count() or 1)
    time.sleep(0.05)
    assert age_s() - before == pytest.approx(time.monotonic() - clock, abs=0.03)
    monkeypatch.setattr(machine, "_PROC", tmp_path / "proc")
    assert age_s() == pytest.approx(time.process_time(), abs=0.5)

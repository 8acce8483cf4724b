import torch

from pipeline.core.engine.memory import peak_bytes, reset_peak

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

"""How often a GPU is waited for until it has done all that it was given."""

import warnings
from collections.abc import Callable

import torch


def waits(compute: Callable[[], object]) -> int:
    """How often a computation waits; what waits for a part of the work, as an event does, is not counted."""
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            compute()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA operation" in str(one.message) for one in told)

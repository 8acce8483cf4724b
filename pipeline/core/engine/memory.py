"""The most memory that this process had since a moment: on the GPU that it uses, or else its resident set."""

import ctypes
import gc
import resource
import sys
from pathlib import Path

import torch

_PROC = Path("/proc/self")


def reset_peak(device: torch.device) -> None:
    """Give back what is free, and count from now on."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # else what a trial before this one had is counted
        (_PROC / "clear_refs").write_text("5")  # proc(5): resets the high-water mark VmHWM
    except (OSError, AttributeError):  # not Linux: the process's mark is never lowered
        return


def peak_bytes(device: torch.device) -> int:
    """Read the mark; of a CPU it holds all of the process, the checkpoint included."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        status = (_PROC / "status").read_text("utf-8")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024

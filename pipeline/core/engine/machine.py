"""What a process may use of its machine, and the most memory that it had; as Linux says it, or else as macOS does."""

import ctypes
import gc
import os
import resource
import sys
import time
from pathlib import Path

import torch

_PROC = Path("/proc/self")


def num_cpus() -> int:
    """Count the cores that this process may run on; where the system does not tell, those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def age_s() -> float:
    """Seconds since this process began; where the system does not tell, those that it has computed."""
    try:
        ticks = (_PROC / "stat").read_text("utf-8").rpartition(")")[2].split()[19]  # proc(5): field 22, starttime
        return time.clock_gettime(time.CLOCK_BOOTTIME) - int(ticks) / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):
        return time.process_time()


def reset_peak(device: torch.device) -> None:
    """Give back what is free, and count from now on; on macOS the mark of a CPU stays as high as it ever was."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # else what a trial before this one had is counted
        (_PROC / "clear_refs").write_text("5")  # proc(5): resets the high-water mark VmHWM
    except (OSError, AttributeError):  # not Linux, or not glibc
        return


def peak_bytes(device: torch.device) -> int:
    """Read the mark: of the GPU, or of the resident set of the whole process, the checkpoint included."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        status = (_PROC / "status").read_text("utf-8")
    except OSError:  # getrusage(2) counts in bytes on macOS, elsewhere in kB
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024

"""How many trials fit side by side. `resources` are what Ray has, or what it will find on this machine."""

import os
from collections.abc import Mapping

from pipeline.config import ClusterConfig
from pipeline.errors import ConfigError, Fault


def local_resources(cluster: ClusterConfig) -> dict[str, float]:
    """Count what a local Ray will have; a container may allow less than is counted here."""
    resources = {"CPU": float(cluster.num_cpus or len(os.sched_getaffinity(0)))}
    if cluster.gpus_per_trial:
        import torch

        resources["GPU"] = float(torch.cuda.device_count())
    return resources


def num_slots(cluster: ClusterConfig, resources: Mapping[str, float]) -> int:
    """Count the trials that run side by side."""
    slots = resources.get("CPU", 0) // cluster.cpus_per_trial
    if cluster.gpus_per_trial:
        # Shares of a GPU do not add up: 0.4 and 0.4 of two GPUs leave no room for another 0.4.
        per_gpu = 1 // cluster.gpus_per_trial if cluster.gpus_per_trial < 1 else 1 / cluster.gpus_per_trial
        slots = min(slots, resources.get("GPU", 0) * per_gpu // 1)
    return int(slots)


def check(cluster: ClusterConfig, resources: Mapping[str, float]) -> None:
    """Make sure that one trial fits.

    Raises:
        ConfigError: It wants more than there is.
    """
    faults = []
    for kind, wanted in (("cpu", cluster.cpus_per_trial), ("gpu", cluster.gpus_per_trial)):
        there = resources.get(kind.upper(), 0)
        if wanted > there:
            where = f"cluster.{kind}s_per_trial"
            rule = f"is more than there is for all trials together ({there:g})"
            remedy = f"Set {where} to {there:g} or less"
            faults.append(Fault(where=where, value=f"{wanted:g}", rule=rule, remedy=remedy))
    if faults:
        raise ConfigError(faults)

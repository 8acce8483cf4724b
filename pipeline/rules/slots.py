"""How many trials fit side by side on the nodes that there are; a node is a mapping from resource to amount."""

import dataclasses
from collections.abc import Mapping, Sequence

from pipeline.config import ClusterConfig
from pipeline.core.engine.machine import num_cpus
from pipeline.errors import ConfigError, fault

Nodes = Sequence[Mapping[str, float]]
"""What each node has, in Ray's words: `{"CPU": 8, "GPU": 1}`."""


def local_node(cluster: ClusterConfig) -> Mapping[str, float]:
    """Count what this machine lends; a container may allow less than is counted here."""
    resources = {"CPU": float(cluster.num_cpus or num_cpus())}
    if cluster.gpus_per_trial:
        import torch

        resources["GPU"] = float(torch.cuda.device_count())
    return resources


def num_slots(cluster: ClusterConfig, nodes: Nodes) -> int:
    """Count the trials that run side by side; the workers of one may be on several nodes."""
    fit = cluster.slots or sum(_workers_on(node, cluster) for node in nodes) // cluster.num_workers
    return min(fit, 1) if cluster.name == "here" else fit


def _workers_on(node: Mapping[str, float], cluster: ClusterConfig) -> int:
    slots = node.get("CPU", 0) // cluster.cpus_per_trial
    if cluster.gpus_per_trial:
        # Shares of a GPU do not add up: 0.4 and 0.4 of two GPUs leave no room for another 0.4.
        per_gpu = 1 // cluster.gpus_per_trial if cluster.gpus_per_trial < 1 else 1 / cluster.gpus_per_trial
        slots = min(slots, node.get("GPU", 0) * per_gpu // 1)
    return int(slots)


def several_nodes(cluster: ClusterConfig, nodes: Nodes) -> str:
    """Say why trials may run on more than one node; empty if they do not."""
    if len(nodes) > 1:
        return f"{len(nodes)} nodes take part"
    if cluster.name == "existing" and cluster.slots:
        there = num_slots(dataclasses.replace(cluster, slots=None), nodes)
        if there < cluster.slots:
            return f"cluster.slots={cluster.slots} needs more nodes than this one, which has room for {there}"
    return ""


def check(cluster: ClusterConfig, nodes: Nodes) -> None:
    """Make sure that one trial fits, unless the number of slots is given: then nodes may still join.

    Raises:
        ConfigError: It wants more than any node has.
    """
    if cluster.slots or num_slots(cluster, nodes):
        return
    faults = []
    for kind, wanted in (("cpu", cluster.cpus_per_trial), ("gpu", cluster.gpus_per_trial)):
        there = max((node.get(kind.upper(), 0) for node in nodes), default=0)
        if wanted > there:
            where = f"cluster.{kind}s_per_trial"
            remedy = f"Set {where} to {there:g}" + (" or less" if there else "")
            faults.append(fault(where, f"{wanted:g}", f"is more than any node has ({there:g})", remedy))
    if not faults and cluster.num_workers > 1:
        there = sum(_workers_on(node, cluster) for node in nodes)
        rule = f"is more than there is room for ({there}, of {cluster.cpus_per_trial} CPUs each)"
        remedy = f"Set cluster.num_workers to {max(there, 1)} or less"
        faults = [fault("cluster.num_workers", cluster.num_workers, rule, remedy)]
    if not faults:
        needs = f"{cluster.cpus_per_trial} CPUs and {cluster.gpus_per_trial:g} GPUs"
        rule, remedy = f"has no node with {needs} for a trial", "Set cluster.cpus_per_trial to less"
        faults = [fault("cluster", cluster.name, rule, remedy)]
    raise ConfigError(faults)

"""The checkpoint in Ray's shared memory: stored once a node, mapped into every process, never written to."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from torch import Tensor

from pipeline.core.adapters.checkpoint import Checkpoint, fingerprint
from pipeline.core.engine.base import CHANGED, SharedBase
from pipeline.errors import SweepError

_PATIENCE_S = 60.0  # for a process to start on a node, and look


@dataclass(frozen=True, kw_only=True)
class SharedWeights:
    """The frozen tensors in the object store."""

    tensors: "ray.ObjectRef[dict[str, Tensor]]"
    sha256: str
    """Of names and contents when they were put there."""


def share(tensors: Mapping[str, Tensor]) -> SharedWeights:
    """Put the tensors into the object store; they are mapped, not copied, where they are read."""
    with _read_only():
        return SharedWeights(tensors=ray.put(dict(tensors)), sha256=fingerprint(tensors))


def verify(shared: SharedWeights) -> None:
    """Make sure that nobody wrote into the shared tensors, on this node or any other that has them.

    Nothing but convention forbids it. What a process has on a GPU is a copy of its own, which it looks at itself.

    Raises:
        SweepError: They are no longer what was put there.
    """
    if {_fingerprint(shared), *_elsewhere(shared).values()} != {shared.sha256}:
        raise SweepError(CHANGED)


def _elsewhere(shared: SharedWeights) -> dict[str, str]:
    """Other node -> fingerprint of its copy; a node that has left took its copy along."""
    (copies,) = ray.experimental.get_object_locations([shared.tensors]).values()
    asked = {}
    for node in set(copies["node_ids"]) - {ray.get_runtime_context().get_node_id()}:
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        task = ray.remote(_fingerprint).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
        asked[node] = task.remote(shared)
    found = {}
    for node, answer in asked.items():
        try:
            found[node] = ray.get(answer, timeout=_PATIENCE_S)
        except ray.exceptions.RayError as error:
            if any(one["Alive"] and one["NodeID"] == node for one in ray.nodes()):
                raise SweepError(f"The shared checkpoint could not be looked at on node {node}: {error}") from error
    return found


def _fingerprint(shared: SharedWeights) -> str:
    return fingerprint(_mapped(shared))


def _mapped(shared: SharedWeights) -> dict[str, Tensor]:
    with _read_only():
        return ray.get(shared.tensors)  # type: ignore[no-any-return]


@contextlib.contextmanager
def _read_only() -> Iterator[None]:
    """Hush Ray's and torch's warnings that shared tensors must not be written to: `verify` sees to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Zero-copy tensor serialization|The given NumPy array is not")
        yield


def shared_base(
    checkpoint: Checkpoint,
    shared: SharedWeights,
    pad_token_id: int,
    device: Literal["cpu", "cuda"],
    prefix_bytes: int = 0,
) -> SharedBase:
    """Build a process's base around the node's shared tensors."""
    return SharedBase(checkpoint, _mapped(shared), pad_token_id, device, prefix_bytes)

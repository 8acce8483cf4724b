"""The checkpoint in Ray's shared memory: stored once a node, mapped into every process, never written to."""

import contextlib
import functools
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from torch import Tensor

from pipeline.core.adapters.checkpoint import Checkpoint, build_base, fingerprint
from pipeline.core.engine.events import JobTested
from pipeline.core.engine.session import Session, test
from pipeline.core.engine.trials import Job, Trial
from pipeline.core.engine.workers import ALONE, Workers
from pipeline.errors import SweepError

_PATIENCE_S = 60.0  # for a process to start on a node, and look
_CHANGED = (
    "The shared checkpoint was changed while the trials ran, so no result can be trusted. "
    "Something trained the frozen weights in place. Mend that, and start a new sweep: resumed, this one "
    "would go on from what it has."
)


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
        raise SweepError(_CHANGED)


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


@final
class SharedBase:
    """The base model of one process, around the node's shared tensors; on a GPU it is a copy of them."""

    def __init__(
        self, checkpoint: Checkpoint, shared: SharedWeights, pad_token_id: int, device: Literal["cpu", "cuda"]
    ) -> None:
        self._checkpoint, self._pad_token_id = checkpoint, pad_token_id
        self._mapped = _mapped(shared)
        self._base = build_base(checkpoint, self._mapped).to(device)
        tensors: dict[str, Tensor] = {
            **dict(self._base.named_parameters(remove_duplicate=False)),
            **dict(self._base.named_buffers(remove_duplicate=False)),
        }
        self._copies = {
            name: tensors[name] for name, one in self._mapped.items() if not _same_memory(tensors[name], one)
        }

    def session(self, job: Job, trial: Trial, folder: Path, workers: Workers = ALONE) -> Session:
        """Open a trial on the base; what its folder holds is taken up again.

        Its epochs raise SweepError, and nothing of them is written, where the copy of a worker was changed.
        """
        session = Session(self._base, self._checkpoint, self._pad_token_id, job, trial, folder, workers)
        session.before_report = functools.partial(self._verify, workers)
        return session

    def test(self, job: Job, trial: Trial, bundle: Path, workers: Workers = ALONE) -> JobTested:
        """Score a bundle on the test rows.

        Raises:
            SweepError: The copy of a worker was changed.
        """
        tested = test(self._base, self._checkpoint, self._pad_token_id, job, trial, bundle, workers)
        self._verify(workers)
        return tested

    def _verify(self, workers: Workers) -> None:
        """Compare the copies of all workers with the shared tensors, one tensor at a time."""
        intact = all(torch.equal(one, self._mapped[name].to(one.device)) for name, one in self._copies.items())
        if not all(workers.gather({workers.rank: intact}).values()):
            raise SweepError(_CHANGED)


def _same_memory(one: Tensor, other: Tensor) -> bool:
    """Whether both are the same memory."""
    return one.device == other.device and one.data_ptr() == other.data_ptr()

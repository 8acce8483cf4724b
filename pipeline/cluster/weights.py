"""The checkpoint in Ray's shared memory: stored once a node, mapped into every process, never written to."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import ray
from torch import Tensor

from pipeline.adapters.checkpoint import Checkpoint, build_base, fingerprint
from pipeline.engine.events import JobTested
from pipeline.engine.session import Session, test
from pipeline.engine.trials import Job, Trial
from pipeline.engine.workers import ALONE, Workers
from pipeline.errors import SweepError


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
    """Make sure that nobody wrote into the shared tensors, which nothing but convention forbids.

    Raises:
        SweepError: They are no longer what was put there.
    """
    if fingerprint(_mapped(shared)) != shared.sha256:
        raise SweepError(
            "The shared checkpoint was changed while the trials ran, so no result can be trusted. "
            "Something trained the frozen weights in place."
        )


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
        self._base = build_base(checkpoint, _mapped(shared)).to(device)

    def session(self, job: Job, trial: Trial, folder: Path, workers: Workers = ALONE) -> Session:
        """Open a trial on the base; what its folder holds is taken up again."""
        return Session(self._base, self._checkpoint, self._pad_token_id, job, trial, folder, workers)

    def test(self, job: Job, trial: Trial, bundle: Path, workers: Workers = ALONE) -> JobTested:
        """Score a bundle on the test rows."""
        return test(self._base, self._checkpoint, self._pad_token_id, job, trial, bundle, workers)

"""Memory of 1, 2 and 4 trials at once on one node, in proportional set size: `python tests/bench/memory.py`.

Each trial is a process that trains on the shared checkpoint, as in a sweep. Its memory is what smaps says: pages that
several processes map are divided among them. For comparison each process loads a checkpoint of its own.
"""

import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch
from rich.console import Console
from rich.table import Table

from pipeline.cluster import connection, weights
from pipeline.config import ClusterConfig, SweepConfig
from pipeline.config.overrides import read_config
from pipeline.core.adapters.checkpoint import Checkpoint, build_base, load_tensors, tensors_of
from pipeline.core.engine.session import Session
from pipeline.core.engine.trials import Job, trial_of
from pipeline.steps.prepare import prepare

MB = 1e6
COUNTS = (1, 2, 4)


def proportional_set_size(process: int | str = "self") -> dict[str, float]:
    """Bytes of a process: all of them, and those that lie in Ray's shared memory."""
    found, mapping = {"total": 0.0, "shared memory": 0.0}, ""
    for line in Path(f"/proc/{process}/smaps").read_text().splitlines():
        words = line.split()
        if words[0] == "Pss:":
            found["total"] += int(words[1]) * 1024
            found["shared memory"] += int(words[1]) * 1024 if "plasma" in mapping else 0
        elif not words[0].endswith(":"):
            mapping = line
    return found


def shared_memory() -> float:
    """Bytes of Ray's shared memory that are in use, over all processes of this user that map it."""
    total = 0.0
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            total += proportional_set_size(entry.name)["shared memory"]
    return total


class Process:
    """One process with a trial in training."""

    def __init__(self, checkpoint: Checkpoint, shared: weights.SharedWeights, pad_token_id: int, own: bool) -> None:
        torch.set_num_threads(1)
        self.checkpoint, self.pad_token_id = checkpoint, pad_token_id
        before = proportional_set_size()["total"]
        if own:
            # load_tensors maps the file, whose pages the processes of a node share too; a cluster's nodes have no file.
            self.base = build_base(checkpoint, {name: part.clone() for name, part in load_tensors(checkpoint).items()})
        else:
            self.base = weights.shared_base(checkpoint, shared, pad_token_id, "cpu")._base
        self.empty = before

    def train(self, job: Job) -> None:
        """Train an epoch."""
        with tempfile.TemporaryDirectory() as folder:
            trial = trial_of(job, 0, {"engine.epochs": 1})
            self.session = Session(self.base, self.checkpoint, self.pad_token_id, job, trial, Path(folder))
            for _ in self.session.events():
                pass

    def size(self) -> dict[str, float]:
        return {**proportional_set_size(), "before the checkpoint": self.empty}


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Of several trials at once on one node, in bytes."""

    empty: float
    """Python and torch."""
    weights: float
    """The checkpoint: in Ray's shared memory, or a copy in each process."""
    training: float
    """What the trials add: adapters, optimisers, activations."""

    @property
    def sum(self) -> float:
        return self.empty + self.weights + self.training


class Node:
    """A checkpoint and a job for which trials can be measured."""

    def __init__(self, overrides: list[str]) -> None:
        config = read_config("sweep", SweepConfig, overrides)
        prepared = prepare(config)
        (self.job,), self.checkpoint = prepared.jobs, prepared.checkpoint
        self.tensors, self.pad_token_id = tensors_of(prepared.base), prepared.tokenizer.pad_token_id
        self.size = sum(tensor.nbytes for tensor in self.tensors.values())

    def measure(self, count: int, own: bool) -> Memory:
        """Train so many trials at once for an epoch, on the shared checkpoint or each on its own."""
        with connection.connected(ClusterConfig(num_cpus=count), shared_bytes=self.size):
            shared = weights.share(self.tensors)
            process: Any = ray.remote(Process).options(num_cpus=1)
            many = [process.remote(self.checkpoint, shared, self.pad_token_id, own) for _ in range(count)]
            ray.get([one.train.remote(self.job) for one in many])
            sizes = ray.get([one.size.remote() for one in many])
            part = self.size * count if own else shared_memory()
        empty = sum(each["before the checkpoint"] for each in sizes)
        private = sum(each["total"] - each["shared memory"] for each in sizes)
        return Memory(empty=empty, weights=part, training=private - empty - (part if own else 0))


def main() -> None:
    console = Console(highlight=False)
    node = Node(["tasks=[sentiment]", "data.max_train_rows=128"])
    name, method = node.checkpoint.config.name, node.job.settings.method.name
    table = Table(title=f"{name}, {node.size / MB:.0f} MB; {node.job.name}, {method}")
    columns = ("checkpoint", "trials", "processes", "weights", "training", "sum")
    for column in columns:
        table.add_column(column, justify="right")
    for own in (False, True):
        for count in COUNTS:
            found = node.measure(count, own)
            figures = (found.empty, found.weights, found.training, found.sum)
            table.add_row("its own" if own else "shared", str(count), *(f"{each / MB:.0f} MB" for each in figures))
    console.print(table)


if __name__ == "__main__":
    main()

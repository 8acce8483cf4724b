"""Which rows go together, in an order that depends on seed and epoch alone; and their batches, made ahead of use."""

import math
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from pipeline.core.engine.lengths import longest_of, widened
from pipeline.core.tasks.model import TaskModel
from pipeline.core.tasks.task import Example, Task

S = TypeVar("S")
T = TypeVar("T")

_JITTER = 0.1  # relative; enough that neighbours change from epoch to epoch, too little to cost padding


def training_batches(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Group all examples by like length, then shuffle the batches; every epoch, from 1, has batches of its own.

    Returns:
        Indices into `lengths` (sub-tokens of each example), each once. The batches are as few as can be, and their
        sizes differ by one at most, at random: a last batch of what is left over would hold the longest examples in
        every epoch, and give each of them the weight of many.
    """
    random = np.random.default_rng([seed, epoch])
    noisy = np.asarray(lengths) * random.uniform(1 - _JITTER, 1 + _JITTER, len(lengths))
    order = random.permutation(len(lengths))
    order = order[np.argsort(noisy[order], kind="stable")]
    num_batches = math.ceil(len(order) / batch_size)
    size, more = divmod(len(order), max(num_batches, 1))
    ends = np.cumsum(random.permutation([size + 1] * more + [size] * (num_batches - more)))
    batches = [part.tolist() for part in np.split(order, ends[:-1])]
    random.shuffle(batches)
    return batches


def evaluation_batches(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Group all examples by length, longest first, so that running out of memory shows at once."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    return [order[i : i + batch_size].tolist() for i in range(0, len(order), batch_size)]


def made_ahead(sources: Sequence[S], make: Callable[[S], T]) -> Generator[T, None, None]:
    """Make each thing while the one before it is used, in a thread.

    Collating takes the interpreter little and a GPU nothing, so that a thread hides it; the processes of torch's
    DataLoader would each begin with seconds of imports in every trial, and carry a share of the rows.

    `make` is called in another thread, for one source at a time and in order; what it raises is raised here. What is
    made of a single source is waited for in any case, and made here.
    """
    if len(sources) == 1:
        yield make(sources[0])
        return
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
        coming = [thread.submit(make, source) for source in sources[:1]]
        for source in sources[1:]:
            made = coming.pop().result()
            coming.append(thread.submit(make, source))
            yield made
        yield from (last.result() for last in coming)


def collated(task: Task, examples: Sequence[Example], pad_token_id: int, model: TaskModel) -> dict[str, Any]:
    """Make a batch, which `move` puts where the model is; one for a GPU lies in page-locked memory, from where it is
    fetched without waiting."""
    batch = task.collate(fitted(examples, task, model), pad_token_id)
    if model.device.type != "cuda":
        return batch
    return {key: value.pin_memory() if isinstance(value, Tensor) else value for key, value in batch.items()}


def fitted(examples: Sequence[Example], task: Task, model: TaskModel) -> Sequence[Example]:
    """The examples; for a GPU as such whose batch is padded to one of a few lengths.

    cuDNN plans its attention anew for each length that a process meets: a process's first epoch ran at 150 rows/s, the
    later ones at 585 (MiniLM on an H100).
    """
    if model.device.type != "cuda":
        return examples
    most = longest_of(task, model)
    return [widened(one, most) for one in examples]


def move(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Put the batch's tensors on the device."""
    return {key: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for key, v in batch.items()}

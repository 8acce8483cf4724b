"""What training costs here, measured as a sweep will run: in as many processes side by side, with their threads."""

import multiprocessing
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from multiprocessing.connection import wait
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Literal

import torch

from pipeline.core.adapters.checkpoint import Checkpoint, Resident, build_base, tensors_of
from pipeline.core.adapters.sites import Sites
from pipeline.core.engine.assemble import fresh_candidate, release
from pipeline.core.engine.batches import collated, evaluation_batches, move, training_batches
from pipeline.core.engine.loop import Training, fit
from pipeline.core.engine.machine import peak_bytes
from pipeline.core.engine.precision import precision
from pipeline.core.engine.prefix import Prefix
from pipeline.core.engine.shelf import Shelf
from pipeline.core.engine.trials import Job, Settings, Trial
from pipeline.core.tasks.model import TaskModel
from pipeline.core.tasks.scores import Scores
from pipeline.core.tasks.task import Encoded
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.synchronize import Barrier

    from transformers import PreTrainedModel

Device = Literal["cpu", "cuda"]
Work = tuple[Job, Trial]
"""A job, and the trial of it that is measured."""

_LEAST, _ENOUGH_S = 4, 2.0
"""Steps, and batches of evaluation, of each job: so many at least, and then until so many seconds have passed."""
_SPREAD = 8  # of the batches of evaluation so many are measured, of all lengths
_KEPT = 12  # batches of which is kept what lies below the adapter, to measure with it


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """What one process needs for one job while the others are at it too."""

    train_s: float
    """Seconds of training a sub-token; from where it is kept, if what lies below the adapter is."""
    eval_s: float
    """Seconds of evaluating one, likewise."""
    test_s: float
    """Seconds of evaluating one through the whole model."""
    fill_s: float = 0.0
    """Seconds of computing what is kept of one, once."""
    memory_bytes: int
    """The most memory that the process had, the checkpoint included."""


def measure_together(
    resident: Resident, work: Sequence[Work], count: int, threads: int, device: Device, prefix_bytes: int = 0
) -> tuple[list[Pace], float]:
    """Measure the jobs, one after another, in `count` processes at once.

    Args:
        resident: What they train on; each has a copy.
        work: What each of them measures.
        count: Processes side by side.
        threads: Of each of them.
        device: Of all of them.
        prefix_bytes: As `measure` has it.

    Returns:
        For each job the mean of all processes; and the seconds until the last of them was ready.

    Raises:
        PipelineError: A process has died.
    """
    context = multiprocessing.get_context("spawn")  # what has computed with several threads cannot be forked
    begun, barrier = time.monotonic(), context.Barrier(count)
    weights = {name: tensor.numpy() for name, tensor in tensors_of(resident.base).items()}  # through no shared memory
    given = resident.checkpoint, weights, resident.tokenizer.pad_token_id, device, list(work), prefix_bytes
    processes, told = {}, []
    try:
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(threads, barrier, theirs), daemon=True)
            process.start()
            theirs.close()  # so that the end of the process is the end of what it says
            processes[ours] = process
        for ours in processes:  # not with the start, which would wait for the imports of one after another
            ours.send(given)
        waiting = list(processes)
        while waiting:
            speaking = wait(waiting)  # whichever is first, or has died while the others wait for it
            told += [ours.recv() for ours in waiting if ours in speaking]
            waiting = [ours for ours in waiting if ours not in speaking]
    except (EOFError, ConnectionError) as error:
        what = f"{count} trials side by side could not be measured: a process has died, perhaps for want of memory"
        raise PipelineError(f"{what}. Run fewer at once (cluster.slots={max(count // 2, 1)})") from error
    finally:
        for process in processes.values():
            process.terminate()
            process.join()
    paces = [
        Pace(
            **{one.name: fmean(getattr(pace, one.name) for pace in same) for one in fields(Pace)[:-1]},
            memory_bytes=max(pace.memory_bytes for pace in same),
        )
        for same in zip(*(paces for paces, _ in told), strict=True)
    ]
    return paces, max(at for _, at in told) - begun


def _work(threads: int, barrier: "Barrier", connection: "Connection") -> None:
    """What a process does: get ready, wait for the others, measure, and say when it was ready and what it found."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the command, and that ends this process
    torch.set_num_threads(threads)
    checkpoint, weights, pad_token_id, device, work, prefix_bytes = connection.recv()
    base = build_base(checkpoint, {name: torch.from_numpy(one) for name, one in weights.items()}).to(device)
    at = time.monotonic()
    barrier.wait()
    connection.send(([measure(base, checkpoint, pad_token_id, job, trial, prefix_bytes) for job, trial in work], at))


def measure(
    base: "PreTrainedModel", checkpoint: Checkpoint, pad_token_id: int, job: Job, trial: Trial, prefix_bytes: int = 0
) -> Pace:
    """Take some steps of a trial, and evaluate some batches of its validation rows, in this process.

    Args:
        prefix_bytes: What may be kept of what lies below the adapter: steps and validation begin there if it is enough.
            Nothing is left of what is kept to measure this.
    """
    settings = trial.settings
    model = fresh_candidate(Sites(base), checkpoint, job.task, settings.method, settings.engine, trial.seed)
    try:
        train, validation = job.encoded["train"], job.encoded["validation"]
        eval_s = test_s = _eval_s(model, job, validation, trial, pad_token_id)
        with tempfile.TemporaryDirectory(prefix="adapters-") as folder:
            few = [_few(part, settings.engine.batch_size * _KEPT) for part in (train, validation)]
            room = prefix_bytes * _size(few) // _size([train, validation])  # what these may take, if all are to fit
            prefix = Prefix(Shelf(Path(folder), room), checkpoint, pad_token_id) if room else None
            kept, fill_s = _kept(prefix, model, job, settings, few) if prefix else (None, 0.0)
            if kept is not None:
                train, validation = kept
                eval_s = _eval_s(model, job, validation, trial, pad_token_id)
            training = Training(model, len(train.examples), settings.engine, trial.seed)
            lengths = _lengths(train)
            batches = training_batches(lengths, settings.engine.batch_size, trial.seed, 1)
            sizes = [sum(lengths[i] for i in batch) for batch in batches]
            train_s = _pace(fit([training], job.task, train, pad_token_id, _never), sizes)
        memory = peak_bytes(model.device)
        return Pace(train_s=train_s, eval_s=eval_s, test_s=test_s, fill_s=fill_s, memory_bytes=memory)
    finally:
        release(model, settings.method)


def _kept(
    prefix: Prefix, model: TaskModel, job: Job, settings: Settings, few: Sequence[Encoded]
) -> tuple[tuple[Encoded, Encoded] | None, float]:
    """These rows with what lies below the adapter, if it can be kept; and the seconds a sub-token of computing it."""
    begun = time.perf_counter()
    known = prefix.known(model, settings.method, settings.engine, few, pooled=job.task.pooled)
    if known is None:
        return None, 0.0
    train, validation = known
    return (train, validation), (time.perf_counter() - begun) / _size(few)


def _eval_s(model: TaskModel, job: Job, rows: Encoded, trial: Trial, pad_token_id: int) -> float:
    """Seconds of evaluation a sub-token."""
    engine, lengths = trial.settings.engine, _lengths(rows)
    batches = evaluation_batches(lengths, engine.eval_batch_size)  # the longest rows come first
    batches = batches[:: max(len(batches) // _SPREAD, 1)]
    sizes = [sum(lengths[i] for i in batch) for batch in batches]
    model.eval()
    with torch.inference_mode(), precision(model.device, engine, writing=job.task.decoding is not None):
        made = (collated(job.task, [rows.examples[i] for i in batch], pad_token_id, model) for batch in batches)
        answered = (job.task.outputs(model, move(one, model.device)) for one in made)
        return _pace(answered, sizes)


def _lengths(rows: Encoded) -> list[int]:
    return [example["length"] for example in rows.examples]


def _size(parts: Sequence[Encoded]) -> int:
    """Sub-tokens of all of them."""
    return sum(map(sum, map(_lengths, parts)))


def _few(rows: Encoded, count: int) -> Encoded:
    """So many of the rows, of all lengths."""
    by_length = sorted(rows.examples, key=lambda example: example["length"])
    return replace(rows, examples=by_length[:: max(len(by_length) // count, 1)][:count])


def _pace(steps: Iterator[object], sizes: Sequence[int]) -> float:
    """Seconds a sub-token, over some of the steps.

    The first one pays for allocations too; it counts where it is the only one.

    Args:
        steps: Each is taken when it is asked for.
        sizes: Sub-tokens of each.
    """
    seconds, counted = 0.0, 0
    for number, size in enumerate(sizes):
        begun = time.perf_counter()
        next(steps)
        if number or len(sizes) == 1:
            seconds, counted = seconds + time.perf_counter() - begun, counted + size
        if number >= _LEAST and seconds > _ENOUGH_S:
            break
    return seconds / max(counted, 1)


def _never(_: Sequence[int]) -> Sequence[Scores]:
    raise AssertionError("a measurement ends before the first evaluation")

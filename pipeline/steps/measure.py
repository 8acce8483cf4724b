"""What training costs here, measured as a sweep will run: in as many processes side by side, with their threads."""

import multiprocessing
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from statistics import fmean
from typing import TYPE_CHECKING, Literal

import torch

from pipeline.core.adapters.checkpoint import Checkpoint, Resident, build_base, tensors_of
from pipeline.core.adapters.sites import Sites
from pipeline.core.engine.assemble import fresh_candidate, release
from pipeline.core.engine.batches import evaluation_batches, move, ready, training_batches
from pipeline.core.engine.evaluate import precision
from pipeline.core.engine.loop import Training, fit
from pipeline.core.engine.machine import peak_bytes
from pipeline.core.engine.trials import Job, Trial
from pipeline.core.tasks.task import Scores
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """What one process needs for one job while the others are at it too."""

    train_s: float
    """Seconds of training a sub-token."""
    eval_s: float
    """Seconds of evaluating one."""
    memory_bytes: int
    """The most memory that the process had, the checkpoint included."""


def measure_together(
    resident: Resident, work: Sequence[Work], count: int, threads: int, device: Device
) -> tuple[list[Pace], float]:
    """Measure the jobs, one after another, in `count` processes at once.

    Args:
        resident: What they train on; each has a copy.
        work: What each of them measures.
        count: Processes side by side.
        threads: Of each of them.
        device: Of all of them.

    Returns:
        For each job the mean of all processes; and the seconds until the last of them was ready.

    Raises:
        PipelineError: A process has died.
    """
    context = multiprocessing.get_context("spawn")  # what has computed with several threads cannot be forked
    begun, barrier = time.monotonic(), context.Barrier(count)
    weights = {name: tensor.numpy() for name, tensor in tensors_of(resident.base).items()}  # through no shared memory
    given = resident.checkpoint, weights, resident.tokenizer.pad_token_id, device, list(work)
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
            train_s=fmean(one.train_s for one in same),
            eval_s=fmean(one.eval_s for one in same),
            memory_bytes=max(one.memory_bytes for one in same),
        )
        for same in zip(*(paces for paces, _ in told), strict=True)
    ]
    return paces, max(at for _, at in told) - begun


def _work(threads: int, barrier: "Barrier", connection: "Connection") -> None:
    """What a process does: get ready, wait for the others, measure, and say when it was ready and what it found."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the command, and that ends this process
    torch.set_num_threads(threads)
    checkpoint, weights, pad_token_id, device, work = connection.recv()
    base = build_base(checkpoint, {name: torch.from_numpy(one) for name, one in weights.items()}).to(device)
    at = time.monotonic()
    barrier.wait()
    connection.send(([measure(base, checkpoint, pad_token_id, job, trial) for job, trial in work], at))


def measure(base: "PreTrainedModel", checkpoint: Checkpoint, pad_token_id: int, job: Job, trial: Trial) -> Pace:
    """Take some steps of a trial, and evaluate some batches of its validation rows, in this process."""
    settings, train, validation = trial.settings, job.encoded["train"], job.encoded["validation"]
    model = fresh_candidate(Sites(base), checkpoint, job.task, settings.method, settings.engine, trial.seed)
    try:
        training = Training(model, len(train.examples), settings.engine, trial.seed)
        lengths = [example["length"] for example in train.examples]
        batches = training_batches(lengths, settings.engine.batch_size, trial.seed, 1)
        sizes = [sum(lengths[i] for i in batch) for batch in batches]
        train_s = _pace(fit([training], job.task, train, pad_token_id, _never), sizes)
        lengths = [example["length"] for example in validation.examples]
        batches = evaluation_batches(lengths, settings.engine.eval_batch_size)  # the longest rows come first
        batches = batches[:: max(len(batches) // _SPREAD, 1)]
        sizes = [sum(lengths[i] for i in batch) for batch in batches]
        model.eval()
        with torch.inference_mode(), precision(model.device, settings.engine):
            collated = (job.task.collate([validation.examples[i] for i in batch], pad_token_id) for batch in batches)
            answered = (job.task.outputs(model, move(ready(one, model.device), model.device)) for one in collated)
            eval_s = _pace(answered, sizes)
        return Pace(train_s=train_s, eval_s=eval_s, memory_bytes=peak_bytes(model.device))
    finally:
        release(model, settings.method)


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

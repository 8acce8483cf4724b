"""A search in the command's own process, without Ray: one trial after another, where a debugger reaches them.

The race, the trainer, the sessions, the events and the folders are those of a search on Ray, and so are, on a CPU, the
weights, to the bit; where ASHA prunes, which trials go on depends on the order in which they arrive.
"""

import bdb
import contextlib
import functools
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Literal

import torch

from pipeline.config import ClusterConfig, SearchConfig
from pipeline.core.adapters.checkpoint import Resident, fingerprint, tensors_of
from pipeline.core.engine.base import CHANGED, SharedBase
from pipeline.core.engine.events import Sink, SweepEvent
from pipeline.core.engine.trainer import Bench, Trainer, TrialFolder
from pipeline.core.engine.trials import Job
from pipeline.errors import SweepError
from pipeline.rules.halving import Action
from pipeline.rules.race import Candidate, Outcome, Place, Race, place_of


def run(
    jobs: Sequence[Job],
    resident: Resident,
    *,
    search: SearchConfig,
    cluster: ClusterConfig,
    folder: Path,
    sink: Sink,
) -> Outcome:
    """Search every job for its best adapter and test the winners, as `pipeline.cluster.experiment.run` does on Ray.

    The arguments are the same; of `cluster` the threads of a trial count, and whether it computes on the GPU, there on
    a copy of what all adapters sit on.

    Raises:
        SweepError: The checkpoint was changed, or nothing can be written to `folder`.
        KeyboardInterrupt: Ctrl-C or SIGTERM, or the debugger was left; the sink is told nothing more.
    """
    tensors = tensors_of(resident.base)
    before = fingerprint(tensors)
    device: Literal["cpu", "cuda"] = "cuda" if cluster.gpus_per_trial else "cpu"
    pad_token_id, kept = resident.tokenizer.pad_token_id, cluster.prefix_bytes
    bench = functools.partial(SharedBase, resident.checkpoint, tensors, pad_token_id, device, kept)
    try:
        return run_on(bench, jobs, search=search, cluster=cluster, folder=folder, sink=sink)
    finally:
        if fingerprint(tensors) != before:
            raise SweepError(CHANGED)


def run_on(
    bench: Callable[[], Bench],
    jobs: Sequence[Job],
    *,
    search: SearchConfig,
    cluster: ClusterConfig,
    folder: Path,
    sink: Sink,
) -> Outcome:
    """Do what `run` does, with anything that can train and test: what `bench` makes."""
    race, trials = Race(jobs, search, time.monotonic), folder.resolve() / "trials"
    named, num_threads = {job.name: job for job in jobs}, torch.get_num_threads()
    trainer = Trainer(
        bench,
        named.__getitem__,
        lambda key: TrialFolder(trials / key),
        root=trials,
        num_threads=cluster.cpus_per_trial,
        fatal=(bdb.BdbQuit,),
    )
    try:
        with _interruptible(sink) as tell:
            for event in _events(race, trainer):
                tell(event)
        return race.outcome()
    except bdb.BdbQuit:
        raise KeyboardInterrupt from None
    finally:
        trainer.close()
        torch.set_num_threads(num_threads)


def _events(race: Race, trainer: Trainer) -> Iterator[SweepEvent]:
    """Run everything that the race has, and yield what happens."""
    paused: list[Place] = []
    while (candidate := _next(race, paused)) is not None:
        place = place_of(candidate)
        trainer.take_up(candidate)
        race.start(place)
        action: Action = "continue"
        while action == "continue":
            yield from race.take_events()
            result = trainer.step()
            action = "stop" if "done" in result else race.report(place, result)
        if action == "pause":
            paused.append(place)
        else:
            race.end(place, result)
        if race.stopped is not None:
            raise SweepError(race.stopped)
        yield from race.take_events()
    race.close()
    yield from race.take_events()


def _next(race: Race, paused: list[Place]) -> Candidate | None:
    """End the waiting trials that were pruned; then those go first that have not run yet."""
    for place in [place for place in paused if race.cut(place)]:
        paused.remove(place)
        race.end(place)
    candidate = race.suggest()
    released = [place for place in paused if race.may_go_on(place)]
    if candidate is not None or not released:
        assert candidate is not None or race.finished, "everything waits for something else"
        return candidate
    paused.remove(released[0])
    return race.candidate(released[0])


@contextlib.contextmanager
def _interruptible(sink: Sink) -> Iterator[Sink]:
    """Let Ctrl-C, or SIGTERM, end the search, but not while an event is told; the second one ends it wherever it is."""
    if threading.current_thread() is not threading.main_thread():
        yield sink
        return
    telling = interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted or not telling:
            raise KeyboardInterrupt
        interrupted = True

    def tell(event: SweepEvent) -> None:
        nonlocal telling
        telling = True
        sink(event)
        telling = False
        if interrupted:
            raise KeyboardInterrupt

    before = {one: signal.signal(one, interrupt) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield tell
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)

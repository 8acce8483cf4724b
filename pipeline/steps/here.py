"""A search in the command's own process, without Ray: one pack after another, where a debugger reaches them.

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
from pipeline.rules.packs import most_together
from pipeline.rules.race import Outcome, Race, place_of
from pipeline.rules.slots import local_node


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
    most = functools.partial(most_together, cluster, [local_node(cluster)])
    race, trials = Race(jobs, search, time.monotonic, most), folder.resolve() / "trials"
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
    while (candidates := race.suggest()) is not None:
        pack = [place_of(candidate) for candidate in candidates]
        trainer.take_up(candidates)
        for place in pack:
            race.start(place)
        while pack:
            yield from race.take_events()
            pack = race.take_in(pack, trainer.step()["results"])
        if race.stopped is not None:
            raise SweepError(race.stopped)
        yield from race.take_events()
    assert race.finished, "everything waits for something else"
    race.close()
    yield from race.take_events()


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

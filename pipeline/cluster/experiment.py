"""A sweep on Ray: one Tune experiment over all jobs, with the test of each winner at its end."""

import contextlib
import functools
import math
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Literal

import ray
from ray import tune

from pipeline.cluster import connection, weights
from pipeline.cluster.depot import Depot
from pipeline.cluster.narrator import Narrator
from pipeline.cluster.parallel import SharedBench, WorkerGroup
from pipeline.cluster.scheduler import Matrix
from pipeline.cluster.searcher import PACK, Candidates
from pipeline.cluster.trainable import Supplies, Trainee
from pipeline.config import ClusterConfig, SearchConfig
from pipeline.core.adapters.checkpoint import Resident, tensors_of
from pipeline.core.engine.events import Sink
from pipeline.core.engine.trials import Job
from pipeline.rules import slots as room
from pipeline.rules.packs import most_together
from pipeline.rules.race import Outcome, Race


def run(
    jobs: Sequence[Job],
    resident: Resident,
    *,
    search: SearchConfig,
    cluster: ClusterConfig,
    folder: Path,
    sink: Sink,
) -> Outcome:
    """Search every job for its best adapter and test the winners, on the Ray that the config names.

    Called again with the same folder after an interruption, it proposes the same trials, replays what they
    have reported, trains only what is left, and ends as if it had not been interrupted.

    Args:
        jobs: The matrix.
        resident: What all adapters sit on. Its tensors are put into Ray's store, from which the trials map them.
        search: Which candidates, and which of them go on; what it may propose was checked (`search.check`).
        cluster: Where they run; has room for a trial (`slots.check`).
        folder: The sweep's own; each trial has a folder below `trials`.
        sink: Is told every event, in this process.

    Raises:
        ConfigError: There is no Ray at the address.
        SweepError: The checkpoint was changed, or nothing can be written to `folder`.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the sink is told nothing more.
    """
    tensors = tensors_of(resident.base)
    with connection.connected(cluster, shared_bytes=sum(tensor.nbytes for tensor in tensors.values())):
        shared = weights.share(tensors)
        device: Literal["cpu", "cuda"] = "cuda" if cluster.gpus_per_trial else "cpu"
        pad_token_id, kept = resident.tokenizer.pad_token_id, cluster.prefix_bytes
        bench = functools.partial(weights.shared_base, resident.checkpoint, shared, pad_token_id, device, kept)
        try:
            return run_on(bench, jobs, search=search, cluster=cluster, folder=folder, sink=sink)
        finally:
            weights.verify(shared)


def run_on(
    bench: Callable[[], SharedBench],
    jobs: Sequence[Job],
    *,
    search: SearchConfig,
    cluster: ClusterConfig,
    folder: Path,
    sink: Sink,
) -> Outcome:
    """Do what `run` does on the Ray that is running, with anything that can train and test.

    `bench` makes what a process keeps resident, and travels to the workers; other nodes reach the folder through Ray.
    """
    with Depot(folder.resolve() / "trials", shared=cluster.name == "existing") as depot:
        stored = {job.name: ray.put(job) for job in jobs}
        together = functools.partial(WorkerGroup, bench, stored, depot, cluster)
        supplies = Supplies(
            bench=bench if cluster.num_workers == 1 else together,
            jobs=stored,
            depot=depot,
            num_threads=cluster.cpus_per_trial,
        )
        most = functools.partial(most_together, cluster, connection.nodes())
        return _fit(supplies, Race(jobs, search, time.monotonic, most), cluster, sink)


def _fit(supplies: Supplies, race: Race, cluster: ClusterConfig, sink: Sink) -> Outcome:
    """Run the Tune experiment to its end."""
    scheduler, narrator = Matrix(race), Narrator(race, sink)
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(room.num_slots(cluster, connection.nodes()))
    trainable = tune.with_resources(tune.with_parameters(Trainee, supplies=supplies), _taken_by(cluster))
    with tempfile.TemporaryDirectory(prefix="tune-") as storage, _interruptible(narrator):
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=Candidates(race),
                scheduler=scheduler,
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=_name,
                trial_dirname_creator=_name,
            ),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=storage,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=cluster.max_failures),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[narrator],
            ),
        )
        try:
            tuner.fit()
        except BaseException:
            scheduler.abandon()
            raise
    race.close()
    narrator.tell()
    return race.outcome()


def _taken_by(cluster: ClusterConfig) -> dict[str, float]:
    """What the actor of a trial takes, in Tune's words."""
    if cluster.num_workers == 1:
        return {"cpu": cluster.cpus_per_trial, "gpu": cluster.gpus_per_trial}
    # The cores are its workers', and Ray Train's affair. The actor stays on the command's node, and as many fit as
    # there are slots; Ray counts in steps of 1e-4.
    slots = room.num_slots(cluster, connection.nodes())
    return {"cpu": 0, connection.here(): math.floor(1e4 / slots) / 1e4}


def _name(trial: tune.experiment.Trial) -> str:
    first = trial.config[PACK][0]
    return f"{first['job'].replace('/', '.')}-{first['index']:02d}-{trial.trial_id}"


@contextlib.contextmanager
def _interruptible(narrator: Narrator) -> Iterator[None]:
    """Let the first Ctrl-C, or SIGTERM, end the experiment between two steps; the second one ends it wherever it is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        narrator.interrupted = True
        for one in before:
            signal.signal(one, signal.default_int_handler)

    before = {one: signal.signal(one, interrupt) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
        if narrator.interrupted:  # after the last step
            raise KeyboardInterrupt
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)

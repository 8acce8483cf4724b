"""A trial on several workers: Ray Train keeps a group of processes, which carries out what one actor asks of it.

    Trainee ─ WorkerGroup ──orders──► every worker: SharedBase, Session ─► gradients summed at every step
                  ▲────────answers─── worker 0, which alone writes the trial's folder

The group stays for all the trials of its actor, so that a trial is a swap here too.
"""

import contextlib
import dataclasses
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, final

import ray
import ray.train
import torch
from ray import cloudpickle
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.queue import Empty, Queue

from pipeline.cluster.depot import Depot
from pipeline.config import ClusterConfig
from pipeline.core.engine.events import EpochSaved, Finished, JobTested, SessionEvent
from pipeline.core.engine.trainer import Bench, TrialFolder, follow
from pipeline.core.engine.trials import Job, Trial
from pipeline.core.engine.workers import ALONE, Workers
from pipeline.errors import PipelineError

_POLL_S = 1.0
_COLLECTIVE_TIMEOUT_S = 600
"""How long a worker waits for the others within a step; one that has died is noticed at once."""


class SharedBench(Bench, Protocol):
    """What each worker keeps resident: `base.SharedBase`, or a stand-in."""

    def session(self, job: Job, trial: Trial, folder: Path, workers: Workers = ALONE) -> Any:
        """Open a trial."""

    def test(self, job: Job, trial: Trial, bundle: Path, workers: Workers = ALONE) -> JobTested:
        """Score a bundle on the test rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Supplies:
    """What every worker needs; travels to it."""

    bench: Callable[[], SharedBench]
    jobs: Mapping[str, "ray.ObjectRef[Job]"]
    depot: Depot
    num_threads: int
    orders: tuple[Queue, ...]
    """One a worker: they do not wait for each other between two trials. What is in a queue is bytes, so that the
    process that keeps it need not load what they are made of."""
    answers: Queue


@dataclass(frozen=True, slots=True)
class _Raised:
    """The last answer of a worker that something went wrong in."""

    rank: int
    error: Exception


@final
class WorkerGroup:
    """Trains and tests on a group of workers; `trainer.Bench` for the actor that owns it."""

    def __init__(
        self,
        bench: Callable[[], SharedBench],
        jobs: Mapping[str, "ray.ObjectRef[Job]"],
        depot: Depot,
        cluster: ClusterConfig,
    ) -> None:
        """Start the workers, on each of which `bench` makes what it keeps resident.

        Returns at once: they are waited for by the first trial.
        """
        nowhere = {"num_cpus": 0}
        self._orders = tuple(Queue(actor_options=nowhere) for _ in range(cluster.num_workers))
        self._answers = Queue(actor_options=nowhere)
        supplies = _Supplies(
            bench=bench,
            jobs=jobs,
            depot=depot,
            num_threads=cluster.cpus_per_trial,
            orders=self._orders,
            answers=self._answers,
        )
        self._storage = tempfile.TemporaryDirectory(prefix="train-")  # for files of Ray Train's own
        trainer = TorchTrainer(
            _work,
            train_loop_config={"supplies": supplies},
            torch_config=TorchConfig(backend=_backend(cluster), timeout_s=_COLLECTIVE_TIMEOUT_S),
            scaling_config=ray.train.ScalingConfig(
                num_workers=cluster.num_workers,
                use_gpu=bool(cluster.gpus_per_trial),
                resources_per_worker=resources(cluster),
            ),
            run_config=ray.train.RunConfig(name="workers", storage_path=self._storage.name),
        )
        self._error: BaseException | None = None
        self._raised: dict[int, Exception] = {}
        self._thread = threading.Thread(target=self._run, args=(trainer,), daemon=True)
        self._thread.start()

    def session(self, job: Job, trial: Trial, folder: Path) -> "ParallelSession":
        """Open a trial on all workers."""
        return ParallelSession(self, trial, folder)

    def together(self, sessions: Sequence[Any], starts: Sequence[int]) -> Any:
        """Refuse: a trial that several workers share has them for itself, as the config says."""
        raise RuntimeError("trials of several workers are not trained together")

    def test(self, job: Job, trial: Trial, bundle: Path) -> JobTested:
        """Score a bundle on the test rows, of which each worker takes its share."""
        tested: JobTested = self.ask("test", trial, bundle.name)
        return tested

    def close(self) -> None:
        """End the workers and give back what they hold."""
        for queue in self._orders:
            with contextlib.suppress(ray.exceptions.RayError):
                queue.put(cloudpickle.dumps(None))
        self._thread.join()
        for queue in (*self._orders, self._answers):
            queue.shutdown(force=True)
        self._storage.cleanup()

    def ask(self, what: str, *arguments: object) -> Any:
        """Have all workers do something, and return what the first of them says.

        Raises:
            PipelineError: What the workers raised all alike.
            Exception: What one of them raised; the group has ended then.
            TrainingFailedError: A worker has died; likewise.
        """
        for queue in self._orders:
            queue.put(cloudpickle.dumps((what, arguments)))
        while True:
            try:
                answer = cloudpickle.loads(self._answers.get(timeout=_POLL_S))
            except Empty:
                if self._thread.is_alive():
                    continue
                raise self._cause() from None  # that the queue was empty says nothing
            if isinstance(answer, _Raised):
                self._raised[answer.rank] = answer.error
                continue
            if isinstance(answer, PipelineError):
                raise answer
            return answer

    def _cause(self) -> BaseException:
        """What was raised in a worker, or else that one has died, at which the others may have raised something too."""
        failed = getattr(self._error, "worker_failures", {})
        if failed and failed.keys() <= self._raised.keys():
            return self._raised[min(failed)]
        return self._error or RuntimeError("the workers ended by themselves")

    def _run(self, trainer: TorchTrainer) -> None:
        try:
            trainer.fit()
        except BaseException as error:  # told to whoever waits for an answer
            self._error = error


@final
class ParallelSession:
    """A trial in training on a group of workers."""

    def __init__(self, group: WorkerGroup, trial: Trial, folder: Path) -> None:
        self._group, self._trial, self._folder = group, trial, folder

    def events(self, start: int = 0) -> Iterator[SessionEvent]:
        """Train to the end, an epoch at a time; the worker that writes the folder sends home what it saves."""
        self._group.ask("open", self._trial, start)
        told = None
        while not isinstance(told, Finished):
            told = self._group.ask("epoch")
            if isinstance(told, EpochSaved) and told.bundle is not None:
                told = dataclasses.replace(told, bundle=self._folder / told.bundle.name)
            yield told

    def close(self) -> None:
        """Give the workers' bases back as they were."""
        self._group.ask("close")


def resources(cluster: ClusterConfig) -> dict[str, float]:
    """What one worker takes, in Ray's words."""
    amounts = {"CPU": float(cluster.cpus_per_trial), "GPU": cluster.gpus_per_trial}
    return {kind: amount for kind, amount in amounts.items() if amount}


def _backend(cluster: ClusterConfig) -> Literal["gloo", "nccl"]:
    """What sums the gradients: nccl refuses two processes on one GPU, where shares of GPUs may put them."""
    return "nccl" if cluster.gpus_per_trial >= 1 else "gloo"


def _work(config: dict[str, _Supplies]) -> None:
    """The life of a worker: carry out orders until there are no more."""
    supplies = config["supplies"]
    context = ray.train.get_context()
    workers = Workers(context.get_world_rank(), context.get_world_size())
    torch.set_num_threads(supplies.num_threads)
    with tempfile.TemporaryDirectory(prefix="folders-") as scratch:
        worker = _Worker(supplies, workers, Path(scratch))
        while (order := cloudpickle.loads(supplies.orders[workers.rank].get())) is not None:
            what, arguments = order
            try:
                answer = getattr(worker, what)(*arguments)
            except PipelineError as error:  # what is wrong with a trial is found by all of them alike
                answer = error
            except Exception as error:  # ends the group; Ray Train hands it on in a private class of its own
                supplies.answers.put(cloudpickle.dumps(_Raised(workers.rank, error)))
                raise
            if workers.rank == 0:
                supplies.answers.put(cloudpickle.dumps(answer))


class _Worker:
    """What a worker can be ordered to do, by name."""

    def __init__(self, supplies: _Supplies, workers: Workers, scratch: Path) -> None:
        self._supplies, self._workers, self._scratch = supplies, workers, scratch
        self._bench = supplies.bench()
        self._session: Any = None
        self._folder: TrialFolder | None = None
        self._events: Iterator[SessionEvent] = iter(())

    def open(self, trial: Trial, start: int) -> None:
        self.close()
        if self._workers.rank:  # the first one may remove a damaged snapshot
            torch.distributed.barrier()
        self._folder = self._supplies.depot.folder(trial.key, self._scratch)
        self._session = self._bench.session(self._job(trial), trial, self._folder.path, self._workers)
        if self._workers.rank == 0:
            torch.distributed.barrier()
        self._events = self._session.events(start)

    def epoch(self) -> EpochSaved | Finished:
        return follow(self._events, None if self._workers.rank else self._folder)

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
        if self._folder is not None:
            self._folder.close()
        self._session = self._folder = None

    def test(self, trial: Trial, bundle: str) -> JobTested:
        folder = self._supplies.depot.folder(trial.key, self._scratch)
        try:
            return self._bench.test(self._job(trial), trial, folder.path / bundle, self._workers)
        finally:
            folder.close()

    def _job(self, trial: Trial) -> Job:
        job: Job = ray.get(self._supplies.jobs[trial.job])
        return job

"""What grows with tasks x trials: a sweep of trials that train nothing, through Ray, Tune and MLflow for real.

`python -m tests.bench.scale [jobs] [trials a job]`: 10 and 100 unless said. Shows per trial the time of the command,
its own processor time, events (ours and Tune's), rows in MLflow's database, and files; and what travels between nodes
for a real one.
"""

import dataclasses
import functools
import resource
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ray
import torch
from ray import cloudpickle
from ray.air.execution._internal.event_manager import RayEventManager
from ray.tune.execution.tune_controller import TuneController
from rich.console import Console
from rich.table import Table

from pipeline.cluster import connection, weights
from pipeline.cluster import experiment as sweep
from pipeline.config import ClusterConfig, Range, SearchConfig, SweepConfig, TrackingConfig
from pipeline.config.overrides import read_config
from pipeline.core.adapters.checkpoint import tensors_of
from pipeline.core.engine.bundle import BundleRecord, write_bundle
from pipeline.core.engine.events import Diverged, EpochSaved, Evaluated, Finished, JobTested, SessionEvent, SweepEvent
from pipeline.core.engine.session import Session
from pipeline.core.engine.trials import Job, Trial, trial_of
from pipeline.core.engine.workers import ALONE, Workers
from pipeline.steps.prepare import prepare
from pipeline.tracking.recorder import SweepFacts, SweepRecorder
from pipeline.tracking.store import open_store
from tests.played import in_turn


class NoTraining:
    """A trial of one epoch, which takes no time and leaves a bundle."""

    def __init__(self, record: BundleRecord, folder: Path) -> None:
        self._record, self._folder = record, folder

    def events(self, start: int = 0) -> Iterator[SessionEvent]:
        bundle = self._folder / "bundle-1"
        shutil.rmtree(bundle, ignore_errors=True)
        write_bundle(bundle, self._record, {"head.weight": torch.zeros(2, 2)})
        values = {"train_loss": 1.0, "train_s": 0.1, "eval_s": 0.1, "rows_per_s": 1.0, "peak_bytes": 1}
        losses = tuple((step, 1.0, 0.1) for step in range(1, 51))
        scored = Evaluated(epoch=1, step=50, primary=0.5, metrics={"accuracy": 0.5}, best=True, **values)  # type: ignore[arg-type]
        yield EpochSaved(evaluated=scored, losses=losses, bundle=bundle, went_on=False)
        yield Finished(epochs=1, best_epoch=1, best_primary=0.5, reason="all epochs done")

    def close(self) -> None:
        pass


class NoBench:
    def __init__(self, record: BundleRecord) -> None:
        self._record = record

    def session(self, job: Job, trial: Trial, folder: Path, workers: Workers = ALONE) -> NoTraining:
        folder.mkdir(parents=True, exist_ok=True)
        return NoTraining(self._record, folder)

    def together(
        self, sessions: Sequence[NoTraining], starts: Sequence[int]
    ) -> Iterator[tuple[int, SessionEvent | Diverged]]:
        return in_turn(sessions, starts)

    def test(self, job: Job, trial: Trial, bundle: Path, workers: Workers = ALONE) -> JobTested:
        values = {"validation": 0.5, "primary": 0.5, "low": 0.4, "high": 0.6, "baseline": 0.5}
        return JobTested(
            trial=trial, bundle=bundle, scores={}, predictions=(), num_truncated=0, num_trained=4, **values
        )

    def close(self) -> None:
        pass


def main() -> None:
    num_jobs, num_trials = (int(word) for word in [*sys.argv[1:], "10", "100"][:2])
    cloudpickle.register_pickle_by_value(sys.modules["__main__"])
    config = read_config("sweep", SweepConfig, ["tasks=[sentiment]", "engine.epochs=1"])
    prepared = prepare(config)
    (job,), checkpoint, base = prepared.jobs, prepared.checkpoint, prepared.base
    tensors = tensors_of(base)
    jobs = [
        dataclasses.replace(job, name=f"sentiment/d{i}", registered_name=f"sentiment.d{i}") for i in range(num_jobs)
    ]
    record = BundleRecord(
        job=job.name,
        task=job.task.config,
        labels=list(job.task.labels),
        method=job.settings.method,
        engine=job.settings.engine,
        checkpoint=checkpoint.config,
        checkpoint_sha256=checkpoint.sha256,
        seed=0,
        epoch=1,
        validation={"accuracy": 0.5},
        data={},
        num_trained=4,
        num_checkpoint=sum(part.numel() for part in base.parameters()),
    )
    rates = Range(log_uniform=[1e-4, 1e-2])
    search = SearchConfig(scheduler="none", trials=num_trials, cohort=num_trials, space={"engine.learning_rate": rates})
    told: list[SweepEvent] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = open_store(TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db", artifacts=str(folder / "artifacts")))
        facts = SweepFacts(
            id="scale", jobs=jobs, checkpoint=checkpoint, config={}, seed=0, git_commit=None, versions={}
        )
        cluster = ClusterConfig()
        with connection.connected(cluster, shared_bytes=sum(tensor.nbytes for tensor in tensors.values())):
            travels = {
                "the checkpoint, once a node": stored(weights.share(tensors).tensors),
                "a job's data, once a node": stored(ray.put(job)),
            }
            begun, used = time.perf_counter(), _processor_s()
            recorder = SweepRecorder(store, facts, folder / "sweep")

            def sink(event: SweepEvent) -> None:
                told.append(event)
                recorder(event)

            bench = functools.partial(NoBench, record)
            with counted(RayEventManager, "resolve_future") as answers, counted(TuneController, "step") as steps:
                sweep.run_on(bench, jobs, search=search, cluster=cluster, folder=folder / "sweep", sink=sink)
            searched = time.perf_counter() - begun
            recorder.close()
            recorded, processor = time.perf_counter() - begun, _processor_s() - used
        with sqlite3.connect(folder / "mlflow.db") as database:
            rows = {
                name: database.execute(f"select count(*) from {name}").fetchone()[0]
                for name in ("runs", "metrics", "params", "tags")
            }
        size = (folder / "mlflow.db").stat().st_size
        files = sum(1 for file in folder.rglob("*") if file.is_file())
        session = Session(base, checkpoint, prepared.tokenizer.pad_token_id, job, trial_of(job, 0, {}), folder / "one")
        travels["home from another node, each epoch"] = sent_home(session)
    trials = num_jobs * num_trials
    table = Table(title=f"{num_jobs} jobs x {num_trials} trials that train nothing, 2 slots")
    for column in ("what", "all", "a trial"):
        table.add_column(column, justify="left" if column == "what" else "right")
    figures = {
        "search, s": searched,
        "until all is recorded, s": recorded,
        "processor time of the command, s": processor,
        "events": len(told),
        "answers of processes that Tune handles": answers.call_count,
        "steps of Tune's controller": steps.call_count,
        **{f"rows of {name}": count for name, count in rows.items()},
        "database, kB": size / 1000,
        "files": files,
    }
    for what, value in figures.items():
        table.add_row(what, f"{value:,.1f}", f"{value / trials:,.3f}")
    Console().print(table)
    table = Table(title=f"What travels to and from other nodes: {job.name}, {checkpoint.config.name}")
    table.add_column("what")
    table.add_column("kB", justify="right")
    for what, size in travels.items():
        table.add_row(what, f"{size / 1000:,.0f}")
    Console().print(table)


def counted(owner: type[Any], method: str) -> AbstractContextManager[Any]:
    """Count the calls of a method, which does what it did."""
    return patch.object(owner, method, autospec=True, side_effect=getattr(owner, method))


def stored(reference: "ray.ObjectRef[Any]") -> int:
    """Bytes that something takes in the object store."""
    return int(ray.experimental.get_object_locations([reference])[reference]["object_size"])


def sent_home(session: Session) -> int:
    """Bytes that a trial has in its folder after one epoch that was its best: snapshot and bundle."""
    next(event for event in session.events() if isinstance(event, EpochSaved))
    session.close()
    return sum(file.stat().st_size for file in session.folder.rglob("*") if file.is_file())


def _processor_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()

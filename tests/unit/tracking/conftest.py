"""A real SQLite store, and a sweep of one job made by hand."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig

from pipeline.config import CheckpointConfig, EngineConfig, MethodConfig, TaskConfig, TrackingConfig
from pipeline.core.adapters.checkpoint import Checkpoint
from pipeline.core.data.ledger import Ledger
from pipeline.core.data.rows import Dataset, Row, Split, make_row
from pipeline.core.engine.bundle import BundleRecord, read_bundle, write_bundle
from pipeline.core.engine.events import Evaluated, JobTested, TrialEnded, TrialReported
from pipeline.core.engine.trials import Job, Settings, Trial, trial_of
from pipeline.core.tasks.classification import Classification
from pipeline.rules.versions import Alias, Registered, Verdict
from pipeline.tracking.recorder import SweepFacts, SweepRecorder
from pipeline.tracking.registry import champion_of, register
from pipeline.tracking.run import create_run
from pipeline.tracking.store import Store, open_store

CHECKPOINT = CheckpointConfig(name="tiny", source="path", location="tiny", sha256="c0ffee")
ANSWERS = (
    {"label": "good", "score": 0.9, "scores": {"bad": 0.1, "good": 0.9}},
    {"label": "bad", "score": 0.6, "scores": {"bad": 0.6, "good": 0.4}},
)
TASK = TaskConfig(name="sentiment", kind="classification", default_domain="films")


@pytest.fixture
def tracking(empty_database: Path, tmp_path: Path) -> TrackingConfig:
    """Where a fresh store of the test's own is."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db", artifacts=str(tmp_path / "mlartifacts"))


@pytest.fixture
def store(tracking: TrackingConfig) -> Store:
    """The store, opened."""
    return open_store(tracking)


def a_row(text: str, origin: str = "any") -> Row:
    """A good row, with the digest that its contents have."""
    (row,) = make_row({"text": text, "label": "good"}, TASK, origin)
    assert isinstance(row, Row)
    return row


def make_job() -> Job:
    """A job of four training rows and two in each other split."""

    def split(name: str, count: int) -> Split:
        rows = [a_row(f"{name} {i}", f"{name}:{i}") for i in range(count)]
        return Split(name, tuple(rows), f"{name}-print", None)

    splits = split("train", 4), split("validation", 2), split("test", 2)
    return Job(
        name="sentiment/films",
        registered_name="sentiment",
        task=Classification(TASK, ["bad", "good"]),
        dataset=Dataset("sentiment", "films", "starter", *splits, overlap={}, notes=()),
        encoded={},
        settings=Settings(method=MethodConfig(name="pfeiffer"), engine=EngineConfig(epochs=4)),
        seed=0,
    )


@pytest.fixture
def job() -> Job:
    """The job of the tests."""
    return make_job()


def make_facts(job: Job, folder: Path) -> SweepFacts:
    """A sweep of that job."""
    return SweepFacts(
        id="20260101-000000-abcd",
        jobs=[job],
        checkpoint=Checkpoint(
            config=CHECKPOINT, folder=folder, sha256="c0ffee", architecture=BertConfig(), has_lm_head=False
        ),
        config={"seed": 0, "data": {"source": "starter"}, "search": {"trials": 2}, "task": {"sentiment": {}}},
        seed=0,
        git_commit="1234567",
        versions={"torch": "2.13.0"},
    )


@pytest.fixture
def facts(job: Job, tmp_path: Path) -> SweepFacts:
    """The sweep of the tests."""
    return make_facts(job, tmp_path)


def recording(store: Store, facts: SweepFacts, tell: Callable[[str], None] | None = None) -> SweepRecorder:
    """Start a recorder whose sweep has a folder of the test's own."""
    return SweepRecorder(store, facts, facts.checkpoint.folder / facts.id, tell=tell)


def verdict(alias: Alias, reason: str = "the test says so", ledger: Ledger | None = None, *, news: str = "") -> Verdict:
    """What a judge may say."""
    return Verdict(alias=alias, reason=reason, ledger=ledger or Ledger(trained=()), news=news)


def enrol(
    store: Store, sweep: str, winner: JobTested, said: Verdict, *, job: Job | None = None, run_id: str | None = None
) -> Registered:
    """Register the winner of a sweep, as judged beside the champion that there is."""
    job = job or make_job()
    champion = champion_of(store, job.registered_name)
    return register(
        store,
        sweep,
        job,
        winner,
        read_bundle(winner.bundle),
        run_id or create_run(store, "job", {"kind": "job", "sweep_id": sweep}).id,
        said,
        replaces=None if champion is None else champion.version,
    )


@dataclass(frozen=True, kw_only=True)
class Story:
    """Events as a sweep tells them."""

    job: Job
    folder: Path

    def trial(self, index: int = 0) -> Trial:
        params = {"engine.learning_rate": 0.001 * (index + 1), "method.width": 8, "engine.batch_size": 16}
        return trial_of(self.job, index, params)

    def bundle(self, index: int = 0) -> Path:
        folder = self.folder / "bundles" / str(index)
        if not folder.exists():
            record = BundleRecord(
                job=self.job.name,
                task=TASK,
                labels=["bad", "good"],
                method=self.trial(index).settings.method,
                engine=self.trial(index).settings.engine,
                checkpoint=CHECKPOINT,
                checkpoint_sha256="c0ffee",
                seed=0,
                epoch=2,
                validation={"accuracy": 0.75},
                data={},
                num_trained=10,
                num_checkpoint=1000,
            )
            write_bundle(folder, record, {"head.weight": torch.zeros(2, 4)})
        return folder

    def epoch(self, epoch: int, index: int = 0) -> TrialReported:
        first = 2 * (epoch - 1)
        evaluated = Evaluated(
            epoch=epoch,
            step=first + 2,
            primary=0.5 + epoch / 8,
            metrics={"accuracy": 0.5 + epoch / 8, "macro_f1": 0.5},
            best=True,
            loss=0.7,
            train_loss=0.6,
            train_s=1.0,
            eval_s=0.5,
            rows_per_s=50.0,
            peak_bytes=2**29,
        )
        losses = ((first + 1, 0.7, 1e-4), (first + 2, 0.6, 2e-4))
        return TrialReported(trial=self.trial(index), evaluated=evaluated, losses=losses)

    def end(self, index: int = 0, **changes: Any) -> TrialEnded:
        event = TrialEnded(
            trial=self.trial(index),
            status="done",
            reason="all epochs done",
            epochs=2,
            best_epoch=2,
            best_primary=0.75,
            bundle=self.bundle(index),
            train_s=3.0,
        )
        return replace(event, **changes)

    def tested(self, index: int = 0) -> JobTested:
        return JobTested(
            trial=self.trial(index),
            bundle=self.bundle(index),
            validation=0.75,
            scores={"accuracy": 0.7, "macro_f1": 0.6},
            primary=0.7,
            low=0.6,
            high=0.8,
            baseline=0.5,
            predictions=tuple(
                {"origin": row.origin, "digest": row.digest, **row.fields, "predicted": answered}
                for row, answered in zip(self.job.dataset.test.rows, ANSWERS, strict=False)
            ),
            num_truncated=1,
            num_trained=10,
        )


@pytest.fixture
def story(job: Job, tmp_path: Path) -> Story:
    """What happens in that sweep."""
    return Story(job=job, folder=tmp_path)


@pytest.fixture
def runs(store: Store) -> Callable[[], Mapping[str, Any]]:
    """A function that reads all runs of the store by name, and refuses two of one name."""

    def read() -> Mapping[str, Any]:
        found = store.client.search_runs([store.experiment_id])
        names = [run.info.run_name for run in found]
        assert len(names) == len(set(names)), f"a run was made twice: {names}"
        return dict(zip(names, found, strict=True))

    return read

"""Tags, params and metric points of the runs of a sweep: what they are called; nothing is written here.

The MLflow UI filters runs one by one, so what identifies a sweep is repeated on its jobs and trials.
"""

import dataclasses
import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.core.adapters.checkpoint import Checkpoint
from pipeline.core.engine.bundle import BundleRecord
from pipeline.core.engine.events import Evaluated, JobTested, TrialEnded
from pipeline.core.engine.trials import Job, Trial

if TYPE_CHECKING:
    from pipeline.tracking.run import Point

SWEEP = ""
"""Place of the sweep's own run; a job's is its name, a trial's its key."""

_SHARED = ("data", "search", "seed")
"""Config keys that are repeated on jobs and trials."""


def place(tags: Mapping[str, str]) -> str:
    """Tell which run of its sweep the tags belong to."""
    return {"sweep": SWEEP, "job": tags.get("job", "")}.get(tags["kind"], tags.get("trial", ""))


def common_tags(
    checkpoint: Checkpoint, seed: int, git_commit: str | None, versions: Mapping[str, str]
) -> dict[str, str]:
    """Tags of every run of a sweep."""
    tags = {"checkpoint": checkpoint.config.name, "checkpoint_sha256": checkpoint.sha256, "seed": str(seed)}
    tags["packages"] = ", ".join(f"{package} {version}" for package, version in versions.items())
    if git_commit is not None:
        tags |= {"git_commit": git_commit, "mlflow.source.git.commit": git_commit}
    return tags


def sweep_tags(sweep_id: str, common: Mapping[str, str], jobs: Sequence[Job]) -> dict[str, str]:
    """Tags of the sweep's run; those that differ between the jobs are lists."""
    prints = "".join(data_fingerprint(job) for job in jobs)
    return {
        **common,
        "kind": "sweep",
        "sweep_id": sweep_id,
        "task": ",".join(dict.fromkeys(job.dataset.task for job in jobs)),
        "domain": ",".join(dict.fromkeys(job.dataset.domain for job in jobs)),
        "method": ",".join(dict.fromkeys(job.settings.method.name for job in jobs)),
        "data_fingerprint": hashlib.sha256(prints.encode()).hexdigest()[:16],
    }


def job_tags(sweep_id: str, common: Mapping[str, str], job: Job) -> dict[str, str]:
    """Tags of a job's run."""
    return {
        **common,
        "kind": "job",
        "sweep_id": sweep_id,
        "job": job.name,
        "task": job.dataset.task,
        "domain": job.dataset.domain,
        "method": job.settings.method.name,
        "metric": job.task.config.primary,
        "seed": str(job.seed),
        "data_fingerprint": data_fingerprint(job),
    }


def trial_tags(sweep_id: str, common: Mapping[str, str], job: Job, trial: Trial) -> dict[str, str]:
    """Tags of a trial's run."""
    method = trial.settings.method.name
    return job_tags(sweep_id, common, job) | {"kind": "trial", "trial": trial.key, "method": method}


def data_fingerprint(job: Job) -> str:
    """Fingerprints of train, validation and test."""
    return "-".join(job.dataset.fingerprints.values())


def sweep_params(config: Mapping[str, Any]) -> dict[str, Any]:
    """Params of the sweep's run: the config but for the tasks' own descriptions, which are an artifact."""
    return flatten({key: value for key, value in config.items() if key != "task"})


def shared_params(config: Mapping[str, Any]) -> dict[str, Any]:
    """Params that every job and trial repeats."""
    return flatten({key: config[key] for key in _SHARED if key in config})


def trial_params(trial: Trial) -> dict[str, Any]:
    """Params of a trial: learning rate, width and each searched key by its last word, other settings dotted.

    No setting is there twice: the UI draws every param that differs.
    """
    short = dict.fromkeys(("engine.learning_rate", "method.width", *trial.params))
    last = [key.rpartition(".")[2] for key in short]
    names = {key: word if last.count(word) == 1 else key for key, word in zip(short, last, strict=True)}
    settings = flatten(dataclasses.asdict(trial.settings))
    return {names.get(key, key): value for key, value in settings.items()}


def epoch_points(evaluated: Evaluated, losses: Sequence[tuple[int, float, float]]) -> "Iterator[Point]":
    """Points of one epoch: training by step, evaluation by epoch."""
    # First, since the UI compares runs by the metric that they got first.
    yield "eval/primary", evaluated.primary, evaluated.epoch
    for name, value in evaluated.metrics.items():
        yield f"eval/{name}", value, evaluated.epoch
    if math.isfinite(evaluated.loss):
        yield "eval/loss", evaluated.loss, evaluated.epoch
    for step, loss, learning_rate in losses:
        yield "train/loss", loss, step
        yield "train/learning_rate", learning_rate, step
    yield "train/epoch_loss", evaluated.train_loss, evaluated.epoch
    yield "train/rows_per_s", evaluated.rows_per_s, evaluated.epoch
    yield "train/peak_bytes", evaluated.peak_bytes, evaluated.epoch


def end_points(event: TrialEnded) -> "Iterator[Point]":
    """Points of a trial's end."""
    yield "train/seconds", event.train_s, event.epochs
    if event.best_primary is not None:
        yield "best/primary", event.best_primary, event.best_epoch


def end_tags(event: TrialEnded) -> dict[str, Any]:
    """Tags of a trial's end, but for `status`."""
    return {"reason": event.reason, "epochs": event.epochs, "best_epoch": event.best_epoch}


def test_points(event: JobTested) -> "Iterator[Point]":
    """Points of a job's end."""
    yield "best/primary", event.validation, 0
    values = {"primary": event.primary, "low": event.low, "high": event.high, "baseline": event.baseline}
    for name, value in ({**event.scores} | values).items():
        yield f"test/{name}", value, 0
    yield "test/truncated_rows", event.num_truncated, 0


def sweep_points(event: JobTested) -> "Iterator[Point]":
    """Points of a job's end on the run of its sweep, so that sweeps are compared by them: `test/sentiment/films`, and
    behind it in the alphabet `.baseline`, `.high` and `.low`."""
    name = re.sub(r"[^/\w.\- :]", "_", f"test/{event.trial.job}")  # all that MLflow takes in the name of a metric
    values = {"": event.primary, ".baseline": event.baseline, ".high": event.high, ".low": event.low}
    for ending, value in values.items():
        yield name + ending, value, 0


def size_points(record: BundleRecord) -> "Iterator[Point]":
    """Points about what was trained."""
    yield "size/trained_parameters", record.num_trained, 0
    yield "size/share", record.share, 0


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested mappings into one with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat

"""What is recorded in a place, read from its store and its files: nothing that another run has otherwise."""

import json
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline.config import TaskConfig
from pipeline.core.data.ledger import Ledger, read_ledger

TIMED = ("train/seconds", "train/rows_per_s", "train/peak_bytes", "outside_s", "spent_s.")
"""How metrics begin that say what something took, which no two sweeps have alike."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """What is compared of a registered version."""

    weights: str
    verdict: str
    slices: tuple[str, ...]
    trained: frozenset[str]


def versions(uri: str, task: TaskConfig) -> dict[int, Version]:
    """Every registered version of a task, read from its files."""
    found = {}
    for version in MlflowClient(uri).search_model_versions(f"name = '{task.name}'"):
        (bundle,) = Path(version.source).rglob("bundle.json")
        ledger = ledger_of(Path(version.source), task)
        found[int(version.version)] = Version(
            weights=json.loads(bundle.read_text("utf-8"))["weights_sha256"],
            verdict=version.tags["verdict"],
            slices=tuple(one.digest for one in ledger.slices),
            trained=frozenset(row.digest for row in ledger.trained),
        )
    return found


def ledger_of(model: Path, task: TaskConfig) -> Ledger:
    """What a registered version has seen."""
    (file,) = model.rglob("ledger.json")
    return read_ledger(file.parent, task)


def aliases(uri: str, name: str) -> dict[str, int]:
    """Which version is which."""
    return {alias: int(one) for alias, one in MlflowClient(uri).get_registered_model(name).aliases.items()}


def runs(uri: str) -> list[Run]:
    """Every run that was not deleted."""
    client = MlflowClient(uri)
    return list(client.search_runs([one.experiment_id for one in client.search_experiments()], max_results=1000))


def running(uri: str) -> list[str]:
    """The ids of runs that were not ended."""
    return [run.info.run_id for run in runs(uri) if run.info.status == "RUNNING"]

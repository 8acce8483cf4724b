"""A sweep pruned by order of arrival (ASHA) that is killed and resumed: it may prune others, but trains all alike."""

import os
import signal
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline.core.engine.session import read_snapshot
from tests.commands.workplace import Workplace
from tests.faults import stage

pytestmark = pytest.mark.faults

# Its first rung is at the second epoch, so that every trial has at least two to compare.
SEARCH = ["search.scheduler=asha", "search.first_rung=0.125", "search.trials=4", "engine.epochs=16", "seed=7"]
PRUNING = "another run, or this one resumed, may prune other trials"
History = dict[int, dict[str, float]]
"""Epoch -> what was measured after it."""


def histories(place: Workplace, sweep_id: str) -> dict[str, History]:
    """Trial -> what MLflow has of its epochs: all validation metrics, and the mean training loss."""
    uri = f"sqlite:///{place.cwd}/mlflow.db"
    client, found = MlflowClient(uri), dict[str, History]()
    for run in stage.runs(uri, sweep_id)["trial"]:
        history = found[run.data.tags["trial"]] = dict[int, dict[str, float]]()
        for name in run.data.metrics:
            if name.startswith("eval/") or name == "train/epoch_loss":
                for point in client.get_metric_history(run.info.run_id, name):
                    history.setdefault(point.step, {})[name] = point.value
    return found


def trained_epochs(place: Workplace) -> dict[str, int]:
    """Trial -> how far it was trained."""
    return {trial.name: epochs_of(trial) for trial in place.cwd.glob("runs/*/trials/*")}


def epochs_of(trial: Path) -> int:
    newest = max(trial.glob("snapshot-*.pt"), key=lambda file: int(file.stem.partition("-")[2]))
    state = read_snapshot(newest)
    assert state is not None
    return len(state["reports"])


def test_a_killed_and_resumed_sweep_trains_as_an_undisturbed_one_does_whatever_it_prunes(
    checkpoints: dict[str, str], formats: Path, tmp_path: Path
) -> None:
    words = ["tasks=[intent,ner,medqa]", f"data.source={formats}", f"checkpoint={checkpoints['bert']}", *SEARCH]
    words += ["engine.batch_size=2", "search.space.method.width={choice:[2,4]}"]

    calm = stage.Running(Workplace(tmp_path / "calm"), "sweep", *words)
    undisturbed = calm.end()
    assert undisturbed.code == 0, undisturbed.out + undisturbed.err

    killed = stage.Running(Workplace(tmp_path / "killed"), "sweep", *words)
    killed.read_until("  trial ./4", 4)
    os.killpg(killed.process.pid, signal.SIGKILL)
    assert killed.end().code == -signal.SIGKILL
    before = trained_epochs(killed.place)
    again = stage.Running(killed.place, "sweep", f"resume={killed.sweep_id}")
    resumed = again.end()
    assert resumed.code == 0, resumed.out + resumed.err
    stage.assert_recorded_once(f"sqlite:///{again.place.cwd}/mlflow.db", again.sweep_id, jobs=3, trials=12)
    assert sum(trained_epochs(again.place).values()) > sum(before.values()) > 0  # killed when there was more to train

    for done in (undisturbed, resumed):
        start, _, _ = done.out.partition("Sweep ")
        assert PRUNING in start

    one, other = histories(calm.place, calm.sweep_id), histories(again.place, again.sweep_id)
    assert set(one) == set(other) and len(one) == 12
    common = {trial: one[trial].keys() & other[trial].keys() for trial in one}
    assert all(epochs >= {1, 2} for epochs in common.values())
    assert sum(len(epochs) for epochs in common.values()) >= 30  # some of them further than the first rung
    for trial, epochs in common.items():
        for epoch in sorted(epochs):
            assert one[trial][epoch] == other[trial][epoch], (trial, epoch)
            assert one[trial][epoch].keys() > {"eval/primary", "train/epoch_loss"}

    ends, other_ends = trained_epochs(calm.place), trained_epochs(again.place)
    for recorded, far in ((one, ends), (other, other_ends)):  # none is pruned before what its adapter has seen
        assert sorted(max(epochs) for epochs in recorded.values()) == sorted(far.values())
    alike = [trial for trial in ends if ends[trial] == other_ends[trial]]
    assert len(alike) >= 2
    hashes, other_hashes = stage.weights(calm.place), stage.weights(again.place)
    for trial in alike:
        assert hashes[trial] == other_hashes[trial], (trial, ends[trial])

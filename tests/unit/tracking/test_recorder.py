import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from matplotlib.figure import Figure
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.utils import validation

from pipeline.config import TrackingConfig
from pipeline.core.engine.events import SweepEvent, TrialEnded, TrialPaused, TrialStarted
from pipeline.errors import TrackingError
from pipeline.tracking import fields
from pipeline.tracking.recorder import SweepFacts
from pipeline.tracking.store import Store, open_store
from tests.powercut import PowerCut
from tests.unit.tracking.conftest import a_row, enrol, recording, verdict

Runs = Callable[[], Mapping[str, Any]]
TRIAL, OTHER, JOB = "00 sentiment/films", "01 sentiment/films", "sentiment/films"


def whole_sweep(story: Any) -> list[SweepEvent]:
    first, second = story.trial(0), story.trial(1)
    pruned = story.end(1, status="pruned", reason="pruned at epoch 1: 2nd of 2", epochs=1, best_epoch=1)
    return [
        TrialStarted(trial=first),
        story.epoch(1),
        TrialPaused(trial=first),
        TrialStarted(trial=second),
        story.epoch(1, 1),
        pruned,
        TrialStarted(trial=first),
        story.epoch(2),
        story.end(),
        story.tested(),
    ]


def tell(store: Store, facts: SweepFacts, events: list[SweepEvent]) -> None:
    with recording(store, facts) as recorder:
        for event in events:
            recorder(event)


def artifacts(store: Store, run: Any, path: str | None = None) -> set[str]:
    return {Path(item.path).name for item in store.client.list_artifacts(run.info.run_id, path)}


def content(run: Any, path: str) -> Any:
    return json.loads((Path(run.info.artifact_uri) / path).read_text("utf-8"))


def test_runs_nest_sweep_job_trial(store: Store, facts: SweepFacts, story: Any, runs: Runs) -> None:
    tell(store, facts, whole_sweep(story))
    found = runs()
    assert set(found) == {facts.id, JOB, TRIAL, OTHER}
    parents = {name: run.data.tags.get("mlflow.parentRunId") for name, run in found.items()}
    sweep, job = found[facts.id].info.run_id, found[JOB].info.run_id
    assert parents == {facts.id: None, JOB: sweep, TRIAL: job, OTHER: job}


def test_every_run_has_the_tags_that_it_is_filtered_by(store: Store, facts: SweepFacts, story: Any, runs: Runs) -> None:
    tell(store, facts, whole_sweep(story))
    for run in runs().values():
        tags = run.data.tags
        assert tags["task"] == "sentiment"
        assert tags["domain"] == "films"
        assert tags["sweep_id"] == facts.id
        assert tags["checkpoint"] == "tiny"
        assert tags["checkpoint_sha256"] == "c0ffee"
        assert tags["method"] == "pfeiffer"
        assert tags["git_commit"] == "1234567"
        assert tags["seed"] == "0"
        assert tags["data_fingerprint"]
    assert Counter(run.data.tags["kind"] for run in runs().values()) == {"sweep": 1, "job": 1, "trial": 2}


def test_trial_has_flat_and_dotted_params_and_those_of_the_sweep(
    store: Store, facts: SweepFacts, story: Any, runs: Runs
) -> None:
    tell(store, facts, whole_sweep(story))
    params = runs()[OTHER].data.params
    assert (params["learning_rate"], params["width"], params["batch_size"]) == ("0.002", "8", "16")
    assert (params["engine.epochs"], params["method.name"]) == ("4", "pfeiffer")
    assert "engine.learning_rate" not in params  # the UI would draw it a second time
    assert (params["data.source"], params["search.trials"]) == ("starter", "2")


def test_job_has_the_settings_of_its_winner(store: Store, facts: SweepFacts, story: Any, runs: Runs) -> None:
    tell(store, facts, whole_sweep(story))
    job = runs()[JOB]
    assert (job.data.params["learning_rate"], job.data.params["width"]) == ("0.001", "8")
    assert job.data.tags["best_trial"] == "sentiment.films-00"
    assert job.data.tags["best_run_id"] == runs()[TRIAL].info.run_id


def test_metrics_have_their_steps_and_epochs(store: Store, facts: SweepFacts, story: Any, runs: Runs) -> None:
    tell(store, facts, whole_sweep(story))
    run_id = runs()[TRIAL].info.run_id

    def history(key: str) -> list[tuple[int, float]]:
        return [(point.step, point.value) for point in store.client.get_metric_history(run_id, key)]

    assert history("train/loss") == [(1, 0.7), (2, 0.6), (3, 0.7), (4, 0.6)]
    assert history("train/learning_rate") == [(1, 1e-4), (2, 2e-4), (3, 1e-4), (4, 2e-4)]
    assert history("eval/primary") == [(1, 0.625), (2, 0.75)]
    assert history("eval/macro_f1") == [(1, 0.5), (2, 0.5)]
    assert history("eval/loss") == [(1, 0.7), (2, 0.7)]
    assert history("best/primary") == [(2, 0.75)]
    assert history("train/seconds") == [(2, 3.0)]
    assert history("size/trained_parameters") == [(0, 10.0)]
    assert history("size/share") == [(0, 0.01)]


def test_job_records_the_test_once_with_interval_and_rows(
    store: Store, facts: SweepFacts, story: Any, runs: Runs
) -> None:
    tell(store, facts, whole_sweep(story))
    job = runs()[JOB]
    metrics = job.data.metrics
    assert [metrics[f"test/{key}"] for key in ("primary", "low", "high", "baseline")] == [0.7, 0.6, 0.8, 0.5]
    assert metrics["test/macro_f1"] == 0.6
    table = content(job, "test_predictions.json")
    assert table["columns"] == ["origin", "digest", "text", "label", "predicted"]
    assert [[*row[2:4], row[4]["label"]] for row in table["data"]] == [
        ["test 0", "good", "good"],
        ["test 1", "good", "bad"],
    ]
    assert "test_predictions.json" in job.data.tags["mlflow.loggedArtifacts"]


def test_a_sweep_has_the_test_score_of_each_of_its_jobs_with_interval_and_baseline(
    store: Store, facts: SweepFacts, story: Any, runs: Runs
) -> None:
    tell(store, facts, whole_sweep(story))
    tell(store, facts, whole_sweep(story))
    assert runs()[facts.id].data.metrics == {
        "test/sentiment/films": 0.7,
        "test/sentiment/films.baseline": 0.5,
        "test/sentiment/films.high": 0.8,
        "test/sentiment/films.low": 0.6,
    }


def test_the_name_of_a_job_becomes_one_that_mlflow_takes_for_a_metric(story: Any) -> None:
    event = story.tested()
    trial = dataclasses.replace(event.trial, job="größe (a+b)/§ 7")
    names = [name for name, _, _ in fields.sweep_points(dataclasses.replace(event, trial=trial))]
    assert names == [f"test/größe _a_b_/_ 7{end}" for end in ("", ".baseline", ".high", ".low")]
    for name in names:
        assert validation._validate_metric_name(name) is None


def test_status_and_reason_tell_how_a_trial_ended(store: Store, facts: SweepFacts, story: Any, runs: Runs) -> None:
    failed = story.end(2, status="failed", reason="the loss is not a number", bundle=None, best_primary=None, epochs=0)
    tell(store, facts, [*whole_sweep(story), failed])
    states = {name: (run.info.status, run.data.tags.get("status")) for name, run in runs().items()}
    assert states[TRIAL] == ("FINISHED", "done")
    assert states[OTHER] == ("FINISHED", "pruned")
    assert states["02 sentiment/films"] == ("FAILED", "failed")
    assert states[JOB] == ("FINISHED", "done")
    assert runs()[OTHER].data.tags["reason"] == "pruned at epoch 1: 2nd of 2"
    assert runs()["02 sentiment/films"].data.tags["reason"] == "the loss is not a number"


@pytest.mark.parametrize(("keep", "kept"), [("all", {TRIAL, OTHER}), ("best", {TRIAL}), ("winners", {TRIAL})])
def test_retention_says_which_bundles_are_kept(
    keep: Literal["all", "best", "winners"],
    kept: set[str],
    tracking: TrackingConfig,
    facts: SweepFacts,
    story: Any,
    runs: Runs,
) -> None:
    store = open_store(dataclasses.replace(tracking, keep_bundles=keep))
    tell(store, facts, whole_sweep(story))
    found = {name for name, run in runs().items() if "bundle" in artifacts(store, run)}
    assert found == kept
    assert artifacts(store, runs()[TRIAL], "bundle") == {"bundle.json", "weights.safetensors"}


def test_best_retention_keeps_the_bundle_of_a_winner_that_was_pruned(
    tracking: TrackingConfig, facts: SweepFacts, story: Any, runs: Runs
) -> None:
    store = open_store(dataclasses.replace(tracking, keep_bundles="best"))
    events = [
        dataclasses.replace(event, status="pruned") if isinstance(event, TrialEnded) else event
        for event in whole_sweep(story)
    ]
    tell(store, facts, events)
    assert {name for name, run in runs().items() if "bundle" in artifacts(store, run)} == {TRIAL}


def test_a_trial_that_got_further_when_the_sweep_was_resumed_is_recorded_anew(
    store: Store, facts: SweepFacts, story: Any, runs: Runs
) -> None:
    short = dataclasses.replace(story.end(), status="pruned", reason="time budget", epochs=1, best_epoch=1)
    tell(store, facts, [story.epoch(1), short])
    tell(store, facts, [story.epoch(1), story.epoch(2), dataclasses.replace(short, epochs=2, best_epoch=2)])
    tags = runs()[TRIAL].data.tags
    assert (tags["epochs"], tags["best_epoch"], tags["reason"]) == ("2", "2", "time budget")


def test_winners_retention_leaves_out_trials_that_ended_well_but_lost(
    tracking: TrackingConfig, facts: SweepFacts, story: Any, runs: Runs
) -> None:
    store = open_store(dataclasses.replace(tracking, keep_bundles="winners"))
    tell(store, facts, [story.epoch(1, 1), story.end(1), *whole_sweep(story)[6:]])
    assert "bundle" not in artifacts(store, runs()[OTHER])


def test_data_are_inputs_and_their_rows_a_manifest(store: Store, facts: SweepFacts, story: Any, runs: Runs) -> None:
    tell(store, facts, whole_sweep(story))
    for name in (JOB, TRIAL):
        inputs = runs()[name].inputs.dataset_inputs
        assert {entry.dataset.digest for entry in inputs} == {"train-print", "validation-print", "test-print"}
        assert {tag.value for entry in inputs for tag in entry.tags} == {"train", "validation", "test"}
    assert artifacts(store, runs()[JOB], "data") == {"manifest.json"}
    manifest = content(runs()[JOB], "data/manifest.json")
    assert manifest["splits"]["validation"]["rows"] == [a_row(f"validation {i}").digest for i in range(2)]


def test_what_was_found_out_about_data_stands_on_the_jobs_run(
    store: Store, facts: SweepFacts, story: Any, runs: Runs
) -> None:
    (job, *others) = facts.jobs
    noted = dataclasses.replace(job.dataset, notes=("train.csv: encoding cp1252.", "test.xlsx was not read."))
    tell(store, dataclasses.replace(facts, jobs=(dataclasses.replace(job, dataset=noted), *others)), [])
    file = Path(runs()[JOB].info.artifact_uri) / "data/notes.txt"
    assert file.read_text("utf-8") == "train.csv: encoding cp1252.\ntest.xlsx was not read.\n"


def test_sweep_keeps_config_and_environment(store: Store, facts: SweepFacts, runs: Runs) -> None:
    tell(store, facts, [])
    assert content(runs()[facts.id], "config.json") == facts.config
    assert content(runs()[facts.id], "environment.json") == {"torch": "2.13.0"}


def test_artifacts_of_the_command_go_to_sweep_or_job(store: Store, facts: SweepFacts, runs: Runs) -> None:
    with recording(store, facts) as recorder:
        recorder.figure(JOB, "search.png", Figure)
        recorder.table(None, "leaderboard.json", [{"job": JOB, "test": 0.7}])
        recorder.text(None, "leaderboard.md", "| job |")
        recorder.json(JOB, "entities.json", {"PER": {"f1": 0.5}})
        recorder.describe(None, "# Leaderboard")
    sweep, job = runs()[facts.id], runs()[JOB]
    assert {"leaderboard.json", "leaderboard.md"} < artifacts(store, sweep)
    assert {"search.png", "entities.json"} < artifacts(store, job)
    assert sweep.data.tags["mlflow.note.content"] == "# Leaderboard"


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "KILLED"), (ValueError, "FAILED")])
def test_whatever_ends_the_sweep_no_run_stays_running(
    error: type[BaseException], status: str, store: Store, facts: SweepFacts, story: Any, runs: Runs
) -> None:
    with pytest.raises(error), recording(store, facts) as recorder:
        recorder(story.epoch(1, 1))
        recorder(story.end(1, status="pruned"))
        recorder(story.epoch(1))
        raise error
    states = {name: run.info.status for name, run in runs().items()}
    assert states == {facts.id: status, JOB: status, TRIAL: status, OTHER: "FINISHED"}


def test_job_without_a_winner_ends_failed(store: Store, facts: SweepFacts, story: Any, runs: Runs) -> None:
    tell(store, facts, [story.end(status="failed", bundle=None, best_primary=None)])
    assert runs()[JOB].info.status == "FAILED"


@pytest.mark.parametrize("cut", range(11))
def test_resumed_sweep_ends_like_an_undisturbed_one(
    cut: int, store: Store, facts: SweepFacts, story: Any, runs: Runs
) -> None:
    events = whole_sweep(story)
    with pytest.raises(KeyboardInterrupt), recording(store, facts) as recorder:
        for event in events[:cut]:
            recorder(event)
        raise KeyboardInterrupt
    tell(store, facts, events)  # all of them are told again
    found = runs()
    assert set(found) == {facts.id, JOB, TRIAL, OTHER}
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    for run in found.values():
        for key in run.data.metrics:
            steps = [point.step for point in store.client.get_metric_history(run.info.run_id, key)]
            assert len(steps) == len(set(steps)), f"{run.info.run_name}: {key} has a point twice: {steps}"
    assert len(store.client.get_metric_history(found[TRIAL].info.run_id, "train/loss")) == 4
    assert len(content(found[JOB], "test_predictions.json")["data"]) == 2


def test_trial_cut_off_while_it_was_being_ended_is_ended_on_resume(
    store: Store, facts: SweepFacts, story: Any, runs: Runs
) -> None:
    tell(store, facts, whole_sweep(story))
    run_id = runs()[OTHER].info.run_id
    store.client.update_run(run_id, status="RUNNING")  # as if killed between the tag and the end
    tell(store, facts, whole_sweep(story))
    assert runs()[OTHER].info.status == "FINISHED"


def test_replay_leaves_ended_trials_alone(store: Store, facts: SweepFacts, story: Any, runs: Runs) -> None:
    tell(store, facts, whole_sweep(story))
    before = {name: runs()[name].info.end_time for name in (TRIAL, OTHER)}
    tell(store, facts, whole_sweep(story))
    assert {name: runs()[name].info.end_time for name in (TRIAL, OTHER)} == before


def test_two_sweeps_do_not_share_runs(store: Store, facts: SweepFacts, story: Any) -> None:
    tell(store, facts, whole_sweep(story))
    tell(store, dataclasses.replace(facts, id="another"), whole_sweep(story))
    names = [run.info.run_name for run in store.client.search_runs([store.experiment_id])]
    assert Counter(names) == {facts.id: 1, "another": 1, JOB: 2, TRIAL: 2, OTHER: 2}


def test_error_of_the_store_is_raised_at_the_next_call_and_ends_the_runs(
    store: Store, facts: SweepFacts, story: Any, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("disk full")

    recorder = recording(store, facts)
    recorder.flush()
    monkeypatch.setattr(type(store.client), "log_artifacts", refuse)
    recorder(story.end())
    with pytest.raises(TrackingError, match="disk full"):
        recorder.flush()
    with pytest.raises(TrackingError, match="disk full"):
        recorder(story.epoch(1))
    with pytest.raises(TrackingError, match="disk full"):
        recorder.close()
    assert "RUNNING" not in {run.info.status for run in runs().values()}


def test_losses_that_are_no_number_are_recorded(store: Store, facts: SweepFacts, story: Any, runs: Runs) -> None:
    report = dataclasses.replace(story.epoch(1), losses=((1, float("nan"), 1e-3),))
    tell(store, facts, [report])
    assert "train/loss" in runs()[TRIAL].data.metrics


def test_a_figure_that_cannot_be_drawn_costs_a_note(store: Store, facts: SweepFacts, runs: Runs) -> None:
    def draw() -> Figure:
        raise ValueError("no glyph")

    told: list[str] = []
    with recording(store, facts, told.append) as recorder:
        recorder.figure(JOB, "confusion.png", draw)
        recorder.text(JOB, "after.md", "all else")
    assert told == ["confusion.png of sentiment/films: could not be made (no glyph). All else is recorded."]
    assert "after.md" in artifacts(store, runs()[JOB])
    assert runs()[facts.id].info.status == "FINISHED"


def test_a_note_that_the_store_refuses_costs_a_note(
    store: Store, facts: SweepFacts, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(run: Any, path: str, data: bytes) -> None:
        raise MlflowException("Invalid artifact path", error_code=INVALID_PARAMETER_VALUE)

    told: list[str] = []
    with recording(store, facts, told.append) as recorder:
        recorder.flush()
        with monkeypatch.context() as patch:
            patch.setattr("pipeline.tracking.run.Run.file", refuse)
            recorder.text(JOB, "bad.md", "refused")
            recorder.flush()
        recorder.text(JOB, "after.md", "all else")
    assert [line for line in told if "refuses a note (Invalid artifact path)" in line]
    assert "after.md" in artifacts(store, runs()[JOB])


def test_artifacts_in_a_local_folder_are_there_after_a_power_cut(
    store: Store, facts: SweepFacts, story: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow copies, and does not wait for the disk; its database may well survive without the files."""
    cut = PowerCut(monkeypatch)
    tell(store, facts, whole_sweep(story))
    winner = story.tested()
    registered = enrol(store, facts.id, winner, verdict("champion"))
    left = cut.left(tmp_path / "mlartifacts", tmp_path / "left")
    files = {file.relative_to(tmp_path / "mlartifacts") for file in (tmp_path / "mlartifacts").rglob("*.*")}
    kept = {file for file in files if (tmp_path / "mlartifacts" / file).is_file()}
    assert {file.name for file in kept} >= {"config.json", "test_predictions.json", "bundle.json", "ledger.json"}
    for file in kept:
        assert (left / file).read_bytes() == (tmp_path / "mlartifacts" / file).read_bytes(), file
    assert registered.version == 1

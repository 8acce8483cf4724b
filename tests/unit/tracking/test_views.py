"""Links to pages of the MLflow UI: what they hold, and that the UI of the pinned version opens them."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import pytest
from mlflow.exceptions import MlflowException

from pipeline.config import TrackingConfig
from pipeline.tracking import views
from pipeline.tracking.recorder import SweepFacts
from pipeline.tracking.store import Store, open_store
from tests.unit.tracking.conftest import recording
from tests.unit.tracking.server import Server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ADDRESS = "http://here:1"


def record(store: Store, facts: SweepFacts, story: Any) -> None:
    """A sweep of a job with two trials."""
    with recording(store, facts) as recorder:
        for event in (story.epoch(1), story.epoch(1, 1), story.end(), story.end(1), story.tested()):
            recorder(event)


def state(store: Store, key: str) -> dict[str, Any]:
    """What the UI would read."""
    view = json.loads(store.client.get_experiment(store.experiment_id).tags[f"mlflow.sharedViewState.{key}"])
    assert isinstance(view["createdAt"], int)
    state = json.loads(view["state"])
    assert isinstance(state, dict)
    return {"name": view["name"], **state}


def test_the_pages_are_the_table_of_jobs_and_the_trials_of_each(store: Store, facts: SweepFacts, story: Any) -> None:
    record(store, facts, story)
    jobs, trials = views.links(store, ADDRESS)
    begin = f"{ADDRESS}/#/experiments/{store.experiment_id}/runs?workflowType=machine_learning"
    assert jobs == views.Link(title="all jobs", url=f"{begin}&viewStateShareKey=jobs")
    assert trials.title == "trials of sentiment/films"
    key = trials.url.removeprefix(f"{begin}&compareRunsMode=CHART&viewStateShareKey=")
    assert re.fullmatch(r"trials-[0-9a-f]{12}", key)

    table = state(store, "jobs")
    assert table["searchFilter"] == "tags.kind = 'job'"
    assert {"metrics.`test/primary`", "params.`learning_rate`", "params.`width`"} <= {*table["selectedColumns"]}
    view = state(store, key)
    assert view["name"] == "Trials of sentiment/films"
    found = store.client.search_runs([store.experiment_id], view["searchFilter"], order_by=[view["orderByKey"]])
    assert {run.info.run_name for run in found} == {"00 sentiment/films", "01 sentiment/films"}
    lines, _ = view["compareRunCharts"]
    assert (lines["selectedParams"], lines["selectedMetrics"]) == (["learning_rate", "width"], ["best/primary"])
    assert views.links(store, ADDRESS, facts.id) == [jobs, trials]


def test_with_another_ui_a_link_opens_the_plain_comparison(
    store: Store, facts: SweepFacts, story: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(store, facts, story)
    monkeypatch.setattr("mlflow.__version__", "4.0.1")
    jobs, trials = views.links(store, ADDRESS)
    assert jobs.url.endswith("/runs?workflowType=machine_learning")
    page, _, query = trials.url.partition("?")
    assert page == f"{ADDRESS}/#/compare-runs"
    chosen = {key: json.loads(unquote(ids)) for key, (ids,) in parse_qs(query).items()}
    named = {store.client.get_run(run_id).info.run_name for run_id in chosen["runs"]}
    assert named == {"00 sentiment/films", "01 sentiment/films"}
    assert chosen["experiments"] == [store.experiment_id]
    assert not [tag for tag in store.client.get_experiment(store.experiment_id).tags if "sharedViewState" in tag]


def test_other_settings_that_trials_differ_in_are_shown_too(store: Store, facts: SweepFacts, story: Any) -> None:
    record(store, facts, story)
    found = store.client.search_runs([store.experiment_id], "tags.kind = 'trial'")
    found[0].data.params["batch_size"] = "8"
    assert views._varied(found) == ["learning_rate", "width", "batch_size"]


def test_a_store_that_holds_nothing_or_refuses_costs_links_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [link.title for link in views.links(store, ADDRESS)] == ["all jobs"]

    def refuse(*_: object) -> None:
        raise MlflowException("no")

    monkeypatch.setattr(store.client, "set_experiment_tag", refuse)
    assert views.links(store, ADDRESS) == []


@pytest.mark.server
@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")
def test_the_ui_opens_both_pages(mlflow_server: Server, facts: SweepFacts, story: Any, tmp_path: Path) -> None:
    remote = open_store(TrackingConfig(uri=mlflow_server.uri, experiment="views"))
    record(remote, facts, story)
    jobs, trials = views.links(remote, mlflow_server.uri)
    table = dom(jobs.url, tmp_path / "one")
    for shown in ("The winner of each job", "sentiment/films", "test/primary", "learning_rate", "width"):
        assert shown in table
    compared = dom(trials.url, tmp_path / "two")
    for shown in ("Trials of sentiment/films", "00 sentiment/films", "01 sentiment/films"):
        assert shown in compared
    # The number of its charts that have something to show; they are drawn when they are scrolled to.
    assert re.search(r"settings and score(<[^>]*>)+\(2\)", compared)
    assert "Error loading shared view" not in table + compared


def dom(url: str, profile: Path) -> str:
    """The page as it stands after a while."""
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1500,950", "--dump-dom"]
    command += ["--virtual-time-budget=20000", f"--user-data-dir={profile}", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=True).stdout

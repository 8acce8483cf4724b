"""Recording while the server is killed, hangs, loses replies or stays away: everything is there once."""

import contextlib
import dataclasses
import random
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from pipeline.config import TrackingConfig
from pipeline.core.engine.events import SweepEvent, TrialStarted
from pipeline.errors import TrackingError
from pipeline.tracking.recorder import SPOOL, SweepFacts
from pipeline.tracking.store import Store, open_store
from tests.unit.tracking.conftest import Story, enrol, make_facts, make_job, recording, verdict
from tests.unit.tracking.server import LATE_S, Fate, Row, Server, losing, without_models

pytestmark = pytest.mark.server
ROOT = Path(__file__).parents[3]
TRIALS = 4


@pytest.fixture(scope="module")
def server(mlflow_server: Server) -> Server:
    return without_models(mlflow_server)


@pytest.fixture
def remote(server: Server) -> Store:
    return open_store(TrackingConfig(uri=server.uri, patience_s=60))


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Next to no time between the attempts."""
    monkeypatch.setattr("pipeline.tracking.outage.MOST_DELAY_S", 0.02)


@pytest.fixture(scope="module")
def undisturbed(server: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Row], dict[str, str]]:
    """Points and runs of a sweep that nothing disturbed."""
    folder, job = tmp_path_factory.mktemp("undisturbed"), make_job()
    facts = dataclasses.replace(make_facts(job, folder), id="undisturbed")
    with recording(open_store(TrackingConfig(uri=server.uri)), facts) as recorder:
        for event in events_of(Story(job=job, folder=folder)):
            recorder(event)
    return in_order(server.points(facts.id)), unnamed(server.runs(facts.id), facts.id)


def events_of(story: Story) -> list[SweepEvent]:
    """Trials two by two, three epochs each, and the test of the first."""
    events: list[SweepEvent] = []
    for first in range(0, TRIALS, 2):
        pair = (first, first + 1)
        events += [TrialStarted(trial=story.trial(index)) for index in pair]
        events += [story.epoch(epoch, index) for epoch in (1, 2, 3) for index in pair]
        events += [story.end(index, epochs=3) for index in pair]
    return [*events, story.tested(0)]


def in_order(points: list[Row]) -> list[Row]:
    """Run by run and metric by metric, each in the order of the table; a point that is there twice stands twice."""
    return sorted(points, key=lambda point: point[:2])


def unnamed(runs: dict[str, str], sweep_id: str) -> dict[str, str]:
    return {name.replace(sweep_id, "sweep"): status for name, status in runs.items()}


def always(*_: object) -> Fate:
    return "answered"


def port_of(uri: str) -> int:
    """MLflow remembers where the artifacts of a run go, so what is away comes back where it was."""
    return int(uri.rpartition(":")[2])


def assert_whole(server: Server, facts: SweepFacts, undisturbed: tuple[list[Row], dict[str, str]]) -> None:
    points, runs = undisturbed
    assert in_order(server.points(facts.id)) == points
    assert unnamed(server.runs(facts.id), facts.id) == runs
    assert not (facts.checkpoint.folder / facts.id / SPOOL).exists()


def named(facts: SweepFacts, name: str) -> SweepFacts:
    return dataclasses.replace(facts, id=name)


def wait_for_outage(lines: list[str], begun: float, facts: SweepFacts, events: list[SweepEvent]) -> None:
    """The user is told of it, though nobody waited; half of the events, at least, wait on disk."""
    assert time.monotonic() - begun < 2.5  # nobody waited for the server
    while not lines:  # not a single attempt that fails, but an outage
        assert time.monotonic() - begun < 60
        time.sleep(0.01)
    waiting = len(list((facts.checkpoint.folder / facts.id / SPOOL).glob("*.json")))
    assert waiting >= len(events) // 2


def assert_outage_told(lines: list[str], uri: str) -> None:
    away, *_, back = lines
    assert away.startswith(f"The tracking store {uri} does not answer (connection refused). Training goes on")
    assert back.startswith(f"The tracking store {uri} answers again, after ")


def test_server_that_goes_away_in_mid_recording_costs_nothing(
    server: Server, facts: SweepFacts, story: Story, undisturbed: Any, hurried: None
) -> None:
    facts, events, lines = named(facts, "away"), events_of(story), list[str]()
    with contextlib.ExitStack() as ends:
        with losing(server, always) as (uri, asked):
            recorder = ends.enter_context(recording(open_store(TrackingConfig(uri=uri)), facts, lines.append))
            recorder.flush()
            begun, batches = time.monotonic(), asked["runs/log-batch"]
            for event in events[: len(events) // 2]:
                recorder(event)
            while asked["runs/log-batch"] == batches:  # it is in the middle of them
                time.sleep(0.001)
        for event in events[len(events) // 2 :]:
            recorder(event)
        wait_for_outage(lines, begun, facts, events)
        ends.enter_context(losing(server, always, port_of(uri)))
        recorder.flush()
        recorder.close()
    assert_whole(server, facts, undisturbed)
    assert_outage_told(lines, uri)


@pytest.mark.parametrize(
    "lost",
    [
        "runs/create",
        "runs/log-batch",
        *(pytest.param(one, marks=pytest.mark.faults) for one in ("runs/update", "runs/log-inputs", "artifacts")),
    ],
)
def test_reply_that_is_lost_doubles_nothing(
    lost: str, server: Server, facts: SweepFacts, story: Story, undisturbed: Any, hurried: None
) -> None:
    facts = named(facts, f"lost {lost}".replace("/", " "))

    def fate(endpoint: str, count: int) -> Fate:
        return "lost" if endpoint == lost and count in (1, 4, 6) else "answered"

    with losing(server, fate) as (uri, asked):
        with recording(open_store(TrackingConfig(uri=uri)), facts) as recorder:
            for event in events_of(story):
                recorder(event)
        assert asked[lost] >= 6
    assert_whole(server, facts, undisturbed)
    assert not server.runs(facts.id, "deleted")  # none was made twice and then removed


@pytest.mark.faults
def test_run_that_is_made_long_after_it_was_asked_for_is_removed(
    server: Server, facts: SweepFacts, story: Story, undisturbed: Any, hurried: None
) -> None:
    def fate(endpoint: str, count: int) -> Fate:
        return "late" if endpoint == "runs/create" and count in (3, 5, 7, 9) else "answered"

    facts = named(facts, "late")
    with losing(server, fate) as (uri, _), recording(open_store(TrackingConfig(uri=uri)), facts) as recorder:
        for event in events_of(story):
            recorder(event)
        recorder.flush()
        time.sleep(2 * LATE_S)  # the last of them is taken up when all seems done
    assert_whole(server, facts, undisturbed)
    assert len(server.runs(facts.id, "deleted")) == 4


@pytest.mark.faults
def test_replies_that_are_lost_now_and_then_double_nothing(
    server: Server, facts: SweepFacts, story: Story, undisturbed: Any, hurried: None
) -> None:
    facts, luck = named(facts, "now and then"), random.Random(0)
    with losing(server, lambda *_: "lost" if luck.random() < 0.15 else "answered") as (uri, _):
        store = open_store(TrackingConfig(uri=server.uri, patience_s=60))  # a store is opened by one attempt alone
        store = dataclasses.replace(store, uri=uri, client=MlflowClient(uri, uri))
        with recording(store, facts) as recorder:
            for event in events_of(story):
                recorder(event)
    assert_whole(server, facts, undisturbed)


def test_winner_is_registered_once_though_replies_are_lost(
    server: Server, remote: Store, facts: SweepFacts, story: Story, hurried: None
) -> None:
    with recording(remote, named(facts, "winner")) as recorder:
        recorder(story.tested())
        run_id = recorder.run_id("sentiment/films")
    lost = ("registered-models/create", "logged-models", "model-versions/create", "runs/outputs", "artifacts")

    def fate(endpoint: str, count: int) -> Fate:
        return "lost" if endpoint in lost and count == 1 else "answered"

    with losing(server, fate) as (uri, asked):
        proxied = open_store(TrackingConfig(uri=uri))
        registered = enrol(proxied, "winner", story.tested(), verdict("champion"), run_id=run_id)
        assert all(asked[endpoint] >= 1 for endpoint in lost), asked
    assert (registered.version, registered.alias) == (1, "champion")
    assert len(remote.client.search_model_versions("name = 'sentiment'")) == 1
    models = remote.client.search_logged_models([remote.experiment_id], "tags.sweep_id = 'winner'")
    assert [model.status for model in models] == ["READY"]
    assert len(remote.client.get_run(run_id).outputs.model_outputs) == 1


def test_patience_ends_in_an_error_that_says_where_everything_is_kept(
    server: Server, facts: SweepFacts, story: Story, undisturbed: Any
) -> None:
    facts, lines = named(facts, "patience"), list[str]()
    with losing(server, always) as (uri, _):
        recorder = recording(open_store(TrackingConfig(uri=uri, patience_s=0.5)), facts, lines.append)
        recorder.flush()
    for event in events_of(story):  # the server is gone
        recorder(event)
    with pytest.raises(TrackingError) as raised:
        recorder.close()
    spool = facts.checkpoint.folder / facts.id / SPOOL
    count = len(events_of(story))
    assert str(raised.value) == (
        f"The tracking store {uri} does not answer (connection refused). "
        f"{count} records wait in {spool}. RESUME=patience records what is missing."
    )
    assert f"Waiting up to 0.5 s for the tracking store {uri}. {count} records wait in {spool}." in lines
    with losing(server, always, port_of(uri)), recording(open_store(TrackingConfig(uri=uri)), facts):
        pass
    assert_whole(server, facts, undisturbed)


def test_interrupted_sweep_does_not_wait_for_a_server_that_is_away(
    server: Server, facts: SweepFacts, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.tracking.recorder._GRACE_S", 0.2)
    facts, lines = named(facts, "interrupted"), list[str]()
    with losing(server, always) as (uri, _):
        recorder = recording(open_store(TrackingConfig(uri=uri)), facts, lines.append)
        recorder.flush()
    begun = time.monotonic()
    with contextlib.suppress(KeyboardInterrupt), recorder:
        recorder(story.epoch(1))
        raise KeyboardInterrupt
    assert time.monotonic() - begun < 30  # of the ten minutes that its end would wait
    assert "1 record waits in" in lines[-1]
    with losing(server, always, port_of(uri)), recording(open_store(TrackingConfig(uri=uri)), facts):
        pass
    assert ("00 sentiment/films", "eval/primary", 1, 0.625) in server.points(facts.id)
    assert set(server.runs(facts.id).values()) == {"FINISHED", "FAILED"}  # no test, no winner: the job has failed


def test_request_that_the_server_refuses_stops_the_recording(remote: Store, facts: SweepFacts, story: Story) -> None:
    recorder = recording(remote, named(facts, "refused"))
    recorder(story.epoch(1))
    run_id = recorder.run_id("sentiment/films")
    remote.client.delete_run(run_id)
    with pytest.raises(TrackingError, match=r"Recording in .* stopped.*must be in the 'active' state"):
        recorder(story.tested())
        recorder.flush()
    with pytest.raises(TrackingError, match=r"Recording in .* stopped"):
        recorder.close()


def test_backlog_of_epochs_is_sent_in_fewer_requests(
    server: Server, facts: SweepFacts, story: Story, undisturbed: Any
) -> None:
    facts, events, batches = named(facts, "backlog"), events_of(story), {}
    for way in ("one by one", "backlog"):
        with losing(server, always) as (uri, asked):
            with recording(open_store(TrackingConfig(uri=uri)), named(facts, way)) as recorder:
                for event in events:
                    recorder(event)
                    if way == "one by one":
                        recorder.flush()
            batches[way] = asked["runs/log-batch"]
        assert in_order(server.points(way)) == undisturbed[0]
    assert batches["backlog"] <= batches["one by one"] - TRIALS

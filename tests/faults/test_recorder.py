"""Recording while the tracking server, or the process that records, is killed: everything is there once."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.tracking.recorder import SPOOL, SweepFacts
from pipeline.tracking.store import Store
from tests.unit.tracking.conftest import Story, facts, job, recording, story
from tests.unit.tracking.server import Server, losing
from tests.unit.tracking.test_recorder_outage import (
    always,
    assert_outage_told,
    assert_whole,
    events_of,
    hurried,
    named,
    remote,
    server,
    undisturbed,
    wait_for_outage,
)

__all__ = ["facts", "hurried", "job", "remote", "server", "story", "undisturbed"]
pytestmark = pytest.mark.faults
ROOT = Path(__file__).parents[2]


def test_server_that_is_killed_in_mid_recording_costs_nothing(
    server: Server, remote: Store, facts: SweepFacts, story: Story, undisturbed: Any, hurried: None
) -> None:
    facts, events, lines = named(facts, "killed"), events_of(story), list[str]()
    with recording(remote, facts, lines.append) as recorder:
        recorder.flush()
        begun = time.monotonic()
        for number, event in enumerate(events):
            recorder(event)
            if number == len(events) // 2:
                time.sleep(0.3)  # it is in the middle of them
                server.kill()
        wait_for_outage(lines, begun, facts, events)
        server.start()
        recorder.flush()
    assert_whole(server, facts, undisturbed)
    assert_outage_told(lines, server.uri)


def test_process_that_is_killed_while_the_server_is_away_loses_nothing(
    server: Server, remote: Store, facts: SweepFacts, story: Story, undisturbed: Any, tmp_path: Path
) -> None:
    facts = named(facts, "resumed")
    with losing(server, always) as (uri, _):
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, uri, str(tmp_path)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "begun\n"
    with process:  # whose server is gone
        process.stdin.write("go on\n")
        process.stdin.flush()
        assert process.stdout.readline() == "told\n"
        process.kill()
    spool = tmp_path / facts.id / SPOOL
    assert len(list(spool.glob("*.json"))) == len(events_of(story)) - 6
    with recording(remote, facts):
        pass  # told nothing: all is in the spool
    assert_whole(server, facts, undisturbed)
    with recording(remote, facts) as recorder:  # and a resumed sweep tells everything again
        for event in events_of(story):
            recorder(event)
    assert_whole(server, facts, undisturbed)


CHILD = """
import sys
from pathlib import Path
from pipeline.config import TrackingConfig
from pipeline.tracking.store import open_store
from tests.unit.tracking.conftest import Story, make_facts, make_job, recording
from tests.unit.tracking.test_recorder_outage import events_of, named

folder, job = Path(sys.argv[2]), make_job()
events = events_of(Story(job=job, folder=folder))
recorder = recording(open_store(TrackingConfig(uri=sys.argv[1])), named(make_facts(job, folder), "resumed"))
for event in events[:6]:
    recorder(event)
recorder.flush()
print("begun", flush=True)
sys.stdin.readline()
for event in events[6:]:
    recorder(event)
print("told", flush=True)
sys.stdin.readline()
"""

"""A sweep whose tracking server is killed for a minute: training goes on, and afterwards every metric is there once."""

import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.commands.workplace import Workplace
from tests.faults.registered import TIMED
from tests.unit.tracking.server import Row, Server, serving

pytestmark = pytest.mark.faults

AWAY_S = 60


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def words(checkpoints: dict[str, str], formats: Path, server: Server) -> list[str]:
    # Long enough, with luck, to begin before the minute and to end after it.
    settings = "search.space.method.width={choice:[2,4]} search.scheduler=none engine.batch_size=2"
    words = ["TASKS=intent,ner,medqa", f"DATA={formats}", f"CHECKPOINT={checkpoints['bert']}"]
    return [*words, "TRIALS=4", "EPOCHS=60", "SEED=7", f"ARGS={settings} tracking.uri={server.uri}"]


def sweep_id(place: Workplace, deadline_s: float = 120) -> str:
    """The id of the sweep that runs in a place, when it has one."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        for folder in (place.cwd / "runs").glob("*/sweep.json"):
            return folder.parent.name
        time.sleep(0.1)
    raise AssertionError("no sweep has begun")


def ordered(points: list[Row]) -> list[Row]:
    """What does not depend on the clock, run by run and metric by metric, each in the order of the table."""
    return sorted((point for point in points if not point[1].startswith(TIMED)), key=lambda point: point[:2])


def keys(points: list[Row]) -> Counter[tuple[str, str, int]]:
    return Counter(point[:3] for point in points)


def test_server_that_is_away_for_a_minute_stops_nobody_and_loses_nothing(
    words: list[str], server: Server, tmp_path: Path
) -> None:
    calm = Workplace(tmp_path / "calm")
    done = calm.make("sweep", *words)
    assert done.code == 0, done.out + done.err
    undisturbed = server.points(sweep_id(calm))

    place = Workplace(tmp_path / "away")
    with ThreadPoolExecutor(max_workers=1) as pool:
        running = pool.submit(place.make, "sweep", *words)
        name = sweep_id(place)
        while len({point[0] for point in server.points(name)}) < 3:  # trials that have reported
            assert not running.done(), running.result().out + running.result().err
            time.sleep(0.1)
        server.kill()
        spool = place.cwd / "runs" / name / "spool"
        waiting = []
        for _ in range(6):
            time.sleep(AWAY_S / 6)
            waiting.append(len(list(spool.glob("*.json"))))
        assert not running.done(), running.result().out + running.result().err
        server.start()
        done = running.result(timeout=600)

    print(done.out, f"records that waited, every {AWAY_S // 6} s: {waiting}", sep="\n")
    assert done.code == 0, done.out + done.err
    assert waiting == sorted(waiting) and waiting[1] > waiting[0]  # it trained on
    points = server.points(name)
    assert set(keys(points).values()) == {1}
    assert keys(points) == keys(undisturbed)
    assert ordered(points) == ordered(undisturbed)
    runs = server.runs(name)
    assert len(runs) == 1 + 3 + 12
    assert set(runs.values()) == {"FINISHED"}
    assert not spool.exists()
    assert "does not answer (connection refused). Training goes on" in done.out
    assert "answers again, after " in done.out
    assert versions(server) == {"intent": 2, "ner": 2, "medqa": 2}


def versions(server: Server) -> dict[str, int]:
    """Registered name -> how many versions."""
    with closing(sqlite3.connect(server.database)) as base:
        return dict(base.execute("SELECT name, count(*) FROM model_versions GROUP BY name"))

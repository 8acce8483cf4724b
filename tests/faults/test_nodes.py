"""Three Ray nodes on this machine: a node is removed and a trial killed in mid-sweep, two sweeps at once."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private.state import actors
from ray.cluster_utils import Cluster

from tests.commands.workplace import Workplace
from tests.faults import stage
from tests.unit.tracking.server import serving

pytestmark = pytest.mark.faults

SWEEP = ["tasks=[intent,ner,medqa]", "search.trials=4", "engine.epochs=24", "engine.batch_size=2", "seed=7"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server.uri


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    with stage.ray_nodes(1, 1, 1) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def words(checkpoints: dict[str, str], formats: Path, server: str, nodes: Cluster) -> list[str]:
    where = [f"data.source={formats}", f"checkpoint={checkpoints['bert']}", f"tracking.uri={server}"]
    width = "search.space.method.width={choice:[2,4]}"
    return [*SWEEP, *where, width, "cluster=existing", f"cluster.address={nodes.address}"]


class Result:
    """What a sweep ended with: leaderboard and weights, to the bit."""

    def __init__(self, sweep: stage.Running, server: str) -> None:
        self.done = sweep.end()
        assert self.done.code == 0, self.done.out + self.done.err
        stage.assert_recorded_once(server, sweep.sweep_id, jobs=3, trials=12)
        self.board: list[dict[str, Any]] = stage.leaderboard(server, sweep.sweep_id, sweep.place.data)
        self.weights = stage.weights(sweep.place)


@pytest.fixture(scope="module")
def undisturbed(words: list[str], server: str, tmp_path_factory: pytest.TempPathFactory) -> Result:
    sweep = stage.Running(Workplace(tmp_path_factory.mktemp("undisturbed") / "place"), "jobs.sweep", *words)
    sweep.read_until(r"3 jobs, 12 trials, 3 at once")
    return Result(sweep, server)


def test_two_sweeps_at_once_on_one_cluster_and_one_store_end_as_each_alone(
    undisturbed: Result, words: list[str], server: str, tmp_path: Path
) -> None:
    sweeps = [stage.Running(Workplace(tmp_path / name), "jobs.sweep", *words) for name in ("one", "other")]
    for result in [Result(sweep, server) for sweep in sweeps]:
        assert (result.board, result.weights) == (undisturbed.board, undisturbed.weights)
    assert not stage.trainees()


def test_a_killed_command_leaves_nothing_on_the_cluster_and_is_resumed(
    undisturbed: Result, words: list[str], server: str, nodes: Cluster, tmp_path: Path
) -> None:
    sweep = stage.Running(Workplace(tmp_path / "place"), "jobs.sweep", *words)
    sweep.read_until(r"  trial \d/4", 3)
    os.kill(sweep.process.pid, signal.SIGKILL)
    assert sweep.end().code == -signal.SIGKILL
    with joined(nodes):
        stage.until(lambda: not busy(), 60, lambda: f"still there: {busy()}")
    assert not stage.trainees()
    result = Result(stage.Running(sweep.place, "jobs.sweep", f"resume={sweep.sweep_id}"), server)
    assert (result.board, result.weights) == (undisturbed.board, undisturbed.weights)


@contextlib.contextmanager
def joined(nodes: Cluster) -> Iterator[None]:
    """Look at the cluster from within."""
    ray.init(address=nodes.address, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def busy() -> list[str]:
    """Actors and placement groups that there are, and cores that are taken."""
    found = [f"{actor['ActorClassName']} {actor['State']}" for actor in actors().values() if actor["State"] != "DEAD"]
    groups = ray.util.placement_group_table().values()
    found += [f"placement group {group['state']}" for group in groups if group["state"] != "REMOVED"]
    taken = ray.cluster_resources()["CPU"] - ray.available_resources().get("CPU", 0)
    return found + ([f"{taken:g} cores"] if taken else [])


def test_a_removed_node_and_a_killed_trial_change_nothing(
    undisturbed: Result, words: list[str], server: str, nodes: Cluster, tmp_path: Path
) -> None:
    sweep = stage.Running(Workplace(tmp_path / "place"), "jobs.sweep", *words)
    sweep.read_until(r"  trial \d/4")
    os.kill(stage.trainees()[0], signal.SIGKILL)
    sweep.read_until(r"  trial \d/4")
    nodes.remove_node(list(nodes.worker_nodes)[-1], allow_graceful=False)
    result = Result(sweep, server)
    assert (result.board, result.weights) == (undisturbed.board, undisturbed.weights)
    assert not stage.trainees()


def test_sqlite_is_refused_where_more_than_one_node_takes_part(words: list[str], tmp_path: Path) -> None:
    place = Workplace(tmp_path / "place")
    local = [word for word in words if not word.startswith("tracking.uri")]
    done = stage.Running(place, "jobs.sweep", *local).end()
    assert done.code == 2
    assert "tracking.uri: 'sqlite:///mlflow.db' is a file on this node, and" in done.err
    assert "Set tracking.uri=http://<host>:5000" in done.err
    assert place.left() == []

"""Three Ray nodes on this machine: a node is removed and a trial killed in mid-sweep, two sweeps at once."""

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from mlflow import MlflowClient
from ray._private.state import actors
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.cluster import connection, weights
from pipeline.errors import SweepError
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
    sweep = stage.Running(Workplace(tmp_path_factory.mktemp("undisturbed") / "place"), "sweep", *words)
    sweep.read_until(r"3 jobs, 12 trials, 3 at once")
    return Result(sweep, server)


def test_two_sweeps_at_once_on_one_cluster_and_one_store_end_as_each_alone(
    undisturbed: Result, words: list[str], server: str, nodes: Cluster, tmp_path: Path
) -> None:
    sweeps = [stage.Running(Workplace(tmp_path / name), "sweep", *words) for name in ("one", "other")]
    for result in [Result(sweep, server) for sweep in sweeps]:
        assert (result.board, result.weights) == (undisturbed.board, undisturbed.weights)
    assert_nothing_left(nodes)
    (one,), (other,) = (stage.runs(server, sweep.sweep_id)["sweep"] for sweep in sweeps)
    assert max(one.info.start_time, other.info.start_time) < min(one.info.end_time, other.info.end_time)
    client = MlflowClient(server)
    for name in ("intent", "ner", "medqa"):
        versions = client.search_model_versions(f"name = '{name}'")
        by_sweep = Counter(version.tags["sweep_id"] for version in versions)
        assert [by_sweep[sweep.sweep_id] for sweep in sweeps] == [1, 1]
        assert "champion" in client.get_registered_model(name).aliases


def test_each_node_is_asked_for_itself_and_of_what_trials_need_nothing_is_taken(nodes: Cluster) -> None:
    with joined(nodes):
        ids = [node["NodeID"] for node in ray.nodes()]
        on = [NodeAffinitySchedulingStrategy(node_id=id, soft=False) for id in ids]
        taken = [ray.remote(num_cpus=1)(Waiting).options(scheduling_strategy=one).remote() for one in on]
        ray.get([one.there.remote() for one in taken])  # no core is free
        for id in ids:
            assert connection.everywhere(is_on, id, having="CPU") == [id == other for other in ids]


def test_nodes_with_gpus_alone_are_asked_about_gpus_and_the_process_that_answers_sees_all_and_ends(
    nodes: Cluster, tmp_path: Path
) -> None:
    gpus = nodes.add_node(num_cpus=2, num_gpus=2, env_vars={"CUDA_VISIBLE_DEVICES": "3,5"})

    def sees_all(file: str) -> bool:
        Path(file).write_text(str(os.getpid()), "utf-8")
        return os.environ["CUDA_VISIBLE_DEVICES"] == "3,5"

    try:
        with joined(nodes):
            taken = ray.remote(num_cpus=0, num_gpus=2)(Waiting).remote()
            ray.get(taken.there.remote())  # no GPU is free
            assert connection.everywhere(sees_all, str(tmp_path / "process"), having="GPU") == [True]
            answered = Path(f"/proc/{(tmp_path / 'process').read_text('utf-8')}")
            stage.until(lambda: not answered.exists(), 10)
    finally:
        nodes.remove_node(gpus)


class Waiting:
    def there(self) -> bool:
        return True


def is_on(node: str) -> bool:
    return bool(ray.get_runtime_context().get_node_id() == node)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_a_command_that_was_ended_leaves_nothing_on_the_cluster_and_is_resumed(
    number: signal.Signals,
    code: int,
    undisturbed: Result,
    words: list[str],
    server: str,
    nodes: Cluster,
    tmp_path: Path,
) -> None:
    sweep = stage.Running(Workplace(tmp_path / "place"), "sweep", *words)
    sweep.read_until(r"  trial \d/4", 3)
    os.kill(sweep.process.pid, number)
    assert sweep.end().code == code
    assert_nothing_left(nodes)
    before = stage.trained(sweep.place)
    assert any(before.values())
    result = Result(stage.Running(sweep.place, "sweep", f"resume={sweep.sweep_id}"), server)
    assert (result.board, result.weights) == (undisturbed.board, undisturbed.weights)
    stage.assert_went_on(before, sweep.place)


def test_a_write_into_another_nodes_copy_of_the_checkpoint_is_found_out(
    nodes: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray._private.ray_constants.RAY_ENABLE_ZERO_COPY_TORCH_TENSORS", True)  # as `connected` does

    def write(shared: weights.SharedWeights) -> None:
        ray.get(shared.tensors)["a"][17] = 1e-6

    with joined(nodes, RAY_ENABLE_ZERO_COPY_TORCH_TENSORS="1"):
        shared = weights.share({"a": torch.zeros(2**18)})
        there = NodeAffinitySchedulingStrategy(next(iter(nodes.worker_nodes)).node_id, soft=False)
        task = ray.remote(write).options(scheduling_strategy=there)
        weights.verify(shared)
        ray.get(task.remote(shared))
        assert not ray.get(shared.tensors)["a"].any()  # this node's copy is as it was
        with pytest.raises(SweepError, match="shared checkpoint was changed"):
            weights.verify(shared)


def assert_nothing_left(nodes: Cluster) -> None:
    with joined(nodes):
        stage.until(lambda: not busy(), 60, lambda: f"still there: {busy()}")
    stage.until(lambda: not stage.trainees(), 10)  # an actor is dead a moment before its process has ended


@contextlib.contextmanager
def joined(nodes: Cluster, **environment: str) -> Iterator[None]:
    """Look at the cluster from within; workers have the environment."""
    ray.init(address=nodes.address, log_to_driver=False, runtime_env={"env_vars": environment})
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
    sweep = stage.Running(Workplace(tmp_path / "place"), "sweep", *words)
    sweep.read_until(r"  trial \d/4")
    before = stage.trained(sweep.place)
    assert any(before.values())
    os.kill(stage.trainees()[0], signal.SIGKILL)
    sweep.read_until(r"  trial \d/4")
    nodes.remove_node(list(nodes.worker_nodes)[-1], allow_graceful=False)
    result = Result(sweep, server)
    assert (result.board, result.weights) == (undisturbed.board, undisturbed.weights)
    stage.assert_went_on(before, sweep.place)
    assert_nothing_left(nodes)


def test_sqlite_is_refused_where_more_than_one_node_takes_part(words: list[str], tmp_path: Path) -> None:
    place = Workplace(tmp_path / "place")
    local = [word for word in words if not word.startswith("tracking.uri")]
    done = stage.Running(place, "sweep", *local).end()
    assert done.code == 2
    assert "tracking.uri: 'sqlite:///mlflow.db' is a file on this node, and" in done.err
    assert "Set tracking.uri=http://<host>:5000" in done.err
    assert place.left() == []

"""The service on a Ray of its own, in short: mixed requests while champions change and a process is killed."""

import http.client
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import ray

from pipeline.cluster.connection import connected
from pipeline.config import ClusterConfig
from pipeline.config.serve import ServeConfig, ServingConfig
from pipeline.serving.limits import digest_of
from pipeline.serving.running import Running
from tests import served
from tests.conftest import TinyBert
from tests.ports import free_port

pytestmark = pytest.mark.faults
TOKEN, SECRET = "a-token-that-nobody-may-read", "a-text-that-nobody-may-read"


def kill_a_bank() -> None:
    """Kill one of the processes that answer, as an empty memory or a lost machine would."""
    actors = ray.util.list_named_actors(all_namespaces=True)
    name = next(one["name"] for one in actors if "#Bank#" in one["name"])
    ray.kill(ray.get_actor(name, namespace="serve"))


def eventually(what: Callable[[], bool], timeout_s: float) -> float:
    """Wait until something is so; return for how long."""
    begin = time.monotonic()
    while not what():
        assert time.monotonic() < begin + timeout_s
        time.sleep(0.05)
    return time.monotonic() - begin


def logs() -> dict[str, str]:
    """What Ray and its processes have logged, file by file."""
    folder = Path(ray._private.worker.global_worker.node.get_logs_dir_path())
    return {str(one): one.read_text("utf-8", errors="replace") for one in folder.rglob("*") if one.is_file()}


def test_mixed_requests_are_answered_rightly_while_champions_change_and_a_process_dies_and_no_log_tells_a_secret(
    tiny_bert: TinyBert, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    registry, expected = served.registry_of(tmp_path, tiny_bert, num_tasks=5)
    ray.cloudpickle.register_pickle_by_value(sys.modules[served.__name__])
    port = free_port()
    limits = ServingConfig(replicas=2, poll_s=0.5)
    config = ServeConfig(port=port, serve=limits, runs=str(tmp_path))
    with (
        connected(ClusterConfig(num_cpus=2, object_store_bytes=2**28)),
        Running(registry, config, token_digest=digest_of(TOKEN), reserves=False) as running,
    ):
        table = running.table(threading.Event())
        assert {name: one.champion.reason for name, one in table.tasks.items() if one.champion} == {
            name: "" for name in registry.aliases()
        }
        clients = served.Clients(port, expected, count=8, total=300, token=TOKEN)
        clients.start()
        first, second, *_ = registry.aliases()
        eventually(lambda: clients.num_left < 250, 120)
        registry.promote(first, 2)  # onto another checkpoint
        registry.promote(second, 2)
        kill_a_bank()
        outcome = clients.join(240)
        assert (outcome.wrong, outcome.lost) == ([], [])
        assert outcome.statuses[200] == 300

        said = {name: 0 for name in (first, second)}

        def moved() -> bool:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            for name in said:
                status, said[name], body = served.post(connection, name, served.TEXTS[:1], TOKEN)
                assert status == 200
                assert served.close(body[0], expected[name, said[name], served.TEXTS[0]])
            connection.close()
            return set(said.values()) == {2}

        eventually(moved, 60)
        status, metrics = served.get(port, "/metrics", TOKEN)
        assert status == 200
        assert f'adapter_task_version{{alias="champion",task="{first}"}} 2.0' in metrics.splitlines()
        assert served.get(port, "/readyz")[0] == 200

        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        asked: list[tuple[str, list[object], str]] = [
            (first, [SECRET], TOKEN),
            (first, [{"wrong": SECRET}], TOKEN),
            (SECRET, ["a"], TOKEN),
            (first, [SECRET], TOKEN[:-1]),
        ]
        statuses = [served.post(connection, *one)[0] for one in asked]
        assert statuses == [200, 422, 404, 401]
        connection.close()
        told = logs()
    told |= {"standard output and error": "".join(capfd.readouterr())}
    assert any("replica" in name for name in told)  # the logs of our processes are among them
    for secret in (TOKEN[:-1], SECRET, *(text for text in served.TEXTS if " " in text)):
        assert [name for name, text in told.items() if secret in text] == []

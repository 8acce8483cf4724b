"""The service under load: 10,000 requests of 32 clients over 50 tasks, while champions change and a process dies."""

import json
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import ray

from pipeline.cluster.connection import connected
from pipeline.config import ClusterConfig
from pipeline.config.serve import ServeConfig, ServingConfig
from pipeline.serving.running import Running
from tests import served
from tests.conftest import TinyBert
from tests.integration.test_serving import eventually, kill_a_bank
from tests.ports import free_port

pytestmark = pytest.mark.faults
REQUESTS, CLIENTS, TASKS, VERSIONS = 10_000, 32, 50, 4


def test_of_ten_thousand_requests_none_is_answered_wrongly_and_none_is_lost(
    tiny_bert: TinyBert, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry, expected = served.registry_of(tmp_path, tiny_bert, num_tasks=TASKS, versions=VERSIONS)
    ray.cloudpickle.register_pickle_by_value(sys.modules[served.__name__])
    port = free_port()
    config = ServeConfig(port=port, serve=ServingConfig(replicas=2), runs=str(tmp_path))
    with (
        connected(ClusterConfig(num_cpus=2, object_store_bytes=2**28)),
        Running(registry, config, reserves=False) as running,
    ):
        running.table(threading.Event())
        clients = served.Clients(port, expected, count=CLIENTS, total=REQUESTS)
        begin = time.monotonic()
        clients.start()
        names, killed = list(registry.aliases()), False
        promoted = 0
        while clients.num_left > 0:
            name = names[promoted % TASKS]
            registry.promote(name, registry.aliases()[name]["champion"] % VERSIONS + 1)
            promoted += 1
            if not killed and clients.num_left < REQUESTS // 2:
                kill_a_bank()
                killed = True
            time.sleep(0.2)
        outcome = clients.join(600)
        seconds = time.monotonic() - begin
        assert (outcome.wrong, outcome.lost) == ([], [])
        assert sum(outcome.statuses.values()) == REQUESTS
        assert killed and len({*outcome.versions[names[0]]}) > 1

        last = {name: its["champion"] for name, its in registry.aliases().items()}
        followed = eventually(lambda: versions(port) == last, 30)
        low, middle, high = np.percentile(np.array(outcome.seconds) * 1e3, [50, 95, 99])
        with capsys.disabled():
            print(
                f"\n{REQUESTS} requests in {seconds:.0f} s, {dict(outcome.statuses)}, {promoted} promotions, "
                f"the last of them followed within {followed:.1f} s; "
                f"p50 {low:.0f} ms, p95 {middle:.0f} ms, p99 {high:.0f} ms"
            )


def versions(port: int) -> dict[str, int]:
    """The versions that the table says."""
    return {one["name"]: one["version"] for one in json.loads(served.get(port, "/v1/tasks")[1])["tasks"]}

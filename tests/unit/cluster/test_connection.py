import socket

import pytest

from pipeline.cluster.connection import connected
from pipeline.config import ClusterConfig
from pipeline.errors import ConfigError, PipelineError


def connect(address: str) -> None:
    with connected(ClusterConfig(name="existing", address=address)):
        pass


def test_an_address_where_no_ray_listens_is_refused_at_once() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(ConfigError, match=rf"cluster\.address: '{address}' is no Ray that can be joined \(.*refused\)"):
        connect(address)


def test_a_cluster_that_answers_and_lets_nobody_in_wants_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**how: object) -> None:
        raise ConnectionError("Failed to connect to Ray cluster")

    monkeypatch.setattr("ray.init", refused)
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        with pytest.raises(ConfigError, match=r"Failed to connect .* It answers: set .* and RAY_AUTH_TOKEN to those"):
            connect(address)


def test_a_ray_that_does_not_start_is_one_clear_error_with_a_way_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(**how: object) -> None:
        raise Exception("The current node timed out during startup. This could happen because ...")

    monkeypatch.setattr("ray.init", late)
    with (
        pytest.raises(PipelineError, match=r"Ray did not start \(The current node timed out .* CLUSTER=here"),
        connected(ClusterConfig()),
    ):
        pass

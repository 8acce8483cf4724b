"""Settings of the service: what they refuse, and what is told of them."""

import pytest

from pipeline.config.overrides import read_command
from pipeline.config.serve import ServeConfig
from pipeline.errors import ConfigError


def read(*words: str) -> ServeConfig:
    (config,) = read_command("serve", words)
    assert isinstance(config, ServeConfig)
    return config


def test_all_champions_are_served_on_this_machine_alone_where_nothing_is_said() -> None:
    config = read()
    assert (config.tasks, config.port, config.serve.host, config.serve.is_open) == (["*"], 8000, "127.0.0.1", False)
    assert read("TASKS=sentiment/*,ner", "PORT=8080").tasks == ["sentiment/*", "ner"]
    assert [read(f"serve.host={host}").serve.is_open for host in ("0.0.0.0", "localhost", "'::1'", "10.0.0.1")] == [
        True, False, False, True,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("PORT=0", "port: '0' must be between 1 and 65535"),
        ("tasks=[]", "TASKS: names no task. Write TASKS='*' for all of them"),
        ("CLUSTER=here", "CLUSTER: 'here' cannot serve"),
        ("serve.replicas=0", "serve.replicas: '0' must be above 0"),
        ("serve.max_replicas=0", "serve.max_replicas: '0' is less than serve.replicas (1)"),
        ("serve.target_requests=4", "has no effect without serve.max_replicas"),
        ("serve.poll_s=0", "serve.poll_s: '0.0' must be between 0.1 and 3600"),
        ("serve.host=example", "serve.host: 'example' is no address of this machine"),
        ("serve.max_body_bytes=-1", "must be above 0"),
        ("cluster.slots=2", "is not used by `serve`. It is for trials; set serve.cpus, serve.gpus or serve.replicas"),
        ("EPOCHS=3", "EPOCHS: '3' is not used by `serve`"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(word: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(word)
    assert message in str(caught.value)

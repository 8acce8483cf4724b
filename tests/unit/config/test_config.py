from typing import Any

import pytest

from pipeline.config import ClusterConfig, DataConfig, TaskConfig, recorded
from pipeline.config.overrides import read_command
from pipeline.config.strict import build
from pipeline.errors import ConfigError, TrackingError


def test_fields_are_mapped_one_by_one_and_the_rest_keep_their_names() -> None:
    assert TaskConfig(name="t", kind="classification").field_names == {"text": "text", "label": "label"}
    mapped = TaskConfig(name="t", kind="classification", columns={"text": "message"})
    assert mapped.field_names == {"text": "message", "label": "label"}
    pair = TaskConfig(name="t", kind="classification", columns={"text_pair": "context"})
    assert pair.field_names == {"text": "text", "text_pair": "context", "label": "label"}


@pytest.mark.parametrize(
    ("given", "faults"),
    [
        ({"name": "local", "address": "head:6379"}, ["address"]),
        ({"name": "existing", "address": "head:6379", "num_cpus": 2}, ["num_cpus"]),
        ({"name": "here", "num_workers": 2, "slots": 2, "cpus_per_trial": 2}, ["num_workers", "slots"]),
        ({"name": "here", "gpus_per_trial": 1.0}, []),
        ({"name": "here", "gpus_per_trial": 0.25}, ["gpus_per_trial"]),
        ({"name": "here", "pack": 4}, []),
    ],
)
def test_what_has_no_effect_with_a_kind_of_cluster_is_refused(given: dict[str, Any], faults: list[str]) -> None:
    found = list(ClusterConfig(**given).faults("cluster"))
    assert [fault.where for fault in found] == [f"cluster.{name}" for name in faults]
    assert all(f"CLUSTER={given['name']}" in fault.rule for fault in found)


@pytest.mark.parametrize(
    ("given", "rules"),
    [
        ({"pack": "auto", "num_workers": 2}, []),
        ({"pack": 1, "num_workers": 2}, []),
        ({"pack": 2, "num_workers": 2}, ["cannot be had with several workers a trial (cluster.num_workers=2)"]),
        ({"pack": 0}, ["must be above 0"]),
    ],
)
def test_a_pack_and_several_workers_a_trial_exclude_each_other(given: dict[str, Any], rules: list[str]) -> None:
    found = list(ClusterConfig(**given).faults("cluster"))
    assert [fault.rule for fault in found] == rules
    assert {fault.where for fault in found} <= {"cluster.pack"}


SECRET = "s3cret"


@pytest.mark.parametrize(
    ("command", "words", "where"),
    [
        ("sweep", [f"tracking.uri=http://me:{SECRET}@lab:5000"], "tracking.uri"),
        ("sweep", [f"tracking.uri=https://{SECRET}@lab:5000/x"], "tracking.uri"),
        ("sweep", [f"tracking.uri=http://me:1/{SECRET}@lab:5000"], "tracking.uri"),
        ("sweep", [f'tracking.uri="https://lab:5000/x?a=1&token={SECRET}"'], "tracking.uri"),
        ("status", [f'tracking.uri="postgresql://db/x?user=me&password={SECRET}"'], "tracking.uri"),
        ("submit", [f"ADDRESS=http://head:8265?access_key={SECRET}"], "ADDRESS"),
        ("retrain", [f"tracking.uri=htp://me:{SECRET}@lab:5000"], "tracking.uri"),
        ("retrain", [f"hook.url=http://me:{SECRET}@hooks/x"], "hook.url"),
        ("rollback", [f"hook.url=https://me:{SECRET}@hooks/x"], "hook.url"),
        ("status", [f"tracking.uri=http://me:{SECRET}@lab:5000"], "tracking.uri"),
        ("submit", [f"ADDRESS=http://me:{SECRET}@head:8265"], "ADDRESS"),
        ("sweep", [f"x=[http://me:{SECRET}@lab:5000"], "command line"),
    ],
)
def test_a_password_in_an_address_is_refused_and_not_shown(command: str, words: list[str], where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_command(command, [*words, *(["TASKS=ner"] if command in ("sweep", "retrain") else [])])
    assert where in [fault.where for fault in caught.value.faults]
    assert SECRET not in str(caught.value)
    if "http" in words[0] and where != "command line":
        assert "environment" in str(caught.value) or "htp:" in words[0]


def test_an_error_shows_no_password_of_an_address_that_a_library_quotes() -> None:
    assert str(TrackingError("ProxyError('http://me:s3cret@proxy:3128 a@b refused')")) == (
        "ProxyError('http://***@proxy:3128 a@b refused')"
    )


def test_what_is_recorded_of_a_webhook_ends_with_its_host() -> None:
    words = ["TASKS=ner", 'hook.url="https://hooks.example.com/services/T0/s3cret?x=1"']
    (config,) = read_command("retrain", words)
    assert recorded(config)["hook"]["url"] == "https://hooks.example.com/..."
    assert config.hook.url.endswith("x=1")


def test_the_former_name_of_columns_is_read_as_the_same_and_both_are_refused() -> None:
    values = {"name": "t", "kind": "classification"}
    written_before = build(TaskConfig, {**values, "fields": {"text": "message"}}, "task.t")
    assert written_before == TaskConfig(name="t", kind="classification", columns={"text": "message"})
    with pytest.raises(ConfigError, match=r"task\.t\.fields: is what `columns` was called before, and both are set"):
        build(TaskConfig, {**values, "fields": {}, "columns": {}}, "task.t")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (2, "columns.text: '2' is a number, and numbers count the columns of conll"),
        ([], "columns.text: '[]' is a list of columns"),
    ],
)
def test_a_column_that_cannot_hold_the_field_is_refused(column: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(TaskConfig, {"name": "t", "kind": "classification", "columns": {"text": column}}, "task.t")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "here", "encoding": "base64"}, "data.encoding: 'base64' is no encoding of text"),
        ({"source": "here", "encoding": "cp125"}, "data.encoding: 'cp125' is no encoding of text"),
        ({"source": "hub", "encoding": "cp1252"}, "data.encoding: 'cp1252' has no effect with DATA=hub"),
        ({"source": "starter", "columns": {"text": "a"}}, "data.columns: has no effect with DATA=starter"),
    ],
)
def test_settings_of_data_that_mean_nothing_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(DataConfig, values, "data")
    assert message in str(caught.value)

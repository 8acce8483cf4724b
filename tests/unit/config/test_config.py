from typing import Any

import pytest

from pipeline.config import ClusterConfig, TaskConfig


def test_fields_are_mapped_one_by_one_and_the_rest_keep_their_names() -> None:
    assert TaskConfig(name="t", kind="classification").columns == {"text": "text", "label": "label"}
    mapped = TaskConfig(name="t", kind="classification", fields={"text": "message"})
    assert mapped.columns == {"text": "message", "label": "label"}
    pair = TaskConfig(name="t", kind="classification", fields={"text_pair": "context"})
    assert pair.columns == {"text": "text", "text_pair": "context", "label": "label"}


@pytest.mark.parametrize(
    ("given", "faults"),
    [
        ({"name": "local", "address": "head:6379"}, ["address"]),
        ({"name": "existing", "address": "head:6379", "num_cpus": 2}, ["num_cpus"]),
        ({"name": "here", "num_workers": 2, "slots": 2, "cpus_per_trial": 2}, ["num_workers", "slots"]),
        ({"name": "here", "gpus_per_trial": 1.0}, []),
        ({"name": "here", "gpus_per_trial": 0.25}, ["gpus_per_trial"]),
    ],
)
def test_what_has_no_effect_with_a_kind_of_cluster_is_refused(given: dict[str, Any], faults: list[str]) -> None:
    found = list(ClusterConfig(**given).faults("cluster"))
    assert [fault.where for fault in found] == [f"cluster.{name}" for name in faults]
    assert all(f"CLUSTER={given['name']}" in fault.rule for fault in found)

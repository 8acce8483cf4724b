"""Which settings of the gate cannot hold."""

import math
from collections.abc import Sequence

import pytest

from pipeline.config import GateConfig


def faults(config: GateConfig) -> Sequence[str]:
    return [fault.where for fault in config.faults("gate")]


@pytest.mark.parametrize(
    ("config", "where"),
    [
        (GateConfig(margin=0.0), "gate.margin"),
        (GateConfig(margin=2.0), "gate.margin"),
        (GateConfig(margin=math.nan), "gate.margin"),
        (GateConfig(confidence=95), "gate.confidence"),
        (GateConfig(confidence=0.4), "gate.confidence"),
        (GateConfig(min_rows=0), "gate.min_rows"),
        (GateConfig(gain=-0.1), "gate.gain"),
        (GateConfig(gain=2.0), "gate.gain"),
        (GateConfig(floor=80), "gate.floor"),
        (GateConfig(resamples=199), "gate.resamples"),
        (GateConfig(confidence=0.999, resamples=2000), "gate.resamples"),
    ],
)
def test_a_setting_that_cannot_hold_is_a_fault(config: GateConfig, where: str) -> None:
    assert where in faults(config)


@pytest.mark.parametrize(
    "config", [GateConfig(), GateConfig(gain=0.0, floor=0.5), GateConfig(confidence=0.9, resamples=100)]
)
def test_a_setting_that_can_hold_is_none(config: GateConfig) -> None:
    assert faults(config) == []

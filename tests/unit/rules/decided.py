"""Evidence that is small enough to count, what the gate decides on it, and the numbers of a check."""

import numpy as np

from pipeline.config import GateConfig
from pipeline.core.tasks import metrics
from pipeline.rules.evidence import Evidence, SliceEvidence
from pipeline.rules.gate import Check, Decision, decide
from tests.bench.gate import CHALLENGER, CHAMPION

LOOSE = GateConfig(margin=0.5)
"""So that one rule can be looked at without the others."""


def scored(name: str, *, rows: int = 500, won: int = 0, lost: int = 0, right: float = 0.8) -> SliceEvidence:
    """Accuracy: `won` rows that the challenger alone gets right, `lost` that the champion alone does."""
    both = round(rows * right)
    outcomes = [both, won, lost, rows - both - won - lost]
    return SliceEvidence(
        name=name,
        champion=metrics.value_counts(np.repeat(CHAMPION, outcomes).tolist()),
        challenger=metrics.value_counts(np.repeat(CHALLENGER, outcomes).tolist()),
        statistic=metrics.mean_of,
    )


def checks(decision: Decision) -> dict[str, Check]:
    return {check.name: check for check in decision.checks}


def on_past(*past: SliceEvidence, config: GateConfig = LOOSE) -> Check:
    return checks(decide(Evidence(past=past), config))["past"]


def numbers(check: Check) -> tuple[float, float, float]:
    assert check.difference is not None and check.low is not None and check.high is not None
    return check.difference, check.low, check.high

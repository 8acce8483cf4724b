"""How much a search is going to train, known before it starts. Pure."""

import math
from dataclasses import dataclass

from pipeline.cluster.search import num_trials
from pipeline.config import SearchConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What one job is going to do."""

    trials: int
    epochs: int
    """Of all its trials together; early stopping and ASHA may save some."""


def plan_of(search: SearchConfig, epochs: int) -> Plan:
    """Count the trials and epochs of a job whose trials have `epochs` epochs at most."""
    trials = num_trials(search)
    cohort = search.cohort if search.algorithm == "optuna" else trials
    sizes = [min(cohort, trials - start) for start in range(0, trials, cohort)]
    return Plan(trials=trials, epochs=sum(_cohort_epochs(search, size, epochs) for size in sizes))


def _cohort_epochs(search: SearchConfig, size: int, epochs: int) -> int:
    if search.scheduler == "none":
        return size * epochs
    total, before, rung = 0, 0, search.first_rung
    while rung < epochs:
        total += size * (rung - before)
        before, rung, size = rung, rung * search.reduction, math.ceil(size / search.reduction)
    return total + size * (epochs - before)

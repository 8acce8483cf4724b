"""How well answers fit their rows."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from pipeline.core.tasks import metrics
from pipeline.core.tasks.metrics import Counts, Found, Metric


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scores:
    """How well answers fit their rows; higher is better."""

    primary: float
    """The metric that trials are selected by; negated where less is better."""
    metrics: Mapping[str, float]
    """Every metric of the kind as it is shown; `primary` is one of them."""
    low: float
    """Lower end of the 95 % bootstrap interval of `primary`."""
    high: float
    """Upper end."""
    baseline: float
    """The primary metric of an answer that needs no model, on the same rows."""
    counts: Counts
    """(N, K) what each row adds to `primary`, which is `statistic` of their sum; of a correlation both values of a
    row."""
    statistic: Metric
    loss: float = math.inf
    """Mean loss over the targets; infinite where it was not computed, as of rows that select nothing."""
    labels: tuple[str, ...] = ()
    """Of macro F1: the task's labels and what else the rows have, three columns of `counts` each. Columns of labels
    that are said and are neither stand behind."""
    found: Mapping[str, Found] = field(default_factory=dict)
    """By label or entity type, where the kind has such: how many of those that the rows have were found."""

    def on_own_labels(self) -> "Scores":
        """The primary metric with its interval, a macro F1 over the labels alone that a row has.

        So rows that lack a label are compared with others. By scikit-learn's rule, by which scores are shown, a label
        that no row has and one is said to have counts as any other, with an F1 of 0: a model that knows one label more
        would seem to have forgotten a share of all of them.
        """
        if self.statistic is not metrics.macro_f1_of:
            return self
        counts = self.counts[:, np.repeat(self.counts[:, 2::3].any(0), 3)]
        low, high = metrics.interval(counts, self.statistic)
        primary = metrics.value_of(self.statistic, counts)
        return dataclasses.replace(self, primary=primary, low=low, high=high)

"""What a task has learned and forgotten over its periods, from the scores of every version on every slice.

The matrix R is (T, T): R[i, j] is the score on the frozen evaluation slice of period j of the version that is in force
after period i, NaN where it is not known. Where the gate rejects the challenger of a period, the champion stays, and
row i is the champion's: it repeats row i - 1, and R[i, i] is the score of a version that was not trained on period i.
So these numbers say what users of the champion get. A version that was just rejected may stand as a last row, for
comparison; the metrics of the row before it are the champion's.

Sums run over the entries that are known, and every result says over how many of how many: a mean over what happens to
be there is no mean over all.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Mean:
    """A mean of differences or scores, in the metric's unit."""

    value: float
    """NaN where nothing is known."""
    known: int
    """Terms that it is of."""
    wanted: int
    """Terms that its definition has."""

    @property
    def complete(self) -> bool:
        """Whether all terms are known, and there are any."""
        return self.known == self.wanted > 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ContinualMetrics:
    """Of the version after k periods, k = 1 ... T, on the slices up to its own."""

    average_accuracy: Mean
    """`ACC = 1/k sum_{j <= k} R[k, j]` (Lopez-Paz and Ranzato 2017, "Gradient Episodic Memory", section 2). It is named
    so in the papers; the unit is that of R."""
    backward_transfer: Mean
    """`BWT = 1/(k-1) sum_{j < k} R[k, j] - R[j, j]` (ibid.): below 0, later periods cost what earlier ones had."""
    forward_transfer: Mean
    """`FWT = 1/(k-1) sum_{1 < j <= k} R[j-1, j] - b[j]` (ibid.), b the score of a model without training: above 0, a
    version does better on the period to come than an untrained one. Nothing is known of it without b."""
    forgetting: Mean
    """`F = 1/(k-1) sum_{j < k} max_{j <= l < k} R[l, j] - R[k, j]` (Chaudhry et al. 2018, "Riemannian Walk", section 3,
    where R[l, j] is defined for j <= l alone): what was once had of a slice, less what is left. A term is known where
    R[k, j] and some of the versions before are; where not all of these are, it may be too small."""


def continual_metrics(scores: Matrix, untrained: Sequence[float] | None = None) -> tuple[ContinualMetrics, ...]:
    """Compute the metrics of every version.

    Args:
        scores: R, (T, T), T at least 1.
        untrained: b, (T): the score on each slice of a model that was trained on none, NaN where not known. None: not
            known at all.

    Returns:
        One a row of R; the last is that of the whole.

    Raises:
        ValueError: R is not square, is empty, or b has another length.
    """
    num = len(scores)
    if scores.ndim != 2 or scores.shape != (num, num) or not num:
        raise ValueError(f"scores must be square, one row a version and one column a slice: shape {scores.shape}")
    baseline_T = np.full(num, np.nan) if untrained is None else np.asarray(untrained, dtype=np.float64)
    if baseline_T.shape != (num,):
        raise ValueError(f"untrained must have one score for each of {num} slices: shape {baseline_T.shape}")
    learned_T = np.diag(scores)
    ahead_T = np.diag(scores, 1) - baseline_T[1:]
    found = []
    for k in range(num):
        before = scores[k, :k]
        lost = [_best(scores[j:k, j]) - scores[k, j] for j in range(k)]
        found.append(
            ContinualMetrics(
                average_accuracy=_mean(scores[k, : k + 1]),
                backward_transfer=_mean(before - learned_T[:k]),
                forward_transfer=_mean(ahead_T[:k]),
                forgetting=_mean(np.array(lost)),
            )
        )
    return tuple(found)


def flat(found: ContinualMetrics) -> dict[str, float]:
    """The metrics of one version by name, `continual/...`: as MLflow takes metrics.

    A metric of which nothing is known is left out; of one that is not complete, the number of terms that it lacks
    stands beside it, `continual/..._missing`.
    """
    values: dict[str, float] = {}
    for name, mean in _named(found).items():
        if math.isfinite(mean.value):
            values[f"continual/{name}"] = mean.value
            if not mean.complete:
                values[f"continual/{name}_missing"] = float(mean.wanted - mean.known)
    return values


def continual_records(
    scores: Matrix, periods: Sequence[str], untrained: Sequence[float] | None = None
) -> list[dict[str, Any]]:
    """One record a version, plain JSON: `after`, its score on each slice by period, and its metrics.

    What is not known is None; `incomplete` names the metrics that some term is missing of. R is (T, T), b (T).
    """
    records = []
    for period, row_T, found in zip(periods, scores, continual_metrics(scores, untrained), strict=True):
        named = _named(found)
        record: dict[str, Any] = {"after": period}
        record["scores"] = {name: _known(score) for name, score in zip(periods, row_T.tolist(), strict=True)}
        record |= {name: _known(mean.value) for name, mean in named.items()}
        record["incomplete"] = [name for name, mean in named.items() if 0 < mean.known < mean.wanted]
        records.append(record)
    return records


def _named(found: ContinualMetrics) -> dict[str, Mean]:
    names = ("average_accuracy", "backward_transfer", "forward_transfer", "forgetting")
    return {name: getattr(found, name) for name in names}


def _mean(terms: Matrix) -> Mean:
    known = terms[np.isfinite(terms)]
    return Mean(value=float(known.mean()) if len(known) else math.nan, known=len(known), wanted=len(terms))


def _best(scores: Matrix) -> float:
    known = scores[np.isfinite(scores)]
    return float(known.max()) if len(known) else math.nan


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None

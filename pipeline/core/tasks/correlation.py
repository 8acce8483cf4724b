"""Correlations of true and predicted numbers: metrics of the rows themselves, which no sum over rows makes up."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]
_LEAST_VARIANCE = 1e-28
"""Of the squared mean: a side that varies by less is constant, and its variance that of rounding."""


@final
@dataclass(frozen=True, slots=True)
class Correlation:
    """Pearson's correlation of two columns, or of their ranks, which is Spearman's; ties share the mean of their ranks.

    0 where one of the two is constant, since such answers tell nothing of the order.
    """

    by_rank: bool

    def on(self, rows_N2: _Floats) -> Callable[[_Floats], _Floats]:
        """The metric of these rows as a function of their weights, (R, N) -> (R,); sorts once.

        A weight of 2 is the same as the row twice, so that counts of resampled rows are weights. Ranks are those among
        the weighted rows.
        """
        gold, said = (self._grades(column) for column in np.ascontiguousarray(rows_N2.T))

        def value(weights_RN: _Floats) -> _Floats:
            return _pearson(gold(weights_RN), said(weights_RN), weights_RN)

        return value

    def swapped(self, rows_N2: _Floats, others_N2: _Floats, weights_N: _Floats) -> _Floats:
        """The metric where one single row has the other side's prediction, for every row, (N,).

        Of ranks the moved row's own, among the predictions as they are: that the others move up or down by one place
        in passing is left out.
        """
        gold_N, said_N = (self._grades(column)(weights_N[None])[0] for column in np.ascontiguousarray(rows_N2.T))
        other_N = others_N2[:, 1]
        if self.by_rank:
            order_N = rows_N2[:, 1].argsort()
            sorted_N, below_N = rows_N2[order_N, 1], np.concatenate([[0.0], weights_N[order_N].cumsum()])
            left_N, right_N = np.searchsorted(sorted_N, other_N), np.searchsorted(sorted_N, other_N, side="right")
            other_N = (below_N[left_N] + below_N[right_N]) / 2
        total = weights_N.sum()
        gold_N, moved = gold_N - gold_N @ weights_N / total, said_N @ weights_N / total
        said_N, other_N = said_N - moved, other_N - moved
        step_N = weights_N * (other_N - said_N)
        mean_N = (said_N @ weights_N + step_N) / total
        squares_N = said_N**2 @ weights_N + weights_N * (other_N**2 - said_N**2)
        products_N = (gold_N * said_N) @ weights_N + gold_N * step_N
        variance_N = (squares_N / total - mean_N**2) * (gold_N**2 @ weights_N / total)
        found_N = products_N / total
        scale_N = np.sqrt(np.maximum(variance_N, 0))
        return np.asarray(np.divide(found_N, scale_N, out=np.zeros_like(found_N), where=scale_N > 0))

    def _grades(self, values_N: _Floats) -> Callable[[_Floats], _Floats]:
        """What is correlated of one column, by the rows' weights: (R, N) -> (R, N), or (1, N) of the values."""
        if not self.by_rank:
            return lambda weights_RN: values_N[None]
        order_N = values_N.argsort(kind="stable")
        is_new_N = np.diff(values_N[order_N], prepend=np.nan) != 0
        starts_G = np.flatnonzero(is_new_N)
        group_N = np.empty(len(values_N), dtype=np.int64)
        group_N[order_N] = is_new_N.cumsum() - 1

        def ranks(weights_RN: _Floats) -> _Floats:
            sizes_RG = np.take(weights_RN, order_N, axis=1)
            if len(starts_G) < len(order_N):  # there are ties
                sizes_RG = np.add.reduceat(sizes_RG, starts_G, axis=1)
            return np.asarray(np.take(sizes_RG.cumsum(1) - sizes_RG / 2, group_N, axis=1))

        return ranks


def _pearson(gold_RN: _Floats, said_RN: _Floats, weights_RN: _Floats) -> _Floats:
    total_R = weights_RN.sum(1)
    sides = []
    for side_RN in (gold_RN, said_RN):
        mean_R = _rowwise(side_RN, weights_RN) / total_R
        centred_RN = side_RN - mean_R[:, None]
        weighed_RN = centred_RN * weights_RN
        variance_R = _rowwise(centred_RN, weighed_RN) / total_R
        variance_R[variance_R <= _LEAST_VARIANCE * mean_R**2] = 0.0
        sides.append((centred_RN, weighed_RN, variance_R))
    (_, gold_RN, gold_R), (said_RN, _, said_R) = sides
    found_R, scale_R = _rowwise(gold_RN, said_RN) / total_R, np.sqrt(gold_R * said_R)
    return np.asarray(np.divide(found_R, scale_R, out=np.zeros_like(found_R), where=scale_R > 0))


def _rowwise(left_RN: _Floats, right_RN: _Floats) -> _Floats:
    """The sum of the products in each row, (R,)."""
    return np.asarray(np.einsum("rn,rn->r", left_RN, right_RN))


PEARSON = Correlation(by_rank=False)
SPEARMAN = Correlation(by_rank=True)

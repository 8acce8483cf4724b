"""Two sides that answered the same rows: how far apart their metric is, and bounds of that.

The bounds are those of the percentile bootstrap over pairs (Efron and Tibshirani 1993, section 13.3): rows are drawn
within each slice, the same for both sides, since what both get right says nothing about the difference. Where few rows
differ it is too sure of itself, and of identical answers it has no width at all. So a bound is never nearer to the
difference than the one that Fay and Feuer 1997 give for a weighted sum of rare events, of which each is a row that the
challenger lost (for the upper bound: won), with what that did to the metric. Of equal weights that is the exact one of
a Poisson count (Garwood 1936), and without any loss the rule of three (Hanley and Lippman-Hand 1983): n rows leave, at
95 %, a rate of losses of up to 3 / n. Rows that carry nothing of the metric are not among the n: of the F1 of entities
those that have none and of which neither side says any. Of a mean over L labels the rarest counts, n rows of which
carry 1 / L of it. Of Matthews' correlation an error takes more than its share of the rows (`metrics.error_weight`). A
correlation of numbers is no sum over rows: its resamples are of the rows themselves, drawn anew block by block where it
is asked for.
"""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv  # type: ignore[import-untyped]

from pipeline.core.tasks.correlation import Correlation
from pipeline.core.tasks.metrics import Counts, Metric, carriers, error_weight, limits_of, weighted

_SEED = 0
_DRAWN_AT_ONCE = 4_000_000
"""Numbers of one block of resamples, 32 MB of them."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Measured:
    """Scores of both sides and their difference in R resamples."""

    champion: float
    challenger: float
    differences_R: Counts
    losses: tuple[float, float]
    """Sum and sum of squares of what each row that the challenger lost did to the metric."""
    wins: tuple[float, float]
    """Likewise of those that it won."""
    row_weight: float
    """Share of the metric that one row is worth, at most; 1 where none carries anything."""
    rarest: int
    """Number of the label that says so, among those compared; 0 where there is but one part."""
    error_weight: float = 1.0
    """How much more than its share of the rows one error takes, as `row_weight` has it."""
    rows: int
    carried: int
    """Rows that carry anything of the metric."""
    widest: float = 1.0
    """The largest difference that there can be."""

    @property
    def difference(self) -> float:
        """Challenger minus champion."""
        return self.challenger - self.champion

    @property
    def finite(self) -> bool:
        """Whether the metric has a value, in every resample too."""
        return math.isfinite(self.difference) and bool(np.isfinite(self.differences_R).all())

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Lower and upper bound of the difference, each one-sided."""
        low = float(np.quantile(self.differences_R, 1 - confidence, method="lower"))
        high = float(np.quantile(self.differences_R, confidence, method="higher"))
        low = min(low, self.difference - excess(*self.losses, self.row_weight, confidence))
        high = max(high, self.difference + excess(*self.wins, self.row_weight, confidence))
        return max(low, -self.widest), min(high, self.widest)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Draws:
    """How often each distinct row of a slice comes in each resample; they follow from its name."""

    name: str
    times_D: NDArray[np.int64]
    resamples: int

    def blocks(self, size: int) -> Iterator[NDArray[np.int64]]:
        """All resamples, so many at once, (size, D): the same ones whatever the size."""
        rng = np.random.default_rng([_SEED, *self.name.encode()])
        num_rows = int(self.times_D.sum())
        for start in range(0, self.resamples, size):
            yield rng.multinomial(num_rows, self.times_D / num_rows, size=min(size, self.resamples - start))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Drawn:
    """Rows that both sides answered, D distinct ones, and the sums over them in R resamples."""

    statistic: Metric
    champion_DK: Counts
    challenger_DK: Counts
    times_D: NDArray[np.int64]
    """How often each distinct row comes."""
    units_D: Counts
    """What each row weighs in the sums."""
    champion_RK: Counts
    """Nothing, (R, 0), where the metric is no function of sums."""
    challenger_RK: Counts
    draws: tuple[_Draws, ...]
    """Of each slice."""

    def weighed(self, unit: float) -> Self:
        """Let every row weigh so much."""
        return dataclasses.replace(
            self,
            units_D=np.full_like(self.units_D, unit),
            champion_RK=self.champion_RK * unit,
            challenger_RK=self.challenger_RK * unit,
        )

    def __add__(self, other: Self) -> Self:
        """Put the rows of two slices together, which were drawn independently."""
        return dataclasses.replace(
            self,
            champion_DK=np.concatenate([self.champion_DK, other.champion_DK]),
            challenger_DK=np.concatenate([self.challenger_DK, other.challenger_DK]),
            times_D=np.concatenate([self.times_D, other.times_D]),
            units_D=np.concatenate([self.units_D, other.units_D]),
            champion_RK=self.champion_RK + other.champion_RK,
            challenger_RK=self.challenger_RK + other.challenger_RK,
            draws=self.draws + other.draws,
        )

    def compare(self, columns_K: NDArray[np.bool_]) -> Measured:
        """Compare the two sides by the metric of some of the columns, those of whole labels."""
        champion_DK, challenger_DK = self.champion_DK[:, columns_K], self.challenger_DK[:, columns_K]
        carried_DL = carriers(champion_DK, self.statistic) | carriers(challenger_DK, self.statistic)
        carried = int(self.times_D @ carried_DL.any(1))
        rows, none = int(self.times_D.sum()), (0.0, 0.0)
        if not carried:
            equal_R = np.zeros(len(self.champion_RK))
            return Measured(champion=0.0, challenger=0.0, differences_R=equal_R, losses=none, wins=none, row_weight=1.0,
                            rarest=0, rows=rows, carried=0)  # fmt: skip
        weights_D = self.times_D * self.units_D
        with np.errstate(all="ignore"):  # a metric without a value is found by looking at it
            sides = (weighted(self.statistic, side) for side in (challenger_DK, champion_DK))
            ours, theirs = (float(side(weights_D[None])[0]) for side in sides)
            # What a row does: the metric as it is, beside that with the champion's answer to this one row.
            if isinstance(self.statistic, Correlation):
                swapped_D = self.statistic.swapped(challenger_DK, champion_DK, weights_D)
            else:
                swapped_D = self.statistic(
                    weights_D @ challenger_DK + self.units_D[:, None] * (champion_DK - challenger_DK)
                )
            effects_D = ours - swapped_D
            ours_R, theirs_R = self._resampled(columns_K)
            differences_R = ours_R - theirs_R
        heavier = error_weight(weights_D @ challenger_DK, self.statistic)
        weights_L = np.minimum(_row_weights(carried_DL, self.times_D, self.units_D) * heavier, 1.0)
        lost_D, won_D = np.maximum(-effects_D, 0), np.maximum(effects_D, 0)
        return Measured(
            champion=theirs,
            challenger=ours,
            differences_R=differences_R,
            losses=(float(self.times_D @ lost_D), float(self.times_D @ lost_D**2)),
            wins=(float(self.times_D @ won_D), float(self.times_D @ won_D**2)),
            row_weight=float(weights_L.max()),
            rarest=int(weights_L.argmax()),
            error_weight=heavier,
            rows=rows,
            carried=carried,
            widest=limits_of(self.statistic)[1] - limits_of(self.statistic)[0],
        )

    def _resampled(self, columns_K: NDArray[np.bool_]) -> tuple[Counts, Counts]:
        """The metric of challenger and champion in each resample, (R,)."""
        if not isinstance(self.statistic, Correlation):
            ours_R, theirs_R = (self.statistic(side[:, columns_K]) for side in (self.challenger_RK, self.champion_RK))
            return ours_R, theirs_R
        sides = [self.statistic.on(side) for side in (self.challenger_DK, self.champion_DK)]
        size = max(1, _DRAWN_AT_ONCE // len(self.times_D))
        found: list[list[Counts]] = []
        for slices in zip(*(one.blocks(size) for one in self.draws), strict=True):
            weights_BD = np.hstack(slices) * self.units_D
            found.append([side(weights_BD) for side in sides])
        ours_R, theirs_R = (np.concatenate(side) for side in zip(*found, strict=True))
        return ours_R, theirs_R


def draw(name: str, champion_NK: Counts, challenger_NK: Counts, statistic: Metric, resamples: int) -> Drawn:
    """Draw the rows of a slice anew `resamples` times; the draws follow from its name.

    Equal pairs of rows are drawn together, by how often they come: a multinomial over the D distinct ones is what
    drawing N of N rows amounts to. Accuracy has four.
    """
    split = champion_NK.shape[1]
    rows_NK = np.hstack([champion_NK, challenger_NK])
    # As bytes, rows are sorted 20 times as fast as those of numbers.
    bytes_N = rows_NK.view(f"V{rows_NK.shape[1] * rows_NK.itemsize}").ravel()
    _, first_D, times_D = np.unique(bytes_N, return_index=True, return_counts=True)
    order_D = np.lexsort(rows_NK[first_D].T[::-1])
    distinct_DK, times_D = rows_NK[first_D][order_D], times_D[order_D]
    draws = _Draws(name=name, times_D=times_D, resamples=resamples)
    if isinstance(statistic, Correlation):
        sums_RK = np.empty((resamples, 0))
    else:
        block = max(1, _DRAWN_AT_ONCE // max(len(times_D), 1))
        sums_RK = np.concatenate([drawn_BD @ distinct_DK for drawn_BD in draws.blocks(block)])
    return Drawn(
        statistic=statistic,
        champion_DK=distinct_DK[:, :split],
        challenger_DK=distinct_DK[:, split:],
        times_D=times_D,
        units_D=np.ones(len(times_D)),
        champion_RK=sums_RK[:, :split],
        challenger_RK=sums_RK[:, split:],
        draws=(draws,),
    )


def _row_weights(carried_DL: NDArray[np.bool_], times_D: NDArray[np.int64], units_D: Counts) -> Counts:
    """Share of the metric that one row of each label is worth, at most, (L,); 0 of a label that no row carries."""
    total_L = (times_D * units_D) @ carried_DL
    heaviest_L = (units_D[:, None] * carried_DL).max(0)
    share_L = np.divide(heaviest_L, total_L, out=np.zeros_like(total_L), where=total_L > 0)
    return np.asarray(share_L / np.count_nonzero(total_L))


def excess(total: float, squares: float, weight: float, confidence: float) -> float:
    """How far the true sum of rare events may lie above the one that was seen (Fay and Feuer 1997, equation 8).

    Args:
        total, squares: Of the weights of the events that were seen.
        weight: Of one that was not seen, at most.
    """
    mean, variance = total + weight, squares + weight**2
    return float(gammaincinv(mean**2 / variance, confidence)) * variance / mean - total

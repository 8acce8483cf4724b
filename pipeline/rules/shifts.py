"""How two sides of rows differ: in the shares of their labels, in numbers, and in the embeddings of their texts.

Each comparison gives the size of the difference, on a scale that has a meaning, and a p value.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
_Floats = NDArray[np.float64]

PERMUTATIONS = 1999
"""Of each permutation test: the least p value is 1 / 2000."""
_SEED = 0
_NUM_MOVED = 5
"""Labels whose move is named."""
_LEAST_VECTORS = 4
"""Embeddings a side that the test needs: each side is halved, and half a side needs a pair."""
_DRAWN_AT_ONCE = 4_000_000
"""Numbers of one block of permutations, 32 MB of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """One label's share of all labels."""

    label: str
    old: float
    new: float


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelShift:
    """How the shares of the labels differ."""

    distance: float
    """Total variation, half the sum of the shares' absolute differences, from 0 to 1; 1 where one side has none."""
    p_value: float
    """Share of the permutations of rows between the sides whose chi-square is as large."""
    moved: tuple[Move, ...]
    """Those that moved most, the farthest first."""
    appeared: Mapping[str, int]
    """Label that the old rows lack -> its number among the new."""
    gone: tuple[str, ...]
    """Labels that the new rows lack, the commonest first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NumberShift:
    """How numbers differ: lengths, or targets."""

    distance: float
    """Kolmogorov-Smirnov: the largest difference between the shares of rows up to one number, from 0 to 1."""
    p_value: float
    """Asymptotic; where numbers tie, which whole ones do, it is too large rather than too small."""
    old_median: float
    new_median: float


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddingShift:
    """How the embeddings differ."""

    auc: float
    """Probability that a new row looks newer than an old one to a witness that has seen neither: 0.5 is by chance."""
    mmd2: float
    """Squared maximum mean discrepancy, unbiased: around 0, and below it too, where nothing differs."""
    p_value: float
    """Share of the permutations of rows between the sides whose discrepancy is as large."""
    num_old: int
    num_new: int


def label_shift(old: Sequence[Sequence[str]], new: Sequence[Sequence[str]]) -> LabelShift | None:
    """Compare the shares of the labels, given those of each row; None where no row has one, or a side has no rows.

    What is permuted is rows: the entities of one sentence are no independent draws, and the chi-square test's own
    distribution would find drift among them where there is none.
    """
    names = sorted({label for row in (*old, *new) for label in row})
    if not names or not old or not new:
        return None
    number = {label: i for i, label in enumerate(names)}
    # Rows with the same labels are alike: which of them are drawn is a draw from the counts of the D distinct ones.
    distinct = Counter(tuple(sorted(row)) for row in (*old, *new))
    counts_DL = np.zeros((len(distinct), len(names)))
    for i, row in enumerate(distinct):
        for label in row:
            counts_DL[i, number[label]] += 1
    rng = np.random.default_rng(_SEED)
    times_D = np.array(list(distinct.values()))
    counters = [Counter(label for row in side for label in row) for side in (old, new)]
    old_L, new_L = (np.array([counter[name] for name in names], dtype=np.float64) for counter in counters)
    block = max(1, _DRAWN_AT_ONCE // len(times_D))
    chi2 = []
    for start in range(0, PERMUTATIONS, block):
        size = min(block, PERMUTATIONS - start)
        drawn_PL = rng.multivariate_hypergeometric(times_D, len(new), size=size, method="marginals") @ counts_DL
        chi2.append(_chi_square(old_L + new_L - drawn_PL, drawn_PL))
    p_value = _p_value(np.concatenate(chi2), float(_chi_square(old_L, new_L)))
    old_shares_L, new_shares_L = _shares(old_L), _shares(new_L)
    moves = [
        Move(label=name, old=float(a), new=float(b))
        for name, a, b in zip(names, old_shares_L, new_shares_L, strict=True)
        if a != b
    ]
    both = bool(old_L.sum() and new_L.sum())
    gone = sorted((one for one in names if not new_L[number[one]]), key=lambda one: -old_L[number[one]])
    return LabelShift(
        distance=float(np.abs(old_shares_L - new_shares_L).sum() / 2) if both else 1.0,
        p_value=p_value,
        moved=tuple(sorted(moves, key=lambda move: -abs(move.new - move.old))[:_NUM_MOVED]),
        appeared={name: int(new_L[number[name]]) for name in names if not old_L[number[name]]},
        gone=tuple(gone),
    )


def number_shift(old: Sequence[float], new: Sequence[float]) -> NumberShift | None:
    """Compare numbers by the two-sample Kolmogorov-Smirnov test; None where a side has no rows."""
    if not old or not new:
        return None
    from scipy.stats import ks_2samp  # type: ignore[import-untyped]

    # The exact distribution takes long for thousands of rows, and knows no ties.
    found = ks_2samp(old, new, method="asymp")
    return NumberShift(
        distance=float(found.statistic),
        p_value=float(found.pvalue),
        old_median=float(np.median(old)),
        new_median=float(np.median(new)),
    )


def embedding_shift(old_NH: Vectors, new_MH: Vectors) -> EmbeddingShift | None:
    """Compare embeddings by their maximum mean discrepancy (Gretton et al. 2012, "A Kernel Two-Sample Test").

    The squared discrepancy is the unbiased one (equation 3), of the kernel `k(x, y) = exp(-|x - y|² / 2s²)` with s the
    median distance between all rows (section 8), its p value by permutation. In its own unit it says little, so the
    size of the difference is the AUC of its witness, `mean k(x, new) - mean k(x, old)`, on rows that it has not seen:
    each half of the rows is judged by the other (Kübler et al. 2022, "A Witness Two-Sample Test"), as a classifier
    two-sample test would (Lopez-Paz and Oquab 2017).

    Returns:
        None where a side has fewer than 4 vectors. Takes (N + M)² numbers of 8 bytes.
    """
    num_old, num_new = len(old_NH), len(new_MH)
    if min(num_old, num_new) < _LEAST_VECTORS:
        return None
    kernel_SS = _kernel(np.concatenate([old_NH, new_MH]).astype(np.float64))
    is_new_S = np.arange(num_old + num_new) >= num_old
    rng = np.random.default_rng(_SEED)
    drawn_PS = rng.permuted(np.broadcast_to(is_new_S, (PERMUTATIONS, len(is_new_S))), axis=1)
    mmd2_P = _mmd2(kernel_SS, np.concatenate([is_new_S[None], drawn_PS]))
    return EmbeddingShift(
        auc=_witness_auc(kernel_SS, is_new_S),
        mmd2=float(mmd2_P[0]),
        p_value=_p_value(mmd2_P[1:], float(mmd2_P[0])),
        num_old=num_old,
        num_new=num_new,
    )


def _kernel(rows_SH: _Floats) -> _Floats:
    """The kernel of all pairs, (S, S)."""
    rows_SH = rows_SH - rows_SH.mean(0)  # distances stay, and keep more of their digits
    squares_S = (rows_SH**2).sum(1)
    distances_SS = np.maximum(squares_S[:, None] + squares_S - 2 * rows_SH @ rows_SH.T, 0)
    pairs = distances_SS[np.triu_indices(len(rows_SH), 1)]
    # The median is 0 where most texts are the same one; any other scale then tells them from the rest.
    scale = float(np.median(pairs)) or float(pairs.mean()) or 1.0
    return np.asarray(np.exp(-distances_SS / (2 * scale)))


def _mmd2(kernel_SS: _Floats, is_new_PS: NDArray[np.bool_]) -> _Floats:
    """Unbiased squared discrepancy between the sides of each of P divisions, (P)."""
    off_SS = kernel_SS - np.diag(np.diag(kernel_SS))
    new_PS = is_new_PS.astype(np.float64)
    within_new_P = ((new_PS @ off_SS) * new_PS).sum(1)
    across_P = new_PS @ off_SS.sum(1) - within_new_P
    within_old_P = off_SS.sum() - 2 * across_P - within_new_P
    num_new_P = new_PS.sum(1)
    num_old_P = new_PS.shape[1] - num_new_P
    return np.asarray(
        within_new_P / (num_new_P * (num_new_P - 1))
        + within_old_P / (num_old_P * (num_old_P - 1))
        - 2 * across_P / (num_new_P * num_old_P)
    )


def _witness_auc(kernel_SS: _Floats, is_new_S: NDArray[np.bool_]) -> float:
    """The mean over both halves, every other row of each side, of the AUC that the other half's witness has there."""
    from scipy.stats import mannwhitneyu

    is_even_S = np.concatenate([np.arange(np.sum(is_new_S == side)) % 2 == 0 for side in (False, True)])
    found = []
    for judged_S in (is_even_S, ~is_even_S):
        seen_S = ~judged_S
        newness_S = kernel_SS[:, seen_S & is_new_S].mean(1) - kernel_SS[:, seen_S & ~is_new_S].mean(1)
        old, new = newness_S[judged_S & ~is_new_S], newness_S[judged_S & is_new_S]
        found.append(mannwhitneyu(new, old, method="asymptotic").statistic / (len(new) * len(old)))
    return float(np.mean(found))


def _p_value(drawn_P: _Floats, seen: float) -> float:
    """`(1 + draws as large) / (1 + draws)`, which is never 0 (Phipson and Smyth 2010)."""
    as_large = np.count_nonzero(drawn_P >= seen * (1 - 1e-9) - 1e-12)  # equal ones differ by rounding
    return (1 + int(as_large)) / (1 + len(drawn_P))


def _chi_square(old_L: _Floats, new_L: _Floats) -> _Floats:
    """Pearson's statistic of equal shares, but for a factor of the sides' sizes; of counts (..., L)."""
    pooled_L = _shares(old_L + new_L)
    return np.asarray(((_shares(old_L) - _shares(new_L)) ** 2 / pooled_L).sum(-1))


def _shares(counts_L: _Floats) -> _Floats:
    return np.asarray(counts_L / np.maximum(counts_L.sum(-1, keepdims=True), 1))

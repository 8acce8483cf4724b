"""Metric values, and their bootstrap intervals.

An interval needs its metric a thousand times over, and the gate that of single rows. So each metric is a function of
sums over rows: a row contributes a few counts (its sufficient statistic), a resample of the rows is a weighted sum of
them. Correlations alone are functions of the rows themselves and their weights (`pipeline.core.tasks.correlation`). The
tests hold the values against scikit-learn, seqeval and scipy, which have no counts a row to give.
"""

import importlib.util
import math
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.core.tasks.correlation import Correlation

Counts = NDArray[np.float64]
Statistic = Callable[[Counts], Counts]
"""Sums over rows, (..., K) -> values of the metric, (...)."""
Metric = Statistic | Correlation

Found = tuple[int, int]
"""How many of something were found, of so many that there are."""

Span = tuple[str, int, int]
"""Entity type, first token, token behind the last."""

RESAMPLES = 1000


def weighted(statistic: Metric, counts_NK: Counts) -> Callable[[Counts], Counts]:
    """The metric of these rows as a function of their weights, (R, N) -> (R,)."""
    if isinstance(statistic, Correlation):
        return statistic.on(counts_NK)
    return lambda weights_RN: statistic(weights_RN @ counts_NK)


def value_of(statistic: Metric, counts_NK: Counts) -> float:
    """The metric of all rows."""
    if isinstance(statistic, Correlation):
        return float(statistic.on(counts_NK)(np.ones((1, len(counts_NK))))[0])
    return float(statistic(counts_NK.sum(0)))


def limits_of(statistic: Metric) -> tuple[float, float]:
    """The lowest and the highest value that the metric can have."""
    if isinstance(statistic, Correlation) or statistic is matthews_of:
        return -1.0, 1.0
    return (-math.inf, 0.0) if statistic is minus_root_of else (0.0, 1.0)


def interval(counts_NK: Counts, statistic: Metric) -> tuple[float, float]:
    """Percentile bootstrap over rows: the 95 % interval of `statistic(sum of the rows' counts)`.

    Args:
        counts_NK: One row of counts per scored row.
        statistic: The metric as a function of the counts' sums.

    Returns:
        The 2.5th and the 97.5th percentile over 1,000 resamples, the same ones for the same number of rows; within what
        the metric can have, and never nearer to the value than the rule of three puts them (`row_weight`): the
        resamples of ten right answers of ten have no width, and may yet be those of a model that errs on every fourth
        row.
    """
    rng = np.random.default_rng(0)
    num_rows = len(counts_NK)
    # One resample at a time: all at once takes resamples * rows of memory.
    drawn = (np.bincount(rng.integers(0, num_rows, num_rows), minlength=num_rows) for _ in range(RESAMPLES))
    if isinstance(statistic, Correlation):
        of = statistic.on(counts_NK)
        values_R = np.concatenate([of(drawn_N[None].astype(np.float64)) for drawn_N in drawn])
    else:
        values_R = statistic(np.stack([drawn_N @ counts_NK for drawn_N in drawn]))
    low, high = np.percentile(values_R, [2.5, 97.5])
    value, least = value_of(statistic, counts_NK), -math.log(0.025) * row_weight(counts_NK, statistic)
    lowest, highest = limits_of(statistic)
    return max(min(float(low), value - least), lowest), min(max(float(high), value + least), highest)


def row_weight(counts_NK: Counts, statistic: Metric) -> float:
    """Share of the metric that one row is worth, as the rule of three (Hanley and Lippman-Hand 1983) takes it.

    A row carries the metric where it adds anything to it: every row does to an accuracy or a correlation, one with an
    entity, gold or said, to the F1 of entities. n such rows without a single error leave, at 95 %, a rate of errors of
    up to 3 / n. Of a mean over L labels the rarest counts, n rows of which carry 1 / L of it.

    Returns:
        1 / n, 1 / (L n) of macro F1, or 1 where no row carries anything; of Matthews that times `error_weight`.
    """
    carried_L = carriers(counts_NK, statistic).sum(0)
    carried_L = carried_L[carried_L > 0]
    if not len(carried_L):
        return 1.0
    return min(error_weight(counts_NK.sum(0), statistic) / (len(carried_L) * float(carried_L.min())), 1.0)


def error_weight(sums_K: Counts, statistic: Metric) -> float:
    """How much more than its share of the rows one error takes from the metric, where there are few errors.

    1, but for Matthews: with n rows, of which a label has the share t, the first error of any kind takes
    1 / (n (1 - sum t^2)) from it. Of two labels with as many rows each that is twice what it takes from the accuracy.
    Rows of one label alone carry no correlation, and have no such weight.
    """
    if statistic is not matthews_of:
        return 1.0
    gold_L = sums_K[2::3]
    return 1 / (1 - float(((gold_L / gold_L.sum()) ** 2).sum()))


def carriers(counts_NK: Counts, statistic: Metric) -> NDArray[np.bool_]:
    """Which rows carry which label's part of the metric, (N, L); L is 1 but for macro F1. None carries Matthews'
    correlation where all have one label."""
    if isinstance(statistic, Correlation):  # a value of 0 is a value
        return np.ones((len(counts_NK), 1), np.bool_)
    if statistic is matthews_of and np.count_nonzero(counts_NK[:, 2::3].any(0)) < 2:
        return np.zeros((len(counts_NK), 1), np.bool_)
    counts_NLK = counts_NK.reshape(len(counts_NK), -1, 3) if statistic is macro_f1_of else counts_NK[:, None]
    return np.asarray((counts_NLK != 0).any(-1))


def accuracy(gold: Sequence[str] | Sequence[int], predicted: Sequence[str] | Sequence[int]) -> float:
    """Share of rows whose prediction is the gold one."""
    return float(mean_of(match_counts(gold, predicted).sum(0)))


def macro_f1(gold: Sequence[str], predicted: Sequence[str]) -> float:
    """Mean F1 over the labels that occur, in gold or predicted."""
    found = Counter(wanted for wanted, said in zip(gold, predicted, strict=True) if wanted == said)
    occurring, counters = sorted({*gold, *predicted}), (found, Counter(predicted), Counter(gold))
    return float(macro_f1_of(np.array([counter[label] for label in occurring for counter in counters], np.float64)))


def span_scores(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, float]:
    """Micro-averaged precision, recall and F1 of entities, counted as by conlleval."""
    return _span_values(span_counts([spans(tags) for tags in gold], [spans(tags) for tags in predicted]))


def entity_scores(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and support (the number of gold ones) of each entity type that occurs."""
    both = [[spans(tags) for tags in rows] for rows in (gold, predicted)]
    scores = {}
    for type_ in sorted({span[0] for rows in both for row in rows for span in row}):
        counts_N3 = span_counts(*([[span for span in row if span[0] == type_] for row in rows] for rows in both))
        values = _span_values(counts_N3) | {"support": float(counts_N3[:, 2].sum())}
        scores[type_] = {name: values[name] for name in ("precision", "recall", "f1", "support")}
    return scores


def _span_values(counts_N3: Counts) -> dict[str, float]:
    sums = counts_N3.sum(0)
    found, said, wanted = sums.tolist()
    return {"f1": float(f1_of(sums)), "precision": found / max(said, 1), "recall": found / max(wanted, 1)}


def mean_of(sums: Counts) -> Counts:
    """Statistic of (value, 1) per row: the mean of the values."""
    return np.asarray(sums[..., 0] / sums[..., 1])


def minus_root_of(sums: Counts) -> Counts:
    """Statistic of (squared error, 1) per row: the root of the mean, negated, so that higher is better."""
    return -np.sqrt(mean_of(sums))


def f1_of(sums: Counts) -> Counts:
    """Statistic of (true positives, predicted, gold) per row: micro F1, 0 where there is nothing to find."""
    found = np.asarray(sums[..., 1] + sums[..., 2])
    return np.divide(2 * sums[..., 0], found, out=np.zeros_like(found), where=found > 0)


def macro_f1_of(sums: Counts) -> Counts:
    """Statistic of (true positives, predicted, gold) of every label per row: mean F1 of those that occur."""
    sums_LK = sums.reshape(*sums.shape[:-1], -1, 3)
    num_occurring = np.count_nonzero(sums_LK[..., 1:].sum(-1), axis=-1)
    return np.asarray(f1_of(sums_LK).sum(-1) / np.maximum(num_occurring, 1))


def matthews_of(sums: Counts) -> Counts:
    """Statistic of (true positives, predicted, gold) of every label per row: Matthews' correlation of both.

    Of several labels as Gorodkin 2004 has it; 0 where one label alone is said, or is there.
    """
    right, said_L, gold_L = sums[..., ::3].sum(-1), sums[..., 1::3], sums[..., 2::3]
    total = gold_L.sum(-1)
    shared = np.asarray(right * total - (said_L * gold_L).sum(-1))
    spread = np.sqrt(np.maximum((total**2 - (said_L**2).sum(-1)) * (total**2 - (gold_L**2).sum(-1)), 0))
    return np.asarray(np.divide(shared, spread, out=np.zeros_like(shared), where=spread > 0))


def value_counts(values: Sequence[float]) -> Counts:
    """Counts for `mean_of`, (N, 2)."""
    values_N = np.asarray(values, dtype=np.float64)
    return np.stack([values_N, np.ones_like(values_N)], axis=1)


def match_counts(gold: Sequence[object], predicted: Sequence[object]) -> Counts:
    """Counts for `mean_of` as accuracy, (N, 2)."""
    return value_counts([float(wanted == said) for wanted, said in zip(gold, predicted, strict=True)])


def label_counts(gold: Sequence[str], predicted: Sequence[str], labels: Sequence[str] = ()) -> Counts:
    """Counts for `macro_f1_of` and `matthews_of`, (N, 3 * labels): those of `labels` in their order, then what else
    occurs, sorted."""
    number = {label: i for i, label in enumerate([*labels, *sorted({*gold, *predicted} - {*labels})])}
    counts_NLK = np.zeros((len(gold), len(number), 3))
    for row, (wanted, said) in enumerate(zip(gold, predicted, strict=True)):
        counts_NLK[row, number[wanted], 0] += wanted == said
        counts_NLK[row, number[said], 1] += 1
        counts_NLK[row, number[wanted], 2] += 1
    return counts_NLK.reshape(len(gold), -1)


def found_labels(gold: Sequence[str], predicted: Sequence[str]) -> dict[str, Found]:
    """Label -> how many of its rows have it as answer, of how many."""
    right = Counter(wanted for wanted, said in zip(gold, predicted, strict=True) if wanted == said)
    return {label: (right[label], there) for label, there in sorted(Counter(gold).items())}


def found_entities(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, Found]:
    """Entity type -> how many of its entities were found, of how many."""
    right, there = Counter[str](), Counter[str]()
    for wanted, said in zip(gold, predicted, strict=True):
        entities = {*spans(wanted)}
        there.update(type_ for type_, _, _ in entities)
        right.update(type_ for type_, _, _ in entities & {*spans(said)})
    return {type_: (right[type_], number) for type_, number in sorted(there.items())}


def span_counts(gold: Sequence[Sequence[Span]], predicted: Sequence[Sequence[Span]]) -> Counts:
    """Counts for `f1_of`, (N, 3)."""
    counts = [(len({*wanted} & {*said}), len(said), len(wanted)) for wanted, said in zip(gold, predicted, strict=True)]
    return np.array(counts, dtype=np.float64)


def spans(tags: Sequence[str]) -> list[Span]:
    """Entities of a tag sequence, as conlleval reads it.

    Args:
        tags: BIO, perhaps broken: an I- tag opens an entity where none of its type is open.

    Returns:
        Type, first token, token behind the last.
    """
    found = []
    start = 0
    for i, (before, tag) in enumerate(pairwise(["O", *tags, "O"])):
        if tag.startswith("I-") and before[2:] == tag[2:]:
            continue
        if before != "O":
            found.append((before[2:], start, i))
        start = i
    return found


_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(a|an|the)\b")


def normalise(answer: str) -> str:
    """Lower case, without punctuation and articles, single spaces (SQuAD's evaluate-v1.1.py)."""
    return " ".join(_ARTICLE.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, gold: Sequence[str]) -> float:
    """1 where the normalised answer equals one of the gold answers, else 0; without any, it has to be empty."""
    return float(any(normalise(answer) == normalise(text) for text in gold or [""]))


def word_f1(answer: str, gold: Sequence[str]) -> float:
    """F1 of the normalised answer's words against those of the best gold answer; without any, `exact_match`."""
    if not gold:
        return exact_match(answer, gold)
    return max(_overlap_f1(normalise(answer).split(), normalise(text).split()) for text in gold)


def _overlap_f1(words: list[str], gold: list[str]) -> float:
    shared = sum((Counter(words) & Counter(gold)).values())
    return 2 * shared / (len(words) + len(gold)) if shared else 0.0


def has_chrf() -> bool:
    """Whether sacrebleu is installed, which `chrf` needs."""
    return importlib.util.find_spec("sacrebleu") is not None


def chrf(answers: Sequence[str], gold: Sequence[str]) -> list[float]:
    """Sentence chrF of each answer (Popović 2015; sacrebleu's character 6-grams and beta 2), from 0 to 1."""
    from sacrebleu.metrics import CHRF

    measure = CHRF()
    return [measure.sentence_score(said, [wanted]).score / 100 for said, wanted in zip(answers, gold, strict=True)]

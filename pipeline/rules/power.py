"""What a slice will be able to show, before there is a champion: the smallest margin that an equal challenger passes.

A challenger that is as good as the champion still answers some rows differently, half of them worse. The gate sees a
difference that is 0 but for chance, and asks that its lower bound lies above minus the margin. So the margin has to be
as wide as the bound's distance from the difference, and as what chance may take away. Pure, and without a model: which
rows carry the metric follows from their targets.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from pipeline.config import GateConfig
from pipeline.core.data.rows import Dataset, Row
from pipeline.core.tasks.metrics import carriers, error_weight
from pipeline.core.tasks.task import Task
from pipeline.rules.news import unseen
from pipeline.rules.paired import excess

DISCORDANCE = 0.06
"""Share of the rows on which two good models differ: an assumption, the smaller of the two that docs/retraining.md
simulates. Where it is 0.12, a slice can show about 1.4 times the loss."""
POWER = 0.8
"""Probability with which an equal challenger is to pass."""
_LARGEST_MARGIN = 0.1
"""A larger one is not proposed: it would let a model pass that is plainly worse."""
_MOST_ROWS = 10**9
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class Power:
    """What the rows of a slice can show."""

    rows: int
    carrying: tuple[int, ...]
    """Rows that carry the metric; of macro F1 those of each label that is compared."""
    labels: tuple[str, ...]
    """Of macro F1, in the order of `carrying`."""
    loss: float
    """The smallest loss that can be shown, in the metric's unit; 1: none."""
    short_of: tuple[str, ...]
    """Settings of the gate that ask for more rows."""
    error_weight: float = 1.0
    """How much more than its share of the rows one error takes from the metric."""

    @property
    def too_few(self) -> bool:
        """Whether on the slice alone the gate takes no challenger for as good as its champion."""
        return bool(self.short_of)


def smallest_loss(carrying_L: Sequence[float], confidence: float, discordance: float = DISCORDANCE) -> float:
    """The smallest margin within which the gate finds an equal challenger with a probability of `POWER`.

    With n rows and a discordance d the difference of two equal models has a standard error of s = sqrt(d / n). With
    z(p) for the normal quantile the margin is

        z(POWER) s + max(z(confidence) s, e)

    where e is how far the gate moves the bound of few rows for what they may not have shown (`pipeline.rules.paired`),
    taken at the losses that are there when chance is against the challenger. For d = 0 it is the rule of three, which
    is `-log(1 - confidence) / n`. Of a mean over L labels with n_l rows each, s is sqrt(d sum(1 / n_l)) / L, and e that
    of the rarest. A row that differs moves an F1 by less than an accuracy, so that an F1 takes a little less than this.

    Args:
        carrying_L: Rows that carry the metric, of each label of a macro F1; else one number.
        confidence: Of the gate's bounds.
        discordance: Share of the rows on which the two differ.

    Returns:
        From 0 to 1; 1 also where a label has no row.
    """
    num_labels = len(carrying_L)
    if not min(carrying_L):
        return 1.0
    heaviest = 1 / (num_labels * min(carrying_L))
    mean_weight = sum(1 / rows for rows in carrying_L) / num_labels**2
    error = math.sqrt(discordance * mean_weight)
    chance = _quantile(POWER) * error
    lost = (discordance + chance) / 2
    return min(chance + max(_quantile(confidence) * error, excess(lost, lost * mean_weight, heaviest, confidence)), 1.0)


def power_of(task: Task, rows: Sequence[Row], config: GateConfig) -> Power:
    """Find which of the rows carry the metric of the task, and what they can show."""
    if not rows:
        return Power(rows=0, carrying=(0,), labels=(), loss=1.0, short_of=("min_rows",))
    counts, statistic, labels = task.right_counts(rows)
    carrying: tuple[int, ...] = tuple(carriers(counts, statistic).sum(0).tolist())
    if labels and config.rare_labels == "leave_out":
        carrying, labels = _without_rare(carrying, labels, config)
    heavier = error_weight(counts.sum(0), statistic) if any(carrying) else 1.0
    loss = min(smallest_loss(carrying, config.confidence) * heavier, 1.0)
    short_of = tuple(_short_of(carrying, bool(labels), config))
    return Power(rows=len(rows), carrying=carrying, labels=labels, loss=loss, short_of=short_of, error_weight=heavier)


def shortfall(task: Task, dataset: Dataset, config: GateConfig) -> str:
    """Say that later passes will be able to show too little on the test rows of a first champion, and what to do.

    Returns:
        One line without a full stop; empty where the rows show what `gate.margin` asks.
    """
    power = power_of(task, unseen(dataset), config)
    can = []
    if not _is_within(power.loss, config):
        points = _points(power.loss)
        loss = f"a loss of {points} {'point' if points == '1' else 'points'}, not of {config.margin * 100:g}"
        can.append(f"can show {loss if power.loss < 1 else 'nothing'}")
    if power.too_few:
        needed = {"min_rows": str(config.min_rows), "min_rows_label": str(config.min_rows_label)}
        if power.labels:
            needed["min_rows"] = f"{math.ceil(config.min_rows / len(power.labels))} of each label"
        asked = " and ".join(f"gate.{name} ({needed[name]})" for name in power.short_of)
        can.append(f"{'is' if power.rows == 1 else 'are'} too few for {asked}")
    if not can:
        return ""
    so = "may keep out a challenger that is as good"
    if power.too_few:
        so = "will promote only what is shown to be better"
        if power.labels or not min(power.carrying):
            so = "will promote nothing"
    return f"{_rows(power)} {', and '.join(can)}: later passes {so}. {_remedy(power, config)}"


def _without_rare(
    carrying_L: tuple[int, ...], labels: tuple[str, ...], config: GateConfig
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Leave out the labels that have too few rows; none, where all of them have."""
    by_rows = sorted(zip(carrying_L, labels, strict=True), reverse=True)
    for num_kept in range(len(by_rows), 0, -1):
        kept = by_rows[:num_kept]
        if not _short_of([rows for rows, _ in kept], True, config):
            return tuple(rows for rows, _ in kept), tuple(label for _, label in kept)
    return carrying_L, labels


def _short_of(carrying_L: Sequence[float], are_labels: bool, config: GateConfig) -> list[str]:
    """Which settings of the gate ask for more rows; of L labels each needs an L-th of `min_rows`."""
    fewest = min(carrying_L)
    short = ["min_rows"] if len(carrying_L) * fewest < config.min_rows else []
    return short + (["min_rows_label"] if are_labels and fewest < config.min_rows_label else [])


def _rows(power: Power) -> str:
    rows = f"{power.rows:,} test {'row' if power.rows == 1 else 'rows'}"
    fewest = min(power.carrying)
    if power.labels:
        which = f"{'is' if fewest <= 1 else 'are'} of label {power.labels[power.carrying.index(fewest)]!r}"
    elif fewest < power.rows:
        which = f"{'carries' if fewest <= 1 else 'carry'} the metric"
    else:
        return rows
    return f"{rows}, of which {f'{fewest:,}' if fewest else 'none'} {which},"


def _remedy(power: Power, config: GateConfig) -> str:
    """More rows such as these, or settings that fit them."""
    if not power.rows:
        return "Give more"
    if not min(power.carrying):
        lacking = [repr(label) for label, rows in zip(power.labels, power.carrying, strict=False) if not rows]
        return f"Give test rows {f'of label {lacking[0]}' if lacking else 'that do'}"

    def are_enough(total: int) -> bool:
        more = [total * rows / power.rows for rows in power.carrying]
        is_shown = _is_within(smallest_loss(more, config.confidence) * power.error_weight, config)
        return is_shown and not _short_of(more, bool(power.labels), config)

    needed = bisect_left(range(_MOST_ROWS), True, lo=power.rows, key=are_enough)
    digits = 10 ** max(len(str(needed)) - 2, 0)
    remedy = f"Give about {-(-needed // digits) * digits:,} test rows"
    if not _is_within(power.loss, config) and power.loss > _LARGEST_MARGIN:
        return remedy
    fitting = [] if _is_within(power.loss, config) else [f"gate.margin={_rounded_up(power.loss):g}"]
    fewest = {"min_rows": len(power.carrying) * min(power.carrying), "min_rows_label": min(power.carrying)}
    fitting += [f"gate.{name}={fewest[name]}" for name in power.short_of]
    return f"{remedy}, or set {' '.join(fitting)}"


def _is_within(loss: float, config: GateConfig) -> bool:
    return loss <= config.margin + _ROUNDING


def _quantile(probability: float) -> float:
    return NormalDist().inv_cdf(probability)


def _rounded_up(value: float) -> float:
    """To a tenth of a point."""
    return math.ceil(round(value * 1000, 6)) / 1000


def _points(value: float) -> str:
    return f"{_rounded_up(value) * 100:g}"

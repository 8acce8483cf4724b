"""What the gate is given: both sides' answers on frozen slices; and whether that is whole, and comparable."""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.config import GateConfig
from pipeline.core.data.rows import num_rows
from pipeline.core.tasks.metrics import Counts, Found, Metric, carriers, macro_f1_of

_NUM_LISTED = 5
"""Labels that a sentence lists."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SliceEvidence:
    """What champion and challenger answered on one frozen evaluation slice: row i of both is the same row."""

    name: str
    """Of the period; the resamples follow from it, so that a slice has the same bounds whatever stands beside it."""
    champion: Counts | None
    """(N, K) counts as in `pipeline.core.tasks.metrics`, higher is better; of a correlation both values of a row. None
    where there is no champion yet."""
    challenger: Counts
    """(N, K) counts."""
    statistic: Metric
    """The metric as a function of the sums over rows, or of the rows, applied to each side's own."""
    labels: tuple[str, ...] = ()
    """Of macro F1, three columns each, on both sides: the task's labels, and what else the rows have. What columns
    stand behind are of labels that are only said."""
    found: Mapping[str, tuple[Found, Found]] = field(default_factory=dict)
    """By label or entity type: what champion and challenger found of those that the rows have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """All that is known of a challenger beside its champion."""

    past: Sequence[SliceEvidence]
    """Slices of the periods before; their order does not matter."""
    new: SliceEvidence | None = None
    """The slice of the period that the challenger was trained for; None where there is none to be had."""
    missing: Sequence[str] = ()
    """What could not be scored, a sentence each. Anything at all stops the challenger."""
    grown: Sequence[str] = ()
    """Labels that the challenger has and the champion lacks."""
    first: bool = False
    """There is no champion. Said rather than inferred: results that were lost must not look like a first champion."""

    @property
    def slices(self) -> list[SliceEvidence]:
        """All of them, the new one last."""
        return [*self.past, *([self.new] if self.new else [])]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Label:
    """How many rows the slices have of a label, of which so many are needed."""

    name: str
    rows: int
    needed: int


def gaps(evidence: Evidence, config: GateConfig) -> Iterator[str]:
    """What keeps the evidence from being whole, a sentence each."""
    yield from evidence.missing
    if evidence.first and not evidence.slices:
        yield "there is no slice to score the first champion on"
    if not evidence.first and not evidence.past and not evidence.missing:
        yield "there is no slice of the past to compare with the champion on"
    if not evidence.first and config.gain is not None and evidence.new is None:
        yield "a gain is asked and there is no new slice to show it on"
    for name, count in Counter(one.name for one in evidence.slices).items():
        if count > 1:
            yield f"slice {name}: is there {count} times"
    found = [f"slice {one.name}: {gap}" for one in evidence.slices for gap in _slice_gaps(one, evidence.first)]
    yield from found
    if evidence.past and not found and not evidence.first:
        yield from _carrier_gaps(evidence, config)


def _slice_gaps(one: SliceEvidence, first: bool) -> Iterator[str]:
    num_rows = len(one.challenger)
    if one.champion is None and not first:
        yield "has no results of the champion"
    elif one.champion is not None and first:
        yield "has results of a champion, where there is said to be none"
    elif one.champion is not None and len(one.champion) != num_rows:
        yield f"has {len(one.champion)} rows of the champion and {num_rows} of the challenger, not pairs"
    if not num_rows:
        yield "has no rows"
    for side, counts in (("champion", one.champion), ("challenger", one.challenger)):
        if counts is not None and not np.isfinite(counts).all():
            bad = np.flatnonzero(~np.isfinite(counts).all(1))
            more = f", nor are {len(bad) - 1} more" if len(bad) > 1 else ""
            yield f"the {side}'s result of row {bad[0]} is not finite{more}"


def _carrier_gaps(evidence: Evidence, config: GateConfig) -> Iterator[str]:
    """Which rows that carry the metric are missing."""
    if not _names(evidence.past[0]):
        if not any(carrying(one).any() for one in evidence.past):
            yield f"the slices of the past have no rows that carry the metric, of which {config.min_rows} are needed"
        return
    rare, kept = _sorted_out(evidence, config)
    past = Counter[str]()
    for part in evidence.past:
        past.update(rows_of(part))
    if config.rare_labels == "leave_out" and not any(past[label] for label in kept):
        yield "no label of the past has rows enough to compare the two on"
    elif config.rare_labels == "stop":
        for one in rare[:_NUM_LISTED]:
            there = num_rows(one.rows)
            missing = f"{one.needed - one.rows} fewer than the {one.needed} that are needed"
            yield f"label {one.name!r}: the slices have {there} of it, {missing}"
        if len(rare) > _NUM_LISTED:
            yield f"nor have {len(rare) - _NUM_LISTED} more labels rows enough"


def comparable(evidence: Evidence, config: GateConfig) -> tuple[Evidence, list[str]]:
    """Bring all slices to the same labels, where the metric is a mean over labels; say which were left out."""
    if evidence.first or not _names(evidence.slices[0]):
        return evidence, []
    rare, kept = _sorted_out(evidence, config)
    past, new = [_on_labels(one, kept) for one in evidence.past], evidence.new
    brought = dataclasses.replace(evidence, past=past, new=_on_labels(new, kept) if new else None)
    return brought, [one.name for one in rare]


def carrying(one: SliceEvidence) -> NDArray[np.bool_]:
    """Which rows carry anything of the metric, on either side, (N,)."""
    sides = [one.challenger] if one.champion is None else [one.champion, one.challenger]
    carried: NDArray[np.bool_] = np.any([carriers(side, one.statistic).any(1) for side in sides], axis=0)
    return carried


def rows_of(one: SliceEvidence) -> dict[str, int]:
    """Label -> rows of the slice that have it; nothing where the metric is no mean over labels."""
    names = _names(one)
    return dict(zip(names, one.challenger[:, 2 : 3 * len(names) : 3].sum(0).astype(int).tolist(), strict=True))


def _names(one: SliceEvidence) -> tuple[str, ...]:
    if one.statistic is not macro_f1_of:
        return ()
    return one.labels or tuple(f"number {i}" for i in range(one.challenger.shape[1] // 3))


def _sorted_out(evidence: Evidence, config: GateConfig) -> tuple[list[_Label], list[str]]:
    """Labels of too few rows, and the others.

    `min_rows` rows have to carry the metric, of which a label that is one of L is an L-th: it needs an L-th of them. A
    label that no slice of the past has and the new one does is judged by that.
    """
    names = sorted({name for one in evidence.slices for name in _names(one)})
    past = Counter[str]()
    for one in evidence.past:
        past.update(rows_of(one))
    new = rows_of(evidence.new) if evidence.new else {}
    fresh = [name for name in names if not past[name] and new.get(name)]
    rare = [
        _Label(name=name, rows=new[name], needed=config.min_rows_label)
        for name in fresh
        if new[name] < config.min_rows_label
    ]
    kept = sorted({*names} - {*fresh}, key=lambda name: (-past[name], name))
    num_labels = len(kept)
    while kept:
        if config.rare_labels == "leave_out":
            num_labels = len(kept)  # without those that are left out
        needed = max(config.min_rows_label, math.ceil(config.min_rows / num_labels))
        if past[kept[-1]] >= needed:
            break
        rare.append(_Label(name=kept[-1], rows=past[kept[-1]], needed=needed))
        kept.pop()
    kept += [name for name in fresh if new[name] >= config.min_rows_label]
    return sorted(rare, key=lambda one: (one.rows, one.name)), sorted(kept)


def _on_labels(one: SliceEvidence, labels: Sequence[str]) -> SliceEvidence:
    """The slice with the columns of these labels alone; those of labels that it does not know are empty."""
    place = {name: i for i, name in enumerate(_names(one))}

    def columns(counts_NK: Counts) -> Counts:
        picked = [
            counts_NK[:, 3 * place[label] : 3 * place[label] + 3] if label in place else np.zeros((len(counts_NK), 3))
            for label in labels
        ]
        return np.hstack(picked)

    champion = None if one.champion is None else columns(one.champion)
    return dataclasses.replace(one, champion=champion, challenger=columns(one.challenger), labels=tuple(labels))

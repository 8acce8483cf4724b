"""What differs between the rows that the champion has seen and those that have come since, and whether to retrain.

Four comparisons, each with the size of the difference, and all but the last with a p value:

* the shares of the labels: total variation distance, and a permutation test over rows; or where the targets are
  numbers, these: Kolmogorov-Smirnov;
* the lengths of the texts: Kolmogorov-Smirnov;
* the texts, as embeddings of the frozen checkpoint: maximum mean discrepancy, and how well a new row can be told from
  an old one;
* the champion's score on the new rows beside that on its past slice.

Comparing representations, with the tests' p values corrected by Bonferroni, is what Rabanser et al. 2019 ("Failing
Loudly", sections 3 and 4) found to detect shifts best. A drift is significant and large; `retrain_reason` says which.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config import DriftConfig
from pipeline.core.data.rows import Row, many
from pipeline.rules.shifts import (
    EmbeddingShift,
    LabelShift,
    NumberShift,
    Vectors,
    embedding_shift,
    label_shift,
    number_shift,
)

_NUM_LISTED = 5
"""Labels that a sentence lists."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One side of the comparison: old rows or new ones."""

    labels: Sequence[Sequence[str]]
    """Of each row, `Task.labels_of`; none where the kind has no labels."""
    lengths: Sequence[int]
    """Of each row's text, in words or sub-tokens; the same on both sides."""
    numbers: Sequence[float] = ()
    """Targets that are numbers, `Task.number_of`; none where they are not."""
    vectors: Vectors | None = None
    """(N, H) embeddings of rows, of `choose(rows, config.max_rows)` for instance. None: not compared."""
    score: float | None = None
    """The champion's primary metric: of the old side on its past slice. None: not compared."""
    high: float | None = None
    """Upper end of the 95 % interval of `score`. None: not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreShift:
    """The champion's score, in its metric's unit."""

    past: float
    new: float
    high: float | None = None
    """Upper end of the 95 % interval of `new`. None: not known."""

    @property
    def drop(self) -> float:
        return self.past - self.new

    @property
    def may_be_chance(self) -> bool:
        """Whether so few new rows carry the metric that it may be as high on them as it was."""
        return self.high is not None and self.high >= self.past


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """All that was measured; None where a side has nothing to measure."""

    num_old: int
    num_new: int
    labels: LabelShift | None
    numbers: NumberShift | None
    lengths: NumberShift | None
    embeddings: EmbeddingShift | None
    score: ScoreShift | None

    def metrics(self) -> dict[str, float]:
        """The numbers by name, `drift/...`, finite ones alone: as MLflow takes metrics."""
        found: dict[str, float] = {"drift/old_rows": self.num_old, "drift/new_rows": self.num_new}
        if self.labels:
            found |= {"drift/label_distance": self.labels.distance, "drift/label_p": self.labels.p_value}
            found |= {"drift/new_labels": len(self.labels.appeared), "drift/gone_labels": len(self.labels.gone)}
        if self.numbers:
            found |= {"drift/target_distance": self.numbers.distance, "drift/target_p": self.numbers.p_value}
            found |= {"drift/old_target": self.numbers.old_median, "drift/new_target": self.numbers.new_median}
        if self.lengths:
            found |= {"drift/length_distance": self.lengths.distance, "drift/length_p": self.lengths.p_value}
            found |= {"drift/old_length": self.lengths.old_median, "drift/new_length": self.lengths.new_median}
        if self.embeddings:
            found |= {"drift/embedding_auc": self.embeddings.auc, "drift/embedding_mmd2": self.embeddings.mmd2}
            found["drift/embedding_p"] = self.embeddings.p_value
        if self.score:
            found |= {"drift/past_score": self.score.past, "drift/new_score": self.score.new}
            found["drift/score_drop"] = self.score.drop
        return {name: float(value) for name, value in found.items() if math.isfinite(value)}

    def records(self) -> list[dict[str, Any]]:
        """One record a comparison, plain JSON: `measure`, `size`, `p_value` (None: no test), `detail` in words."""
        return [
            {"measure": measure, "size": size if math.isfinite(size) else None, "p_value": p_value, "detail": detail}
            for measure, size, p_value, detail in self._measures()
        ]

    def lines(self) -> list[str]:
        """One line a comparison, for the console."""
        return [
            f"{measure}: {size:.3f}{'' if p_value is None else f' (p {p_value:.2g})'}, {detail}"
            for measure, size, p_value, detail in self._measures()
        ]

    def _measures(self) -> Iterator[tuple[str, float, float | None, str]]:
        if self.labels:
            yield "label distance", self.labels.distance, self.labels.p_value, _labels_in_words(self.labels)
        if self.numbers:
            yield "target distance", self.numbers.distance, self.numbers.p_value, _medians(self.numbers)
        if self.lengths:
            yield "length distance", self.lengths.distance, self.lengths.p_value, _medians(self.lengths)
        if self.embeddings:
            sides = f"{self.embeddings.num_old} old and {self.embeddings.num_new} new rows"
            detail = f"MMD² {self.embeddings.mmd2:.3g} of {sides}"
            yield "embedding AUC", self.embeddings.auc, self.embeddings.p_value, detail
        if self.score:
            yield "score drop", self.score.drop, None, f"{self.score.past:.3f} -> {self.score.new:.3f}"


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrainDecision:
    """Whether to train a challenger, and why."""

    retrain: bool
    reason: str
    """In words, without a full stop."""


def retrain_reason(drift: Drift | None, num_new: int, config: DriftConfig) -> RetrainDecision:
    """Decide whether the new rows, `num_new` in all, are worth a challenger.

    Where the policy asks for a drift and none could be measured, a challenger is trained: the gate, not this policy, is
    what keeps a worse one out.
    """
    if num_new < config.min_new_rows:
        few = f"{many(num_new, 'new row')}, fewer than the {config.min_new_rows} that are worth a retraining"
        return RetrainDecision(retrain=False, reason=few)
    found = findings(drift, config) if drift else ()
    if config.policy == "always":
        reason = f"{many(num_new, 'new row')}, and the policy is to retrain always"
        return RetrainDecision(retrain=True, reason="; ".join([reason, *found]))
    if found:
        return RetrainDecision(retrain=True, reason="; ".join(found))
    if drift is None or not any((drift.labels, drift.numbers, drift.lengths, drift.embeddings, drift.score)):
        reason = f"{many(num_new, 'new row')}, and no drift could be measured"
        return RetrainDecision(retrain=True, reason=reason)
    reason = f"no drift in {many(num_new, 'new row')}: {'; '.join(drift.lines())}"
    return RetrainDecision(retrain=False, reason=reason)


def findings(drift: Drift, config: DriftConfig) -> tuple[str, ...]:
    """Every difference that is significant and passes its threshold, in words."""
    tested = [one for one in (drift.labels, drift.numbers, drift.lengths, drift.embeddings) if one]
    level = config.significance / max(len(tested), 1)
    found = []
    if drift.labels and drift.labels.appeared:
        names = _listed([f"{label} ({number})" for label, number in drift.labels.appeared.items()])
        found.append(f"new {'label' if len(drift.labels.appeared) == 1 else 'labels'}: {names}")
    if drift.labels and drift.labels.distance >= config.label_distance and drift.labels.p_value <= level:
        size = _beside(drift.labels.distance, config.label_distance, drift.labels.p_value)
        found.append(f"label shares moved by {size}: {_labels_in_words(drift.labels)}")
    for what, shift, least in (
        ("targets", drift.numbers, config.label_distance),
        ("lengths", drift.lengths, config.length_distance),
    ):
        if shift and shift.distance >= least and shift.p_value <= level:
            found.append(f"{what} moved by {_beside(shift.distance, least, shift.p_value)}: {_medians(shift)}")
    if drift.embeddings and drift.embeddings.auc >= config.embedding_auc and drift.embeddings.p_value <= level:
        size = _beside(drift.embeddings.auc, config.embedding_auc, drift.embeddings.p_value)
        found.append(f"texts moved: new rows are told from old by their embeddings with an AUC of {size}")
    if drift.score and not math.isfinite(drift.score.drop):
        found.append("the champion's score on the new rows or on its past slice is no number")
    elif drift.score and drift.score.drop >= config.score_drop and not drift.score.may_be_chance:
        scores = f"{drift.score.past:.3f} on its past slice, {drift.score.new:.3f} on the new rows"
        found.append(f"the champion's score dropped by {drift.score.drop:.3f} (least {config.score_drop:g}): {scores}")
    return tuple(found)


def measure(old: Sample, new: Sample, config: DriftConfig) -> Drift:
    """Compare what the champion has seen with what has come since, in whatever both have.

    Of the embeddings the first `config.max_rows` a side are compared, of which `choose` makes a fair choice.
    """
    embeddings = score = None
    if old.vectors is not None and new.vectors is not None:
        embeddings = embedding_shift(old.vectors[: config.max_rows], new.vectors[: config.max_rows])
    if old.score is not None and new.score is not None:
        score = ScoreShift(past=old.score, new=new.score, high=new.high)
    return Drift(
        num_old=len(old.lengths),
        num_new=len(new.lengths),
        labels=label_shift(old.labels, new.labels),
        numbers=number_shift(old.numbers, new.numbers),
        lengths=number_shift(old.lengths, new.lengths),
        embeddings=embeddings,
        score=score,
    )


def choose(rows: Sequence[Row], limit: int) -> list[Row]:
    """At most `limit` rows, those with the lowest digests: the same ones whatever order the rows are in."""
    return sorted(rows, key=lambda row: row.digest)[:limit]


def _medians(shift: NumberShift) -> str:
    return f"median {shift.old_median:.4g} -> {shift.new_median:.4g}"


def _labels_in_words(shift: LabelShift) -> str:
    moves = [f"{move.label} {move.old:.1%} -> {move.new:.1%}" for move in shift.moved]
    parts = [", ".join(moves) or "the same shares"]
    parts += [f"new: {_listed(list(shift.appeared))}"] if shift.appeared else []
    parts += [f"gone: {_listed(shift.gone)}"] if shift.gone else []
    return "; ".join(parts)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NUM_LISTED])
    return shown + (f" and {len(names) - _NUM_LISTED} more" if len(names) > _NUM_LISTED else "")


def _beside(size: float, least: float, p_value: float) -> str:
    return f"{size:.3f} (least {least:g}, p {p_value:.2g})"

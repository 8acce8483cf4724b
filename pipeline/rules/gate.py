"""The gate: whether a challenger takes the champion's place, from what both answered on frozen evaluation slices.

A pure function from evidence to a decision that says in words what decided. A challenger passes if

* the evidence is whole: every slice scored by both on the same rows, enough of them, nothing missing or infinite;
* it reaches the floor, where there is one;
* no slice of the past vetoes, which it does when even the upper bound of the difference is below minus the margin;
* over the slices of the past the lower bound of the mean difference is above minus the margin (a non-inferiority
  test). Each slice has the same weight, whatever its rows: a period counts, not its size;
* on the new slice the lower bound is above the gain that is asked; where none is asked, the upper bound is not
  below 0. A test that an equal challenger passes has to put the burden of proof on "it is worse": of equal ones this
  one stops one in 20, whatever the rows. Asked to show non-inferiority on one new slice instead, with 500 rows, a
  margin of 2 points and a discordance of 12 %, it would let one in three pass;
* the new slice does not lie far below those of the past while the challenger gains nothing on it. Of rows with random
  wrong labels little is learnt, so that they do no harm that the past would show; but their slice, wrong labels too,
  would be judged on for ever after.

The bounds are those of the percentile bootstrap over pairs (Efron and Tibshirani 1993, section 13.3): rows are drawn
within each slice, the same for both sides, since what both get right says nothing about the difference. They are
never nearer to the difference than the rule of three puts them (Hanley and Lippman-Hand 1983): n rows without a
single loss leave, at 95 %, a rate of losses of up to 3 / n, where the bootstrap of identical answers has no width at
all. One row is thereby taken to be worth 1 / n of the metric. The error rates that follow are measured through
`decide` by `python -m tests.bench.gate`.

Each promotion may lose up to the margin against the champion before it, and so may the next: that many small steps
down are no large one ("biocreep"; D'Agostino, Massaro and Sullivan 2003) is what the floor is for.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.config import GateConfig
from pipeline.core.tasks.metrics import Counts, Statistic

_SEED = 0
_ROUNDING = 1e-9
"""Scores are quotients of small whole numbers: what lies nearer than this is equal."""
_DRAWN_AT_ONCE = 4_000_000
"""Numbers of one block of resamples, 32 MB of them."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SliceEvidence:
    """What champion and challenger answered on one frozen evaluation slice: row i of both is the same row."""

    name: str
    """Of the period; the resamples follow from it, so that a slice has the same bounds whatever stands beside it."""
    champion: Counts | None
    """(N, K) counts as in `pipeline.core.tasks.metrics`, higher is better. None where there is no champion yet."""
    challenger: Counts
    """(N, K') counts; K' differs from K where the labels do."""
    statistic: Statistic
    """The metric as a function of the sums over rows, applied to each side's own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """All that is known of a challenger beside its champion."""

    past: Sequence[SliceEvidence]
    """Slices of the periods before; their order does not matter."""
    new: SliceEvidence | None = None
    """The slice of the period that the challenger was trained for; None where there is none to be had."""
    missing: Sequence[str] = ()
    """What could not be scored, a sentence each. Anything at all stops the challenger."""
    first: bool = False
    """There is no champion. Said rather than inferred: results that were lost must not look like a first champion."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One rule and what it found; scores and differences in the metric's unit."""

    name: str
    """`evidence`, `floor`, `slice <name>`, `past`, `new` or `learnt`."""
    passed: bool
    reason: str
    """In words, without a full stop."""
    champion: float | None = None
    challenger: float | None = None
    difference: float | None = None
    """Challenger minus champion."""
    low: float | None = None
    """Lower bound of the difference, one-sided at the confidence of the config."""
    high: float | None = None
    """Upper bound, likewise one-sided."""
    rows: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """Whether the challenger becomes champion, and why."""

    promote: bool
    decided_by: str
    """Name of the check that decided: of the first that failed, in the order above; of a challenger that passes them
    all `past`, `new` where a gain was asked, or `first` where there is no champion."""
    reason: str
    checks: tuple[Check, ...]
    """All that were made, those that passed too."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Measured:
    """Scores of both sides and their difference in R resamples; of one slice, or the mean of several."""

    champion: float
    challenger: float
    differences_R: Counts
    row_weight: float
    """Share of the metric that one row is worth, at most."""
    rows: int

    @property
    def difference(self) -> float:
        return self.challenger - self.champion

    @property
    def finite(self) -> bool:
        return math.isfinite(self.difference) and bool(np.isfinite(self.differences_R).all())


def decide(evidence: Evidence, config: GateConfig) -> Decision:
    """Decide whether the challenger takes the champion's place.

    Where there is no champion the floor alone decides, on however few rows: there is nothing to be worse than. Where
    there is one but no slice of the past, nothing shows that what was good stays good, and the challenger is stopped: a
    caller that has the champion's validation rows alone gives them as a slice of the past. Without a new slice the past
    alone decides, unless a gain is asked. The same evidence always gives the same decision; neither the order of the
    rows nor that of the slices changes it.

    Returns:
        The decision, with a check for each rule. Evidence that is not whole gives one check, `evidence`.
    """
    gaps = list(_gaps(evidence, config))
    if gaps:
        return _stopped(gaps)
    slices = [*evidence.past, *([evidence.new] if evidence.new else [])]
    if evidence.first:
        return _first(evidence, config, sum(len(one.challenger) for one in slices))
    measured = {one.name: _measure(one, config.resamples) for one in slices}
    gaps = [f"slice {name}: its metric has no value" for name, found in measured.items() if not found.finite]
    if gaps:
        return _stopped(gaps)
    # Sorted, so that neither the sum's rounding nor the order of the checks depends on how they came.
    each = {one.name: measured[one.name] for one in sorted(evidence.past, key=lambda one: one.name)}
    past = _mean(list(each.values()))
    new = measured[evidence.new.name] if evidence.new else None
    vetoes = [_veto(name, found, config) for name, found in each.items()]
    checks = [
        *_floors(past.challenger, new.challenger if new else None, config),
        *sorted(vetoes, key=lambda check: check.difference or 0.0),  # the worst decides
        _not_worse(past, len(each), config),
        *([_on_new(evidence.new.name, new, config)] if evidence.new and new else []),
        *(_learnt(evidence.new.name, new, past, config) if evidence.new and new else []),
    ]
    failed = [check for check in checks if not check.passed]
    if failed:
        return Decision(promote=False, decided_by=failed[0].name, reason=failed[0].reason, checks=tuple(checks))
    reason = "; ".join(check.reason for check in checks if check.name in ("past", "new"))
    decided_by = "past" if config.gain is None else "new"
    return Decision(promote=True, decided_by=decided_by, reason=reason, checks=tuple(checks))


def _gaps(evidence: Evidence, config: GateConfig) -> Iterator[str]:
    """What keeps the evidence from being whole, a sentence each."""
    yield from evidence.missing
    slices = [*evidence.past, *([evidence.new] if evidence.new else [])]
    if evidence.first and not slices:
        yield "there is no slice to score the first champion on"
    if not evidence.first and not evidence.past and not evidence.missing:
        yield "there is no slice of the past to compare with the champion on"
    if not evidence.first and config.gain is not None and evidence.new is None:
        yield "a gain is asked and there is no new slice to show it on"
    for name, count in Counter(one.name for one in slices).items():
        if count > 1:
            yield f"slice {name}: is there {count} times"
    for one in slices:
        yield from (f"slice {one.name}: {gap}" for gap in _slice_gaps(one, evidence.first, config))


def _slice_gaps(one: SliceEvidence, first: bool, config: GateConfig) -> Iterator[str]:
    num_rows = len(one.challenger)
    if one.champion is None and not first:
        yield "has no results of the champion"
    elif one.champion is not None and first:
        yield "has results of a champion, where there is said to be none"
    elif one.champion is not None and len(one.champion) != num_rows:
        yield f"has {len(one.champion)} rows of the champion and {num_rows} of the challenger, not pairs"
    if num_rows < config.min_rows and not first:
        yield f"has {num_rows} rows, fewer than the {config.min_rows} that are needed"
    for side, counts in (("champion", one.champion), ("challenger", one.challenger)):
        if counts is not None and not np.isfinite(counts).all():
            bad = np.flatnonzero(~np.isfinite(counts).all(1))
            more = f", nor are {len(bad) - 1} more" if len(bad) > 1 else ""
            yield f"the {side}'s result of row {bad[0]} is not finite{more}"


def _stopped(gaps: Sequence[str]) -> Decision:
    check = Check(name="evidence", passed=False, reason="; ".join(gaps))
    return Decision(promote=False, decided_by=check.name, reason=check.reason, checks=(check,))


def _first(evidence: Evidence, config: GateConfig, num_rows: int) -> Decision:
    past = [_score(one) for one in evidence.past]
    new = _score(evidence.new) if evidence.new else None
    scores = [*past, *([new] if new is not None else [])]
    if not all(map(math.isfinite, scores)):
        return _stopped(["the metric of the first champion has no value"])
    checks = tuple(_floors(math.fsum(past) / len(past) if past else None, new, config))
    failed = [check for check in checks if not check.passed]
    if failed:
        return Decision(promote=False, decided_by="floor", reason=failed[0].reason, checks=checks)
    reason = f"the first champion: {math.fsum(scores) / len(scores):.3f} on {num_rows} rows, and nothing to compare"
    return Decision(promote=True, decided_by="first", reason=reason, checks=checks)


def _score(one: SliceEvidence) -> float:
    with np.errstate(all="ignore"):  # a metric without a value is found by looking at it
        return float(one.statistic(one.challenger.sum(0)))


def _measure(one: SliceEvidence, resamples: int) -> _Measured:
    """Score both sides, and draw the rows of the slice anew `resamples` times.

    Equal pairs of rows are drawn together, by how often they come: a multinomial over the D distinct ones is what
    drawing N of N rows amounts to. Accuracy has four.
    """
    assert one.champion is not None
    num_rows, split = one.champion.shape
    distinct_DK, times_D = np.unique(np.hstack([one.champion, one.challenger]), axis=0, return_counts=True)
    rng = np.random.default_rng([_SEED, *one.name.encode()])
    block = max(1, _DRAWN_AT_ONCE // len(times_D))
    differences = []
    with np.errstate(all="ignore"):  # a metric without a value is found by looking at it
        for start in range(0, resamples, block):
            drawn_RD = rng.multinomial(num_rows, times_D / num_rows, size=min(block, resamples - start))
            sums_RK = drawn_RD @ distinct_DK
            differences.append(one.statistic(sums_RK[:, split:]) - one.statistic(sums_RK[:, :split]))
        champion = float(one.statistic(one.champion.sum(0)))
    return _Measured(
        champion=champion,
        challenger=_score(one),
        differences_R=np.concatenate(differences),
        row_weight=1 / num_rows,
        rows=num_rows,
    )


def _mean(slices: Sequence[_Measured]) -> _Measured:
    """Mean over slices, each with the same weight."""
    return _Measured(
        champion=math.fsum(one.champion for one in slices) / len(slices),
        challenger=math.fsum(one.challenger for one in slices) / len(slices),
        differences_R=np.mean([one.differences_R for one in slices], axis=0),
        row_weight=max(one.row_weight for one in slices) / len(slices),
        rows=sum(one.rows for one in slices),
    )


def _bounds(found: _Measured, confidence: float) -> tuple[float, float]:
    """Lower and upper bound of the difference, each one-sided."""
    beyond = 1 - confidence
    low = float(np.quantile(found.differences_R, beyond, method="lower"))
    high = float(np.quantile(found.differences_R, confidence, method="higher"))
    least = -math.log(beyond) * found.row_weight  # the rule of three: -ln 0.05 is 3.0
    return min(low, found.difference - least), max(high, found.difference + least)


def _floors(past: float | None, new: float | None, config: GateConfig) -> Iterator[Check]:
    if config.floor is None:
        return
    for where, score in (("the slices of the past", past), ("the new slice", new)):
        if score is not None:
            passed = score >= config.floor - _ROUNDING
            reason = f"{score:.3f} on {where}, {'not ' if passed else ''}below the floor of {config.floor:g}"
            yield Check(name="floor", passed=passed, reason=reason, challenger=score)


def _veto(name: str, found: _Measured, config: GateConfig) -> Check:
    low, high = _bounds(found, config.confidence)
    passed = high >= -config.margin - _ROUNDING
    verdict = "no veto" if passed else f"more than the margin of {_points(config.margin)}"
    return _check(f"slice {name}", f"slice {name}", passed, verdict, found, low, high, config)


def _not_worse(past: _Measured, num_slices: int, config: GateConfig) -> Check:
    low, high = _bounds(past, config.confidence)
    passed = low > -config.margin + _ROUNDING
    if passed:
        verdict = f"within the margin of {_points(config.margin)}"
    elif high < -config.margin:
        verdict = f"more than the margin of {_points(config.margin)}"
    else:
        verdict = f"it is not shown to be within the margin of {_points(config.margin)}"
    where = "slice of the past" if num_slices == 1 else f"{num_slices} slices of the past"
    return _check("past", where, passed, verdict, past, low, high, config)


def _on_new(name: str, found: _Measured, config: GateConfig) -> Check:
    low, high = _bounds(found, config.confidence)
    if config.gain is None:
        passed = high >= -_ROUNDING
        verdict = f"{'not ' if passed else ''}shown to be worse"
    else:
        passed = low > config.gain + _ROUNDING
        asked = f"by more than {_points(config.gain)}" if config.gain else "at all"
        verdict = f"{'' if passed else 'not '}shown to be better {asked}"
    return _check("new", f"new slice {name}", passed, verdict, found, low, high, config)


def _learnt(name: str, found: _Measured, past: _Measured, config: GateConfig) -> Iterator[Check]:
    if config.gap is None:
        return
    gap = past.challenger - found.challenger
    low, _ = _bounds(found, config.confidence)
    passed = gap <= config.gap + _ROUNDING or low > _ROUNDING
    reason = f"new slice {name}: {_points(abs(gap))} points {'below' if gap > 0 else 'above'} the slices of the past"
    if not passed:
        reason += f", more than {_points(config.gap)}, and nothing was gained on it: are its labels right?"
    yield Check(name="learnt", passed=passed, reason=reason, challenger=found.challenger, rows=found.rows)


def _check(
    name: str, where: str, passed: bool, verdict: str, found: _Measured, low: float, high: float, config: GateConfig
) -> Check:
    size = _points(abs(found.difference))
    change = f"{'better' if found.difference > 0 else 'worse'} by {size} {'point' if size == '1' else 'points'}"
    if abs(found.difference) < _ROUNDING:
        change = "equal"
    ends = " to ".join(f"{round(end * 100, 1) + 0.0:+.1f}" for end in (low, high))  # + 0.0: no minus before zero
    bounds = f"{config.confidence * 100:g} %: {ends}"
    return Check(
        name=name,
        passed=passed,
        reason=f"{where}: {change} ({bounds}), {verdict}",
        champion=found.champion,
        challenger=found.challenger,
        difference=found.difference,
        low=low,
        high=high,
        rows=found.rows,
    )


def _points(value: float) -> str:
    return f"{round(value * 100, 1):g}"

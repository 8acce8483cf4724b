"""The gate: whether a challenger takes the champion's place, from what both answered on frozen evaluation slices.

A pure function from evidence to a decision that says in words what decided. A challenger passes if

* the evidence is whole: every slice scored by both on the same rows, nothing missing or infinite;
* it reaches the floor, where there is one;
* no slice of the past vetoes, which it does when even the upper bound of the difference is below minus the margin;
* over the slices of the past the lower bound of the mean difference is above minus the margin (a non-inferiority
  test). Each slice has the same weight, whatever its rows: a period counts, not its size. Where all of them have fewer
  rows than a claim of equality needs, or so few that an equal challenger would often fail, the new slice has to
  outweigh them;
* on the new slice the lower bound is above the gain that is asked; where none is asked, the upper bound is not
  below 0. A test that an equal challenger passes has to put the burden of proof on "it is worse": of equal ones this
  one stops one in 20, whatever the rows. Asked to show non-inferiority on one new slice instead, with 500 rows, a
  margin of 2 points and a discordance of 12 %, it would let one in three pass. Of fewer rows than `min_rows` the lower
  bound has to be above 0: a difference beyond doubt needs no hundred rows, and a claim of equality does;
* the new slice does not lie far below those of the past, unless the challenger has gained at least as much there as is
  left. Of rows with random wrong labels little is learnt, so that they do no harm that the past would show; but their
  slice, wrong labels too, would be judged on for ever after.

Where labels are new, the task has become harder for every model, and the past is exchanged for something
(`pipeline.rules.exchange`): the past may lose `exchange_loss` in place of the margin where the whole is better for it,
no label of it may be lost altogether, and a new slice far below the past stops the challenger whatever was gained on
it, since of new labels anything is a gain.

The bounds are those of `pipeline.rules.paired`, over the rows that carry the metric. The slices of the past are taken
together, every one that has `min_rows` such rows with the same weight; the rows of one that has fewer weigh as little
as those of the slice that has the most, so that a period in which next to nothing carries the metric does not decide.
Of a macro F1 both sides are compared on the same labels, those of the task and of the rows; a slice that lacks one is
compared on the others. The error rates that follow are measured through `decide` by `python -m tests.bench.gate`.

Each promotion may lose up to the margin against the champion before it, and so may the next: that many small steps
down are no large one ("biocreep"; D'Agostino, Massaro and Sullivan 2003) is what the floor is for.
"""

import dataclasses
import functools
import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.config import GateConfig
from pipeline.config.gate import LEAST_BEYOND
from pipeline.core.tasks.metrics import value_of
from pipeline.rules.evidence import Evidence, SliceEvidence, carrying, comparable, gaps, rows_of
from pipeline.rules.exchange import Terms, label_losses, terms_of
from pipeline.rules.paired import Drawn, Measured, draw

_ROUNDING = 1e-9
"""Scores are quotients of small whole numbers: what lies nearer than this is equal."""
_LEAST_LEARNT = 20
"""Rows on which a gap between the new slice and the past is looked at in an exchange."""
_NUM_LISTED = 5
"""Labels that a sentence lists."""
_POWER = 1.5
"""How many times as wide as it lies below the difference the margin has to be, that four of five equal challengers
keep it: (1.645 + 0.842) / 1.645 at 95 %."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One rule and what it found; scores and differences in the metric's unit."""

    name: str
    """`evidence`, `floor`, `slice <name>`, `past`, `labels`, `whole`, `new` or `learnt`."""
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
    all `past`, `whole` in an exchange, `new` where a gain was asked, or `first` where there is no champion."""
    reason: str
    checks: tuple[Check, ...]
    """All that were made, those that passed too."""

    @property
    def may_train_harder(self) -> bool:
        """Whether nothing but the past stopped the challenger, or of new labels how little was learnt: another one may
        pass that was trained on more of the same rows."""
        failed = {check.name.partition(" ")[0] for check in self.checks if not check.passed}
        grown = any(check.name == "whole" for check in self.checks)
        return bool(failed) and failed <= {"slice", "past", "labels", "whole", *(["learnt"] if grown else [])}


def decide(evidence: Evidence, config: GateConfig, confidence: float | None = None) -> Decision:
    """Decide whether the challenger takes the champion's place.

    Where there is no champion the floor alone decides, on however few rows: there is nothing to be worse than. Where
    there is one but no slice of the past, nothing shows that what was good stays good, and the challenger is stopped: a
    caller that has the champion's validation rows alone gives them as a slice of the past. Without a new slice the past
    alone decides, unless a gain is asked. The same evidence always gives the same decision; neither the order of the
    rows nor that of the slices changes it.

    Args:
        evidence, config: What is known, and the rule.
        confidence: Of what has to be shown, where this is one of several attempts, which share the chance of an error;
            None: the config's. What stops a challenger keeps that of the config.

    Returns:
        The decision, with a check for each rule. Evidence that is not whole gives one check, `evidence`.
    """
    if found := list(gaps(evidence, config)):
        return _stopped(found)
    if evidence.first:
        return _first(evidence, config, sum(len(one.challenger) for one in evidence.slices))
    evidence, left_out = comparable(evidence, config)
    terms = terms_of(evidence, config, confidence)
    beyond = math.ceil(round(LEAST_BEYOND / (1 - terms.confidence), 6))
    config = dataclasses.replace(config, resamples=max(config.resamples, beyond))
    # Sorted, so that neither the sum's rounding nor the order of the checks depends on how they came.
    slices = sorted(evidence.past, key=lambda one: one.name)
    together = [*slices, *([evidence.new] if evidence.new else [])]
    drawn = {one.name: _drawn(one, config) for one in together}
    each, past = _measure(slices, drawn, config)
    new = _measure([evidence.new], drawn, config)[1] if evidence.new else None
    is_blind = evidence.new is not None and _is_blind(past, terms, config)
    whole = _whole(together, drawn) if terms.exchange or is_blind else None
    measured = {**each, **({evidence.new.name: new} if evidence.new and new else {})}
    if found := [f"slice {name}: its metric has no value" for name, one in measured.items() if not one.finite]:
        return _stopped(found)
    lacks = {one.name: _lacks(one) for one in evidence.slices}
    vetoes = [_veto(name, found, lacks[name], terms, config) for name, found in each.items()]
    checks = [
        *_floors(past.challenger, new.challenger if new else None, config),
        *sorted(vetoes, key=lambda check: check.difference or 0.0),  # the worst decides
        _not_worse(past, new, whole if is_blind else None, evidence.past, left_out, terms, config),
        *(_labels(slices, config) if terms.exchange else []),
        *([_better(whole, past, len(evidence.slices), terms, config)] if terms.exchange and whole else []),
        *([_on_new(evidence.new.name, new, lacks[evidence.new.name], terms, config)] if evidence.new and new else []),
        *(_learnt(evidence.new.name, new, past, terms, config) if evidence.new and new else []),
    ]
    failed = [check for check in checks if not check.passed]
    if failed:
        return Decision(promote=False, decided_by=failed[0].name, reason=failed[0].reason, checks=tuple(checks))
    told = ("whole", "past", "labels", "new") if terms.exchange else ("past", "new")
    reason = "; ".join(check.reason for name in told for check in checks if check.name == name)
    decided_by = "new" if config.gain is not None else "whole" if terms.exchange else "past"
    return Decision(promote=True, decided_by=decided_by, reason=reason, checks=tuple(checks))


def _stopped(found: Sequence[str]) -> Decision:
    check = Check(name="evidence", passed=False, reason="; ".join(found))
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
        return value_of(one.statistic, one.challenger)


def _drawn(one: SliceEvidence, config: GateConfig) -> Drawn:
    assert one.champion is not None
    return draw(one.name, one.champion, one.challenger, one.statistic, config.resamples)


def _measure(
    slices: Sequence[SliceEvidence], drawn: Mapping[str, Drawn], config: GateConfig
) -> tuple[dict[str, Measured], Measured]:
    """Compare the two sides on each slice, on the labels that it has, and on all of them together."""
    each = {one.name: drawn[one.name].compare(_columns(one, [one])) for one in slices}
    if len(slices) == 1:
        return each, each[slices[0].name]
    carried = {one.name: int(carrying(one).sum()) for one in slices}
    most = max(*carried.values(), 1)
    weights = {name: 1 / (rows if rows >= config.min_rows else most) for name, rows in carried.items()}
    pooled = functools.reduce(operator.add, (drawn[name].weighed(weight) for name, weight in weights.items()))
    return each, pooled.compare(_columns(slices[0], slices))


def _whole(slices: Sequence[SliceEvidence], drawn: Mapping[str, Drawn]) -> Measured:
    """Compare the two sides on all rows together, each of the same weight."""
    pooled = functools.reduce(operator.add, (drawn[one.name] for one in slices))
    return pooled.compare(_columns(slices[0], slices))


def _columns(one: SliceEvidence, slices: Sequence[SliceEvidence]) -> NDArray[np.bool_]:
    """Which columns of the counts are compared on these slices: those of labels that one of their rows has."""
    if not one.labels:
        return np.ones(one.challenger.shape[1], np.bool_)
    return np.repeat([any(rows_of(part)[label] for part in slices) for label in one.labels], 3)


def _lacks(one: SliceEvidence) -> str:
    """Say which labels a slice lacks."""
    return _without("lacks", [label for label, rows in rows_of(one).items() if not rows])


def _without(word: str, labels: Sequence[str]) -> str:
    if not labels:
        return ""
    more = f" and {len(labels) - _NUM_LISTED} more" if len(labels) > _NUM_LISTED else ""
    return f" ({word} {', '.join(map(repr, labels[:_NUM_LISTED]))}{more})"


def _floors(past: float | None, new: float | None, config: GateConfig) -> Iterator[Check]:
    if config.floor is None:
        return
    for where, score in (("the slices of the past", past), ("the new slice", new)):
        if score is not None:
            passed = score >= config.floor - _ROUNDING
            reason = f"{score:.3f} on {where}, {'not ' if passed else ''}below the floor of {config.floor:g}"
            yield Check(name="floor", passed=passed, reason=reason, challenger=score)


def _veto(name: str, found: Measured, lacks: str, terms: Terms, config: GateConfig) -> Check:
    _, high = found.bounds(config.confidence)
    passed = high >= -terms.loss - _ROUNDING
    if terms.exchange and found.carried >= config.min_rows:  # more than chance, on as many rows
        passed &= found.difference >= -terms.loss - _ROUNDING
    verdict = "no veto" if passed else f"more than {terms.said}"
    return _check(f"slice {name}", f"slice {name}{lacks}", passed, verdict, found, config.confidence)


def _not_worse(
    past: Measured,
    new: Measured | None,
    whole: Measured | None,
    slices: Sequence[SliceEvidence],
    left_out: Sequence[str],
    terms: Terms,
    config: GateConfig,
) -> Check:
    low, _ = past.bounds(terms.confidence)
    _, high = past.bounds(config.confidence)
    few = past.carried < config.min_rows
    passed = low > (0 if few else -terms.loss) + _ROUNDING
    if passed:
        verdict = f"within {terms.said}"
    elif high < -terms.loss:
        verdict = f"more than {terms.said}"
    elif few:
        rows = "1 row carries" if past.carried == 1 else f"{past.carried} rows carry"
        verdict = f"{rows} the metric, {config.min_rows - past.carried} fewer than the {config.min_rows} on which it "
        verdict += "can be shown to be as good"
        if new is not None and new.bounds(terms.confidence)[0] > _ROUNDING:
            # Of so few rows no more can be asked: not shown to be worse, and no more lost than may be.
            passed = high >= -_ROUNDING and past.difference >= -terms.loss - _ROUNDING
            verdict += f", and {'' if passed else 'not '}outweighed by the new slice"
    elif whole is not None and whole.bounds(terms.confidence)[0] > _ROUNDING:
        passed = True
        verdict = f"its rows are too few for {terms.said}: within the {_points(config.exchange_loss)} of an exchange, "
        verdict += f"and all {len(slices) + 1} slices together are shown to be better"
    else:
        verdict = f"it is not shown to be within {terms.said}{_short(past, slices, terms)}"
    where = "slice of the past" if len(slices) == 1 else f"{len(slices)} slices of the past"
    return _check("past", where + _without("without", left_out), passed, verdict, past, terms.confidence)


def _is_blind(past: Measured, terms: Terms, config: GateConfig) -> bool:
    """Whether the rows of the past leave open what they are asked, so that the terms may be those of an exchange.

    That is where the bound lies so far below the difference that an equal challenger would show that it is one less
    than four times in five. No more than the margin is lost as far as is seen, and no more than `exchange_loss` beyond
    doubt.
    """
    low, _ = past.bounds(terms.confidence)
    is_open = (past.difference - low) * _POWER > terms.loss and past.difference >= -terms.loss - _ROUNDING
    return is_open and low > -config.exchange_loss + _ROUNDING and not terms.exchange and config.growth != "keep"


def _better(whole: Measured, past: Measured, num_slices: int, terms: Terms, config: GateConfig) -> Check:
    """The whole of an exchange; it need not be better where the past is kept as it is kept otherwise."""
    passed = whole.bounds(terms.confidence)[0] > _ROUNDING
    verdict = f"{'' if passed else 'not '}shown to be better"
    if not passed and past.carried >= config.min_rows and past.bounds(terms.confidence)[0] > -config.margin + _ROUNDING:
        passed, verdict = True, f"{verdict}, and the past keeps within the margin of {_points(config.margin)}"
    where = "the slice" if num_slices == 1 else f"all {num_slices} slices together"
    return _check("whole", where, passed, verdict, whole, terms.confidence)


def _short(past: Measured, slices: Sequence[SliceEvidence], terms: Terms) -> str:
    """How many rows are missing before identical answers could show that they are: by the rule of three."""
    missing = -math.log(1 - terms.confidence) / terms.loss - 1 / past.row_weight
    if past.carried and missing <= _ROUNDING:
        return ""
    labels = [label for label in slices[0].labels if any(rows_of(one)[label] for one in slices)]
    of = f"rows of label {labels[past.rarest]!r}" if labels else "rows that carry the metric"
    missing = missing * past.error_weight / max(len(labels), 1) + (0 if past.carried else 1)
    return f", for which {math.ceil(missing - _ROUNDING):,} more {of} are needed at least"


def _labels(past: Sequence[SliceEvidence], config: GateConfig) -> Iterator[Check]:
    if (told := label_losses(past, config)) is not None:
        yield Check(name="labels", passed=told[0], reason=told[1])


def _on_new(name: str, found: Measured, lacks: str, terms: Terms, config: GateConfig) -> Check:
    confidence = terms.confidence
    low, _ = found.bounds(confidence)
    if config.gain is not None:
        passed = low > config.gain + _ROUNDING
        asked = f"by more than {_points(config.gain)}" if config.gain else "at all"
        verdict = f"{'' if passed else 'not '}shown to be better {asked}"
    elif found.rows < config.min_rows and found.bounds(config.confidence)[1] >= -_ROUNDING:
        passed = low > _ROUNDING
        verdict = f"{'' if passed else 'not '}shown to be better"
        if not passed:
            verdict += f", and {config.min_rows - found.rows} more rows are needed to show that it is as good"
    else:
        confidence = config.confidence
        passed = found.bounds(confidence)[1] >= -_ROUNDING
        verdict = f"{'not ' if passed else ''}shown to be worse"
    return _check("new", f"new slice {name}{lacks}", passed, verdict, found, confidence)


def _learnt(name: str, found: Measured, past: Measured, terms: Terms, config: GateConfig) -> Iterator[Check]:
    if config.gap is None or found.carried < (_LEAST_LEARNT if terms.exchange else config.min_rows):
        return  # of few rows a gap may be chance, and weighs little
    # In an exchange below the champion's past: who keeps the past better has learnt the new no less.
    gap = (past.champion if terms.exchange else past.challenger) - found.challenger
    halved = found.difference >= gap - _ROUNDING and found.bounds(terms.confidence)[0] > _ROUNDING
    passed = gap <= config.gap + _ROUNDING or (halved and not terms.exchange)
    points = f"{_points(abs(gap))} {'point' if _points(abs(gap)) == '1' else 'points'}"
    reason = f"new slice {name}: {points} {'below' if gap > 0 else 'above'} the slices of the past"
    if not passed:
        reason += f", more than {_points(config.gap)}"
        if not terms.exchange:
            reason += f", and {f'only {_points(found.difference)}' if found.difference > 0 else 'nothing'} gained on it"
        reason += ": are its labels right?"
    yield Check(name="learnt", passed=passed, reason=reason, challenger=found.challenger, rows=found.rows)


def _check(name: str, where: str, passed: bool, verdict: str, found: Measured, confidence: float) -> Check:
    low, high = found.bounds(confidence)
    size = _points(abs(found.difference))
    change = f"{'better' if found.difference > 0 else 'worse'} by {size} {'point' if size == '1' else 'points'}"
    if abs(found.difference) < _ROUNDING:
        change = "equal"
    ends = " to ".join(f"{round(end * 100, 1) + 0.0:+.1f}" for end in (low, high))  # + 0.0: no minus before zero
    return Check(
        name=name,
        passed=passed,
        reason=f"{where}: {change} ({round(confidence * 100, 2):g} %: {ends}), {verdict}",
        champion=found.champion,
        challenger=found.challenger,
        difference=found.difference,
        low=low,
        high=high,
        rows=found.rows,
    )


def _points(value: float) -> str:
    return f"{round(value * 100, 1):g}"

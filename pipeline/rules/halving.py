"""Which trials go on: the pruning rules of a search, `search.scheduler`. Pure: no Ray, no clock.

The default is successive halving (Jamieson and Talwalkar 2016, algorithm 1; one bracket of Hyperband, Li et al. 2018):
all trials train to a rung, the best `1 / reduction` of them go on to the next, which is `reduction` times as far. It is
done in step: a rung is decided when all its trials have reached it, so that the order of arrival decides nothing.

A rung is a share of the steps that a trial may take, and a trial has reached it with the first evaluation that is no
earlier. Two rungs that lie before the same evaluation are one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, final

import numpy as np

from pipeline.config import SearchConfig

Action = Literal["continue", "pause", "stop"]
TIED = "by its number alone: it has the score and the loss of one that went on"
"""Ends the reason of a trial that was pruned in a tie, in which nothing speaks against it."""
_BY_LOSS = "by its validation loss: it has the score of one that went on"
_ROUNDING = 1e-9  # of shares, which are quotients


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How far a trial is, and how good it was at its best."""

    epoch: int
    """The last one that it has ended; 0 if there is none."""
    share: float
    """Of all steps that it may take, those that it has taken."""
    score: float | None
    """Its best score; None if it has failed, or has no number to show."""
    loss: float = math.inf
    """The validation loss where it had that score; infinite if it is not known."""

    @property
    def rank(self) -> tuple[float, float]:
        """Sorts the better first: by the score, and by the loss where scores are equal."""
        return (math.inf if self.score is None else -self.score, self.loss)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ruling:
    """What follows from a report."""

    action: Action
    """For the trial that reported."""
    promoted: tuple[int, ...] = ()
    """Trials that go on, this one included if it is among them."""
    pruned: Mapping[int, str] = field(default_factory=dict)
    """Trial -> why it does not."""


class Pruner(Protocol):
    """Rules within one job."""

    def report(self, trial: int, standing: Standing) -> Ruling:
        """Take in how a trial stands after an epoch."""

    def leave(self, trial: int, standing: Standing) -> Ruling:
        """Take in that a trial ended by itself, or failed."""


@final
class Halving:
    """The rungs of one cohort.

    A trial that ended by itself (all epochs done, early stopping) keeps its place in the ranking of every
    later rung with the score it has; one that failed ranks last. Ties go to the lower validation loss, which moves
    before the score does, and those that are left to the lower trial number.
    """

    def __init__(self, members: Sequence[int], *, first_rung: float, reduction: int) -> None:
        self._reduction = reduction
        self.rung = first_rung
        """The share of its steps at which its members are compared next."""
        self._in_rung = sorted(members)
        self._standings: dict[int, Standing] = {}
        """Of trials that have reached the rung, or ended before it."""
        self._ended: set[int] = set()

    def report(self, trial: int, standing: Standing) -> Ruling:
        """Take in how a trial stands after an epoch.

        A report of an epoch before the rung changes nothing: a trial that is taken up again repeats its own.
        """
        if not is_reached(self.rung, standing.share) or trial not in self._in_rung:
            return Ruling(action="continue")
        self._standings[trial] = standing
        return self._decide(trial)

    def leave(self, trial: int, standing: Standing) -> Ruling:
        """Take in that a trial ended by itself, or failed."""
        if trial not in self._in_rung:
            return Ruling(action="stop")
        self._ended.add(trial)
        self._standings[trial] = standing
        return self._decide(trial)

    def _decide(self, trial: int) -> Ruling:
        if len(self._standings) < len(self._in_rung):
            return Ruling(action="stop" if trial in self._ended else "pause")
        promoted, pruned = self._halve()
        action: Literal["continue", "stop"] = "continue" if trial in promoted else "stop"
        return Ruling(action=action, promoted=promoted, pruned=pruned)

    def _halve(self) -> tuple[tuple[int, ...], dict[int, str]]:
        ranking = sorted(self._in_rung, key=lambda trial: (self._standings[trial].rank, trial))
        keep = math.ceil(len(ranking) / self._reduction)
        kept = [trial for trial in ranking[:keep] if self._standings[trial].score is not None]
        worst = self._standings[kept[-1]] if kept else None
        pruned = {
            trial: f"pruned at epoch {self._standings[trial].epoch}: {_ordinal(place)} of {len(ranking)}"
            + _how(self._standings[trial], worst)
            for place, trial in enumerate(ranking, start=1)
            if trial not in kept and trial not in self._ended
        }
        going_on = tuple(sorted(trial for trial in kept if trial not in self._ended))
        farthest = max((self._standings[trial].share for trial in going_on), default=0.0)
        self._in_rung = sorted(kept)
        self._standings = {trial: self._standings[trial] for trial in kept if trial in self._ended}
        self.rung = next_rung(self.rung * self._reduction, farthest, self._reduction)
        return going_on, pruned


def is_reached(rung: float, share: float) -> bool:
    """Say whether who has taken a share of its steps has reached a rung."""
    return share >= rung - _ROUNDING


def next_rung(rung: float, share: float, reduction: int) -> float:
    """Return the first rung from this one on that who has taken a share of its steps has not reached yet."""
    while is_reached(rung, share):
        rung *= reduction
    return rung


def _how(standing: Standing, worst: Standing | None) -> str:
    """Say by what a trial is behind the worst of those that go on, if that is not its score."""
    if worst is None or standing.score != worst.score:
        return ""
    return f", {TIED if standing.loss == worst.loss else _BY_LOSS}"


def _ordinal(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"


@final
class Asha:
    """Asynchronous successive halving (Li et al. 2020): decides by order of arrival, and never waits.

    A trial that reaches a rung goes on unless its score is below the `1 - 1 / reduction` quantile of those that were
    there before it, as in Ray Tune's `ASHAScheduler`. One that has the quantile's own score goes on: nobody is pruned
    in a tie.
    """

    def __init__(self, *, first_rung: float, reduction: int) -> None:
        self._first_rung, self._reduction = first_rung, reduction
        self._rungs: dict[float, dict[int, float]] = {}
        """Rung -> score of each trial that has reached it."""

    def report(self, trial: int, standing: Standing) -> Ruling:
        rung = self._first_rung
        while is_reached(rung * self._reduction, standing.share):
            rung *= self._reduction
        reached = self._rungs.setdefault(rung, {})
        if not is_reached(rung, standing.share) or trial in reached:
            return Ruling(action="continue")
        value = -math.inf if standing.score is None else standing.score
        with np.errstate(invalid="ignore"):  # between a number and minus infinity
            quantile = np.nanpercentile(list(reached.values()), (1 - 1 / self._reduction) * 100) if reached else value
        reached[trial] = value
        if value < quantile:
            return Ruling(action="stop", pruned={trial: f"pruned at epoch {standing.epoch}: behind those before it"})
        return Ruling(action="continue")

    def leave(self, trial: int, standing: Standing) -> Ruling:
        return Ruling(action="stop")


@final
class Unpruned:
    """Lets every trial train to its end."""

    def report(self, trial: int, standing: Standing) -> Ruling:
        return Ruling(action="continue")

    def leave(self, trial: int, standing: Standing) -> Ruling:
        return Ruling(action="stop")


def pruner_of(search: SearchConfig, members: Sequence[int]) -> Pruner:
    """Make the rule of `search.scheduler`: of a cohort's `members`; ASHA goes on with it through a whole job."""
    if search.scheduler == "halving":
        return Halving(members, first_rung=search.first_rung, reduction=search.reduction)
    return Asha(first_rung=search.first_rung, reduction=search.reduction) if search.scheduler == "asha" else Unpruned()

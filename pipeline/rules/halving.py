"""Which trials go on: the pruning rules of a search, `search.scheduler`. Pure: no Ray, no clock.

The default is successive halving (Jamieson and Talwalkar 2016, algorithm 1; one bracket of Hyperband, Li et al. 2018):
all trials train to a rung, the best `1 / reduction` of them go on to the next, which is `reduction` times as far. It is
done in step: a rung is decided when all its trials have reached it, so that the order of arrival decides nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, final

import numpy as np

from pipeline.config import SearchConfig

Action = Literal["continue", "pause", "stop"]
TIED = "by its number alone: it has the score of one that went on"
"""Ends the reason of a trial that was pruned in a tie, in which its score says nothing."""


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

    def report(self, trial: int, epoch: int, score: float | None) -> Ruling:
        """Take in the best score of a trial after an epoch."""

    def leave(self, trial: int, score: float | None) -> Ruling:
        """Take in that a trial ended by itself with this best score, or failed (None)."""


@final
class Halving:
    """The rungs of one cohort.

    A trial that ended by itself (all epochs done, early stopping) keeps its place in the ranking of every
    later rung with the score it has; one that failed ranks last. Ties go to the lower trial number.
    """

    def __init__(self, members: Sequence[int], *, first_rung: int, reduction: int) -> None:
        self._reduction = reduction
        self.rung = first_rung
        """The epoch at which its members are compared next."""
        self._in_rung = sorted(members)
        self._scores: dict[int, float | None] = {}
        """Trials that have reached the rung, or ended before it."""
        self._ended: set[int] = set()

    def report(self, trial: int, epoch: int, score: float | None) -> Ruling:
        """Take in the best score of a trial after an epoch.

        A report of an epoch before the rung changes nothing: a trial that is taken up again repeats its own.
        """
        if epoch < self.rung or trial not in self._in_rung:
            return Ruling(action="continue")
        self._scores[trial] = score
        return self._decide(trial)

    def leave(self, trial: int, score: float | None) -> Ruling:
        """Take in that a trial ended by itself with this best score, or failed (None)."""
        if trial not in self._in_rung:
            return Ruling(action="stop")
        self._ended.add(trial)
        self._scores[trial] = score
        return self._decide(trial)

    def _decide(self, trial: int) -> Ruling:
        if len(self._scores) < len(self._in_rung):
            return Ruling(action="stop" if trial in self._ended else "pause")
        promoted, pruned = self._halve()
        action: Literal["continue", "stop"] = "continue" if trial in promoted else "stop"
        return Ruling(action=action, promoted=promoted, pruned=pruned)

    def _halve(self) -> tuple[tuple[int, ...], dict[int, str]]:
        ranking = sorted(self._in_rung, key=self._rank)
        keep = math.ceil(len(ranking) / self._reduction)
        kept = [trial for trial in ranking[:keep] if self._scores[trial] is not None]
        worst = self._scores[kept[-1]] if kept else None
        pruned = {
            trial: f"pruned at epoch {self.rung}: {_ordinal(place)} of {len(ranking)}"
            + (f", {TIED}" if worst is not None and self._scores[trial] == worst else "")
            for place, trial in enumerate(ranking, start=1)
            if trial not in kept and trial not in self._ended
        }
        self._in_rung = sorted(kept)
        self._scores = {trial: self._scores[trial] for trial in kept if trial in self._ended}
        self.rung *= self._reduction
        return tuple(trial for trial in self._in_rung if trial not in self._ended), pruned

    def _rank(self, trial: int) -> tuple[float, int]:
        score = self._scores[trial]
        return (math.inf if score is None else -score, trial)


def _ordinal(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"


@final
class Asha:
    """Asynchronous successive halving (Li et al. 2020): decides by order of arrival, and never waits.

    A trial that reaches a rung goes on unless its score is below the `1 - 1 / reduction` quantile of those that were
    there before it, as in Ray Tune's `ASHAScheduler`.
    """

    def __init__(self, *, first_rung: int, reduction: int) -> None:
        self._first_rung, self._reduction = first_rung, reduction
        self._rungs: dict[int, dict[int, float]] = {}
        """Epoch -> score of each trial that has reached it."""

    def report(self, trial: int, epoch: int, score: float | None) -> Ruling:
        rung = self._first_rung
        while rung * self._reduction <= epoch:
            rung *= self._reduction
        reached = self._rungs.setdefault(rung, {})
        if epoch < rung or trial in reached:
            return Ruling(action="continue")
        value = -math.inf if score is None else score
        with np.errstate(invalid="ignore"):  # between a number and minus infinity
            quantile = np.nanpercentile(list(reached.values()), (1 - 1 / self._reduction) * 100) if reached else value
        reached[trial] = value
        if value < quantile:
            return Ruling(action="stop", pruned={trial: f"pruned at epoch {epoch}: behind those before it"})
        return Ruling(action="continue")

    def leave(self, trial: int, score: float | None) -> Ruling:
        return Ruling(action="stop")


@final
class Unpruned:
    """Lets every trial train to its end."""

    def report(self, trial: int, epoch: int, score: float | None) -> Ruling:
        return Ruling(action="continue")

    def leave(self, trial: int, score: float | None) -> Ruling:
        return Ruling(action="stop")


def pruner_of(search: SearchConfig, members: Sequence[int]) -> Pruner:
    """Make the rule of `search.scheduler`: of a cohort's `members`; ASHA goes on with it through a whole job."""
    if search.scheduler == "halving":
        return Halving(members, first_rung=search.first_rung, reduction=search.reduction)
    return Asha(first_rung=search.first_rung, reduction=search.reduction) if search.scheduler == "asha" else Unpruned()

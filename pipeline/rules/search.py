"""Which candidates a job tries, and how much that is to train. Pure: no Ray, no clock, nothing but the seed.

A proposer hands out cohorts. The trials of a cohort are halved together, and the next cohort is proposed when
all scores of the last one are known; random search and grid have one cohort, Optuna has several.
"""

import dataclasses
import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, final

from pipeline.config import Range, SearchConfig
from pipeline.config.strict import replace
from pipeline.core.engine.trials import Job, Settings, rounded, seed_of
from pipeline.errors import ConfigError, Fault, fault
from pipeline.rules.halving import is_reached, next_rung

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial as OptunaTrial

Params = Mapping[str, Any]
"""Searched config key -> value."""


class Proposer(Protocol):
    """The searcher of one job."""

    def propose(self) -> list[Params] | None:
        """Return the next cohort, or None when there is none left."""

    def learn(self, scores: Sequence[float | None]) -> None:
        """Take in the best score of each trial of the last cohort, in its order; None for one that failed."""


@final
class Random:
    """All trials in one cohort, drawn so that even a few of them cover the space.

    Plain draws leave holes when there are only four or six. A range is therefore cut into as many strata of
    equal probability as there are trials, with one draw in each, and the strata of the keys are paired at
    random (Latin hypercube; McKay, Beckman and Conover 1979); of a choice every value comes up equally often,
    give or take one. Each key has a generator of its own, so that another key in the space moves none of the
    draws. No two trials are equal; a space with fewer points than trials is tried whole.
    """

    def __init__(self, search: SearchConfig, seed: int) -> None:
        self._space, self._trials, self._seed = search.space, search.trials, seed
        self._proposed = False

    def propose(self) -> list[Params] | None:
        if self._proposed:
            return None
        self._proposed = True
        size = num_points(self._space)
        if size is not None and size <= self._trials:
            return list(_product(self._space, points=1))
        streams = {key: random.Random(seed_of(self._seed, key)) for key in self._space}
        for _ in range(100):
            columns = {key: _spread(self._space[key], self._trials, streams[key]) for key in self._space}
            cohort = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
            if size is None or not any(cohort[i] in cohort[:i] for i in range(len(cohort))):
                return list(cohort)
        # Nearly every point of a small space is wanted: balance gives way to distinctness.
        return random.Random(self._seed).sample(list(_product(self._space, points=1)), self._trials)

    def learn(self, scores: Sequence[float | None]) -> None:
        """Do nothing: what is drawn does not depend on scores."""


@final
class Grid:
    """Every combination, in one cohort; the last key of the space varies fastest."""

    def __init__(self, search: SearchConfig, seed: int) -> None:
        self._space, self._points = search.space, search.grid_points
        self._proposed = False

    def propose(self) -> list[Params] | None:
        if self._proposed:
            return None
        self._proposed = True
        return list(_product(self._space, self._points))

    def learn(self, scores: Sequence[float | None]) -> None:
        """Do nothing: a grid is fixed beforehand."""


@final
class Optuna:
    """Tree-structured Parzen estimator (Bergstra et al. 2011), by Optuna; a cohort at a time.

    The first cohort is random, and each later one has learnt from all before it. Proposals and scores go in
    and out in the order of the trials, so that the outcome depends on the seed alone.
    """

    _ATTEMPTS = 100
    """Draws after which a candidate that was not tried yet is given up."""

    def __init__(self, search: SearchConfig, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        # Keys are drawn together, which is version 5's default.
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=search.cohort, multivariate=True)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._space, self._cohort, self._left = search.space, search.cohort, search.trials
        self._tried: list[Params] = []
        self._asked: list[OptunaTrial] = []

    def propose(self) -> list[Params] | None:
        self._asked, cohort = [], []
        for _ in range(min(self._cohort, self._left)):
            candidate = self._ask()
            if candidate is None:
                break
            cohort.append(candidate)
        self._left = self._left - len(cohort) if len(cohort) == self._cohort else 0
        return cohort or None

    def learn(self, scores: Sequence[float | None]) -> None:
        import optuna

        for asked, score in zip(self._asked, scores, strict=True):
            if score is None:
                self._study.tell(asked, state=optuna.trial.TrialState.FAIL)
            else:
                self._study.tell(asked, score)

    def _ask(self) -> Params | None:
        import optuna

        distributions = {key: _distribution(range_) for key, range_ in self._space.items()}
        for _ in range(self._ATTEMPTS):
            asked = self._study.ask(distributions)
            params = {key: _value(self._space[key], asked.params[key]) for key in self._space}
            if params not in self._tried:
                self._tried.append(params)
                self._asked.append(asked)
                return params
            self._study.tell(asked, state=optuna.trial.TrialState.FAIL)
        return None


PROPOSERS: Mapping[str, type[Random] | type[Grid] | type[Optuna]] = {
    "random": Random,
    "grid": Grid,
    "optuna": Optuna,
}
"""`search.algorithm` -> class."""


def search_of(search: SearchConfig, job: Job) -> SearchConfig:
    """The search of one job: in a space of its own, where it has one."""
    return search if job.space is None else dataclasses.replace(search, space=job.space)


def proposer_of(search: SearchConfig, job: str, seed: int) -> Proposer:
    """Make the searcher of one job; what it proposes depends on nothing but the three arguments."""
    return PROPOSERS[search.algorithm](search, seed_of(seed, job, "search"))


def num_trials(search: SearchConfig) -> int:
    """Count the trials of a job; Optuna may end with fewer if the space has hardly more points."""
    points = num_points(search.space, search.grid_points if search.algorithm == "grid" else None)
    if search.algorithm == "grid":
        assert points is not None
        return points
    return search.trials if points is None else min(search.trials, points)


def num_points(space: Mapping[str, Range], points: int | None = None) -> int | None:
    """Count the points of a space whose continuous ranges have `points` each; None if that is infinite."""
    sizes = [points if range_.choice is None else len(range_.choice) for range_ in space.values()]
    return math.prod(size for size in sizes if size is not None) if None not in sizes else None


def check(search: SearchConfig, settings: Settings) -> None:
    """Make sure that every value a search can propose is a valid setting.

    Raises:
        ConfigError: With a fault for each unknown key and each value that breaks a rule.
    """
    faults: list[Fault] = []
    groups = [group.name for group in dataclasses.fields(settings)]
    is_reduced = settings.method.reduction_factor is not None or "method.reduction_factor" in search.space
    if "method.width" in search.space and is_reduced:
        rule, remedy = "has no effect beside method.reduction_factor", "Leave out one of the two"
        faults.append(fault("search.space.method.width", "", rule, remedy))
    if (precision := search.space.get("engine.precision")) and "auto" in precision.named:
        rule, remedy = "is settled once for a whole sweep", "List float32 and bfloat16"
        faults.append(fault("search.space.engine.precision", "auto", rule, remedy))
    for key, range_ in search.space.items():
        if key.split(".")[0] not in groups:
            remedy = f"Search keys of {' and '.join(groups)}, such as method.dropout or engine.batch_size"
            rule = "is no setting in which the trials of a job may differ"
            faults.append(fault(f"search.space.{key}", "", rule, remedy))
            continue
        for value in range_.named:
            try:
                replace(settings, rounded(settings, {key: value}))
            except ConfigError as error:
                faults.extend(dataclasses.replace(one, where=f"search.space.{one.where}") for one in error.faults)
    if faults:
        raise ConfigError(list(dict.fromkeys(faults)))


def _product(space: Mapping[str, Range], points: int) -> Iterator[Params]:
    columns = [_points(range_, points) for range_ in space.values()]
    for row in itertools.product(*columns):
        yield dict(zip(space, row, strict=True))


def _points(range_: Range, points: int) -> list[Any]:
    if range_.choice is not None:
        return list(range_.choice)
    if points == 1:
        return [_at(range_, 0.5)]
    return [_at(range_, i / (points - 1)) for i in range(points)]


def _spread(range_: Range, count: int, rng: random.Random) -> list[Any]:
    """Draw `count` values of a range so that they cover it, in random order."""
    order = rng.sample(range(count), count)
    if range_.choice is None:
        return [_at(range_, (stratum + rng.random()) / count) for stratum in order]
    shuffled = rng.sample(range_.choice, len(range_.choice))
    return [shuffled[place % len(shuffled)] for place in order]


def _at(range_: Range, share: float) -> float:
    """Return the value at a share of a continuous range, to three digits, for the sake of its reader."""
    low, high = range_.log_uniform or range_.uniform or (0.0, 0.0)
    value = low * (high / low) ** share if range_.log_uniform else low + (high - low) * share
    return min(max(float(f"{value:.3g}"), low), high)


def _distribution(range_: Range) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if range_.choice is not None:
        return CategoricalDistribution(range(len(range_.choice)))  # places, since a choice may be a list
    return FloatDistribution(0.0, 1.0)  # shares of the range: log or linear is then the same to the study


def _value(range_: Range, drawn: Any) -> Any:
    return _at(range_, drawn) if range_.choice is None else range_.choice[drawn]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What one job is going to do."""

    trials: int
    epochs: int
    """Of all its trials together. Early stopping may save some; ASHA, counted like halving, may take more or fewer."""


def plan_of(search: SearchConfig, epochs: int) -> Plan:
    """Count the trials and epochs of a job whose trials have `epochs` epochs at most."""
    trials = num_trials(search)
    cohort = search.cohort if search.algorithm == "optuna" else trials
    sizes = [min(cohort, trials - start) for start in range(0, trials, cohort)]
    range_ = search.space.get("engine.epochs")
    lengths = [round(one) for one in range_.named] if range_ else [epochs]
    total = sum(_cohort_epochs(search, size, length) for size in sizes for length in lengths)
    return Plan(trials=trials, epochs=round(total / len(lengths)))


def _cohort_epochs(search: SearchConfig, size: int, epochs: int) -> int:
    if search.scheduler == "none":
        return size * epochs
    total, before, rung = 0, 0, search.first_rung
    for epoch in range(1, epochs):
        if is_reached(rung, epoch / epochs):
            total += size * (epoch - before)
            before, size = epoch, math.ceil(size / search.reduction)
            rung = next_rung(rung, epoch / epochs, search.reduction)
    return total + size * (epochs - before)

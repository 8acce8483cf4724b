"""What a search tries."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.config.faults import above
from pipeline.errors import Fault, fault


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """What one searched key may be: exactly one of the three."""

    log_uniform: list[float] | None = None
    """[low, high], drawn evenly on a log scale."""
    uniform: list[float] | None = None
    """[low, high], drawn evenly."""
    choice: list[Any] | None = None
    """One of these."""

    @property
    def named(self) -> list[Any]:
        """What the config names: the choices, or both ends; where these are good settings, all proposals are."""
        return self.log_uniform or self.uniform or self.choice or []

    @property
    def ends(self) -> list[float]:
        """The lowest and the highest value, where it has numbers of which these differ; else nothing."""
        numbers = [float(one) for one in self.named if type(one) in (int, float)]
        return [min(numbers), max(numbers)] if len({*numbers}) > 1 else []

    def faults(self, where: str) -> Iterator[Fault]:
        given = [name for name in ("log_uniform", "uniform", "choice") if getattr(self, name) is not None]
        if len(given) != 1:
            rule = "must have exactly one of log_uniform, uniform, choice"
            yield fault(where, ", ".join(given), rule, f"Write {where}: {{choice: [16, 32]}}, for instance")
            return
        values = getattr(self, given[0])
        if given == ["choice"]:
            if not values:
                yield fault(f"{where}.choice", values, "must not be empty", "List at least one value")
        elif len(values) != 2 or not values[0] < values[1]:
            yield fault(f"{where}.{given[0]}", values, "must be [low, high]", "Give two numbers, the lower first")
        elif given == ["log_uniform"] and values[0] <= 0:
            yield fault(f"{where}.log_uniform", values, "must start above 0", "Raise the lower bound above 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchConfig:
    """Which trials a job has, and which of them go on."""

    algorithm: Literal["random", "grid", "optuna"] = "random"
    """How candidates are chosen; each job has a searcher of its own."""
    scheduler: Literal["halving", "asha", "none"] = "halving"
    """How trials are pruned: in step within a job, by order of arrival, or not at all."""
    trials: int = 6
    """Candidates a job; a grid runs whole and ignores it."""
    reduction: int = 3
    """At each rung the best 1/reduction of the trials go on, and the next rung is reduction times as far."""
    first_rung: float = 0.2
    """Share of its steps that every trial gets, between 0 and 1; who reaches it is seen after each epoch."""
    grid_points: int = 3
    """Points that a grid puts on a continuous range."""
    cohort: int = 4
    """Optuna: trials that are proposed, and halved, together; it learns between cohorts."""
    time_budget_s: float | None = None
    """Stop searching after this many seconds; the best so far win. A resumed sweep has them anew. None: no limit."""
    space: Mapping[str, Range] = field(default_factory=dict)
    """Config key (`engine.learning_rate`, `method.width`, ...) -> range; the method's own file gives the default."""
    fixed: list[str] = field(default_factory=list)
    """Keys of the method's own space that were set to one value, which is what is trained. Filled by the reader."""

    def faults(self, where: str) -> Iterator[Fault]:
        for name in ("trials", "grid_points", "cohort"):
            yield from above(f"{where}.{name}", getattr(self, name))
        if not 0 < self.first_rung < 1:
            rule = "must be above 0 and below 1: it is a share of a trial's steps, and no longer a number of epochs"
            yield fault(f"{where}.first_rung", self.first_rung, rule, f"Set {where}.first_rung=0.2, for instance")
        yield from above(f"{where}.reduction", self.reduction, 1)
        yield from above(f"{where}.time_budget_s", self.time_budget_s)

"""A pass of continual learning: what a champion is trained on again, and how a challenger is made."""

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pipeline.config.drift import DriftConfig
from pipeline.config.faults import above, between, no_secret
from pipeline.config.sweep import SweepConfig
from pipeline.errors import Fault, fault, up_to_host


@dataclass(frozen=True, kw_only=True, slots=True)
class ChallengerConfig:
    """How a challenger is made."""

    start: Literal["warm", "cold"] = "warm"
    """`warm`: from the champion's weights; `cold`: from fresh ones, as a sweep."""
    replay: float = 0.1
    """Share of the rows that the champion was trained on which are trained on again, beside the new ones; the same of
    every label, and others in each pass."""
    rate: float = 0.1
    """Learning rate of a warm start, as a share of that of the last cold start: at the whole of it what was learnt is
    lost first."""
    new_label_rate: float = 1.0
    """The same where a label is new: its part of the head begins at random, and a small rate would leave it there."""
    trials: int = 1
    """1: the champion's own settings. More: a search of so many candidates, around the champion's learning rate, and
    of a cold start around its width too."""
    spread: float = 3.0
    """How far around: learning rates from a `spread`-th of the champion's to `spread` times it, widths half and
    twice; never beyond what the first search tried."""

    def faults(self, where: str) -> Iterator[Fault]:
        yield from between(f"{where}.replay", self.replay, 0, 1)
        for name in ("rate", "new_label_rate", "trials"):
            yield from above(f"{where}.{name}", getattr(self, name))
        yield from above(f"{where}.spread", self.spread, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class HookConfig:
    """What is told when a champion is promoted, or withdrawn; one of the two, or none."""

    command: str | None = None
    """A shell command. It finds the event as JSON on its standard input."""
    url: str | None = None
    """A webhook: gets the same JSON by POST. `$NAME` takes the address from the environment variable NAME, for one that
    holds a secret: what stands here is recorded up to the host, and written into schedules as it is."""
    timeout_s: float = 30.0

    def faults(self, where: str) -> Iterator[Fault]:
        if self.command and self.url:
            yield fault(f"{where}.url", self.url, f"stands beside {where}.command", "Leave out one of the two")
        if self.url and not re.match(r"https?://|\$\w+\Z", self.url):
            rule = "must begin with http:// or https://, or be the name of a variable"
            yield fault(f"{where}.url", self.url, rule, f"Write the whole address, or {where}.url=$NAME")
        yield from no_secret(f"{where}.url", self.url, f"put it into an environment variable: {where}.url=$NAME")
        yield from above(f"{where}.timeout_s", self.timeout_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrainConfig(SweepConfig):
    """`make retrain`: one pass over the tasks, each with a champion."""

    challenger: ChallengerConfig = field(default_factory=ChallengerConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)
    hook: HookConfig = field(default_factory=HookConfig)
    said: list[str] = field(default_factory=list)
    """Keys that the user sets; filled from the command line. What else there is to set of the engine is the
    champion's, but for the epochs."""

    def faults(self, where: str) -> Iterator[Fault]:
        if self.resume is not None:
            rule = "has no effect: a pass that was cut off leaves nothing half-done, and the next one begins anew"
            yield fault("resume", self.resume, rule, "Run the same command without RESUME")


def recorded(config: SweepConfig) -> dict[str, Any]:
    """A config as plain containers, to be kept and shown: the address of a webhook, which may be its secret, is cut."""
    values = asdict(config)
    if isinstance(config, RetrainConfig) and config.hook.url is not None:
        values["hook"]["url"] = up_to_host(config.hook.url)
    return values

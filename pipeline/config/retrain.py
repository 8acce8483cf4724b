"""A pass of continual learning: what a champion is trained on again, and how a challenger is made."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

from pipeline.config.drift import DriftConfig
from pipeline.config.faults import above, between, no_secret
from pipeline.config.sweep import SweepConfig
from pipeline.errors import Fault, fault, up_to_host


@dataclass(frozen=True, kw_only=True, slots=True)
class Harder:
    """What is done otherwise where a challenger was stopped by the past alone; what it leaves out stays as it is."""

    start: Literal["warm", "cold", "still"] | None = None
    """A cold start takes as many epochs as the last one did; `still` is left out where it can teach nothing."""
    replay: float | None = None
    rate: float | None = None
    """Not of labels that are new, which have a rate of their own."""
    times: int = 1
    """So many times the epochs of a pass."""

    def faults(self, where: str) -> Iterator[Fault]:
        yield from between(f"{where}.replay", self.replay, 0, 1)
        yield from above(f"{where}.rate", self.rate)
        yield from above(f"{where}.times", self.times)


def _ladder() -> list[Harder]:
    """New labels beside what is there; more of the past, then longer, then from the beginning."""
    return [
        Harder(start="still", replay=1.0, times=2),
        Harder(replay=0.5),
        Harder(replay=1.0),
        Harder(replay=1.0, rate=0.3, times=2),
        Harder(start="cold", replay=1.0),
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class ChallengerConfig:
    """How a challenger is made."""

    LATER: ClassVar[Sequence[str]] = ("still_rate",)
    """Keys that came after the first passes were named."""

    start: Literal["warm", "cold", "still"] = "warm"
    """`warm`: from the champion's weights; `cold`: from fresh ones, as a sweep. `still`: the champion stays as it is,
    and only the head's outputs of new labels are trained beside it; they are held back as far as a fortieth of their
    own validation rows allows, so that little of the past is taken for them."""
    replay: float | None = None
    """Share of the rows that the champion was trained on which are trained on again, beside the new ones: the same of
    every label, and others in each pass. None: 0.1, and 0.5 where a label is new."""
    weighted: bool = False
    """Whether a replayed row counts for all the old rows that it stands for, at a replay of 0.1 for ten (importance
    weighting); else as much as a new one. It keeps more of the past where little is replayed, and what is new is learnt
    more slowly (docs/year.md)."""
    rate: float = 0.1
    """Learning rate of a warm start, as a share of that of the last cold start: at the whole of it what was learnt is
    lost first."""
    still_rate: float = 10.0
    """The same of outputs that are trained alone."""
    new_label_rate: float = 1.0
    """The same where a label is new: its part of the head begins at random, and a small rate would leave it there."""
    new_label_epochs: int = 4
    """Epochs of a pass where a label is new, unless engine.epochs is set: in two it is learnt less well."""
    trials: int = 1
    """1: the champion's own settings. More: a search of so many candidates, around the champion's learning rate, and
    of a cold start around its width too."""
    spread: float = 3.0
    """How far around: learning rates from a `spread`-th of the champion's to `spread` times it, widths half and
    twice; never beyond what the first search tried."""
    ladder: list[Harder] = field(default_factory=_ladder)
    """What is tried next where a challenger is stopped by the past alone, the cheapest first: by default half of the
    old rows, all of them, all for twice the epochs at 0.3 of the rate, and a cold start on all; and before all others,
    where most new rows have a new label, the outputs of those alone. `[{replay:1,times:3}]`:
    all of them for three times the epochs. `[]`: nothing. The attempts share the gate's chance of an error."""
    budget: float = 1.0
    """How long that may go on, in rows times epochs, as a share of one training from scratch on all rows: an attempt
    begins while anything of it is left, and the last that does is the last of the ladder, the surest."""

    def faults(self, where: str) -> Iterator[Fault]:
        yield from between(f"{where}.replay", self.replay, 0, 1)
        for name in ("rate", "still_rate", "new_label_rate", "new_label_epochs", "trials"):
            yield from above(f"{where}.{name}", getattr(self, name))
        yield from above(f"{where}.spread", self.spread, 1)
        yield from above(f"{where}.budget", self.budget)


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

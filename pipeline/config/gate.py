"""What a challenger has to show before it takes the champion's place."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pipeline.config.faults import above, between
from pipeline.errors import Fault, fault

LEAST_BEYOND = 10
"""Resamples that have to lie beyond a bound: with fewer of them the bound is a matter of chance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GateConfig:
    """The rule by which `pipeline.rules.gate` compares a challenger with the champion.

    Margin, gain and floor are in the metric's own unit, in which 0.02 are 2 points.
    """

    margin: float = 0.02
    """How much worse than the champion is still as good (the margin of a non-inferiority test). On the slices of the
    past, taken together, it has to be shown that the challenger is not worse by this much; a single slice on which it
    is shown to be worse by more has a veto. Where the rows of the past are so few that an equal challenger would
    show it less than four times in five, `exchange_loss` is what has to be shown, that no more than the margin is lost
    as far as is seen, and that all slices together are better, rows weighing alike; but for `growth=keep`."""
    confidence: float = 0.95
    """Of each bound, taken one-sided: 0.95 lets a challenger that is worse by exactly the margin pass the slices of
    the past once in 20 times, where it is no better elsewhere."""
    growth: Literal["auto", "keep", "exchange"] = "auto"
    """What is wanted of a challenger for which the task has grown. `keep`: that nothing is lost, as otherwise.
    `exchange`: that the whole is better, all slices and labels together, weighted by rows, and no slice of the past
    loses more than `exchange_loss`. `auto`: exchange where the challenger has labels that the champion lacks: with more
    labels to choose from a task is harder for every model."""
    exchange_loss: float = 0.05
    """What the slices of the past may lose in an exchange, where that is more than the margin."""
    max_leaked: float = 0.1
    """Share of the rows to train on or choose by, new ones and these, that may be evaluation rows. They are left out in
    any case; where there are more, or where more than half of the new evaluation rows stand among the rows to train on,
    the splits were mixed up, and nothing is trained. 1: any."""
    min_rows: int = 100
    """Rows on which it can be claimed that a challenger is as good: so many the new slice needs, and so many that carry
    the metric the slices of the past together (of the F1 of entities those with an entity, gold or said). A first
    champion needs none, and a difference that is beyond doubt needs fewer."""
    min_rows_label: int = 10
    """Macro F1: rows of each label of the task that the slices have to have, those of the past together (of a label
    that is new with the new slice, that one)."""
    rare_labels: Literal["stop", "leave_out"] = "stop"
    """Macro F1: what a label of fewer rows does. `stop`: nothing is promoted, since it might be forgotten unseen.
    `leave_out`: it is taken out of the metric of both sides, and the verdict says so."""
    gain: float | None = None
    """What is asked on the new slice. None: no gain, only that it is not shown to be worse. 0: that it is shown to be
    better. 0.01: that it is shown to be better by more than a point."""
    gap: float | None = 0.1
    """How far the new slice may lie below those of the past, by the challenger's scores, where the challenger has not
    gained at least as much on it as is left: what cannot be learnt from a period's rows may have wrong labels. In an
    exchange, whatever is gained: of new labels anything is. None: any. A slice of fewer than `min_rows` rows is not
    held to it; in an exchange one of twenty is."""
    floor: float | None = None
    """Least score of a champion, whatever it is compared with: on the new slice, and as the mean over the slices of
    the past. None: none. A metric of which less is better (`rmse`) has none."""
    resamples: int = 2000
    """Of the bootstrap; more where one of several attempts needs them."""

    def faults(self, where: str) -> Iterator[Fault]:
        yield from above(f"{where}.margin", self.margin)
        yield from between(f"{where}.margin", self.margin, 0, 1)
        yield from between(f"{where}.confidence", self.confidence, 0.5, 0.999)
        yield from above(f"{where}.min_rows", self.min_rows)
        yield from above(f"{where}.min_rows_label", self.min_rows_label)
        yield from above(f"{where}.exchange_loss", self.exchange_loss)
        for name in ("exchange_loss", "max_leaked", "gain", "gap", "floor"):
            yield from between(f"{where}.{name}", getattr(self, name), 0, 1)
        beyond = self.resamples * (1 - self.confidence)
        if not round(beyond, 6) >= LEAST_BEYOND:
            rule = f"must leave {LEAST_BEYOND} resamples beyond a bound of confidence {self.confidence:g}"
            enough = math.ceil(round(LEAST_BEYOND / (1 - self.confidence), 6))
            yield fault(f"{where}.resamples", self.resamples, rule, f"Raise {where}.resamples to {enough}")

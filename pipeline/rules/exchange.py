"""What a challenger may lose of the past: next to nothing, or something where its labels have grown in exchange. Pure.

With new labels a task becomes harder for every model: a champion that knows 30 labels and has 95 % of them right is no
measure for one that tells 38 apart. Judged by the past alone, a champion that answers none of eight new labels would
stay for ever.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config import GateConfig
from pipeline.core.tasks.metrics import Found
from pipeline.rules.evidence import Evidence, SliceEvidence

_NUM_LISTED = 5
"""Labels that a sentence lists."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """On which terms the past is judged."""

    exchange: bool
    """Whether the whole has to be shown to be better, for which the past may lose more."""
    loss: float
    """What the slices of the past may lose, in the metric's unit."""
    said: str
    """The loss in words."""
    confidence: float
    """Of what has to be shown; what stops a challenger keeps that of the config."""


def terms_of(evidence: Evidence, config: GateConfig, confidence: float | None = None) -> Terms:
    """Find the terms of a config for this evidence; `confidence` is that of one of several attempts."""
    asked = config.confidence if confidence is None else confidence
    if config.growth == "exchange" or (config.growth == "auto" and evidence.grown):
        loss = max(config.exchange_loss, config.margin)
        return Terms(exchange=True, loss=loss, said=f"the {loss * 100:g} that growth may cost", confidence=asked)
    said = f"the margin of {config.margin * 100:g}"
    return Terms(exchange=False, loss=config.margin, said=said, confidence=asked)


def label_losses(past: Sequence[SliceEvidence], config: GateConfig) -> tuple[bool, str] | None:
    """Say what the labels of the past lose in an exchange; one that is lost altogether stops the challenger.

    A label is lost where the challenger finds none of its rows and the champion so many that chance does not explain it
    (a sign test at the config's confidence: five at 95 %).

    Returns:
        Whether none is lost, and what is said; None where nothing is known of labels.
    """
    before, now = (_summed(past, side) for side in (0, 1))
    least = math.log(1 - config.confidence) / math.log(0.5)
    gone = sorted(label for label, (found, _) in before.items() if found >= least and not now[label][0])
    if gone:
        named = ", ".join(
            f"{label} ({before[label][0]} of {before[label][1]} were right)" for label in gone[:_NUM_LISTED]
        )
        more = f" and {len(gone) - _NUM_LISTED} more" if len(gone) > _NUM_LISTED else ""
        return False, f"lost altogether: {named}{more}"
    if not before:
        return None
    worse = sorted((now[label][0] - found, label) for label, (found, _) in before.items() if now[label][0] < found)
    if not worse:
        return True, "no label of the past loses anything"
    chance = " (may be chance)"
    lines = [
        f"{label} {before[label][0]} -> {now[label][0]} of {before[label][1]} right" + chance * (-lost < least)
        for lost, label in worse[:_NUM_LISTED]
    ]
    return True, f"labels that lose most: {', '.join(lines)}"


def _summed(past: Sequence[SliceEvidence], side: int) -> dict[str, Found]:
    """Label -> what one side found of it in all slices, of how many."""
    right, there = Counter[str](), Counter[str]()
    for one in past:
        for label, sides in one.found.items():
            right[label] += sides[side][0]
            there[label] += sides[side][1]
    return {label: (right[label], number) for label, number in there.items()}

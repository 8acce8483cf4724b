"""The attempts of a pass: how each challenger is trained where the one before was stopped by the past alone. Pure.

Every attempt is judged once, on the same slices. Each is one more chance that a challenger which is worse passes by
luck; so the attempts that a pass may make are counted before the first one, and share the chance of an error that the
gate allows (Bonferroni's inequality, whatever they have in common): the first has half of it, since it is often the
only one, and the others the rest in equal parts.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config import ChallengerConfig, Harder

_REPLAY, _REPLAY_GROWN = 0.1, 0.5
"""Share of the old rows where none is set; and where a label is new (docs/year.md has what both are worth)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One challenger of a pass."""

    name: str
    """How it is trained, in words; what is learnt of a task is kept under it."""
    challenger: ChallengerConfig
    """With what the ladder says in place."""
    epochs: int
    cost: int
    """Rows times epochs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What there is to train on."""

    old: int
    """Rows that the champion was trained on."""
    new: int
    epochs: int
    """Of a pass."""
    cold_epochs: int
    """Of the last cold start."""
    grown: bool = False
    """Whether a label is new, so that the learning rate is that of new labels."""
    still: bool = False
    """Whether most new rows have a new label, so that outputs of those alone can learn them."""


def attempts(challenger: ChallengerConfig, work: Work, begin: str = "") -> list[Attempt]:
    """List the attempts of a pass: the first, then what costs as much or more, the cheapest first.

    Before all of them comes what leaves the champion as it is, where that can teach what is new.

    One begins while anything of the budget is left. Where that is not enough for all of them, the last one that begins
    is the last that the ladder names: it ends with what is surest. What leaves the champion as it is takes no other
    one's place: behind it at least one begins.

    Args:
        challenger: The first attempt, its ladder, and its budget as a share of one training from scratch on everything.
        work: What there is to train on.
        begin: Name of the attempt that passed last time: cheaper ones are left out, but for the one that leaves the
            champion as it is. Any other name leaves out none.
    """
    ladder = _ordered(challenger, work, begin)
    budget = challenger.budget * (work.old + work.new) * work.cold_epochs
    begun = 2 if ladder[0].challenger.start == "still" != challenger.start else 1
    planned, spent = ladder[:begun], sum(one.cost for one in ladder[:begun])
    for one in ladder[begun:]:
        if spent >= budget:
            break
        planned.append(one)
        spent += one.cost
    named_last = [_attempt(challenger, harder, work).name for harder in challenger.ladder[-1:]]
    surest = [one for one in ladder[len(planned) :] if one.name in named_last]
    if len(planned) > 1 and surest:
        planned[-1:] = surest
    return planned


def _ordered(challenger: ChallengerConfig, work: Work, begin: str) -> list[Attempt]:
    """All that may be tried, whatever it costs together."""
    first = _attempt(challenger, Harder(), work)
    before = [one for one in challenger.ladder if one.start == "still" and challenger.start != "still"]
    others = (_attempt(challenger, harder, work) for harder in challenger.ladder if harder not in before)
    dearer = {one.name: one for one in others if one.cost >= first.cost}
    still = [_attempt(challenger, harder, work) for harder in before if work.still and challenger.start == "warm"]
    ladder = sorted((dearer | {first.name: first}).values(), key=lambda one: (one.cost, one is not first))
    names = [one.name for one in ladder]
    return [*still, *(ladder[names.index(begin) :] if begin in names else ladder)]


def confidences(confidence: float, number: int) -> list[float]:
    """The confidence of each of so many attempts, which together err no more often than one alone would."""
    if number == 1:
        return [confidence]
    share = (1 - confidence) / 2
    return [1 - share, *[1 - share / (number - 1)] * (number - 1)]


def _attempt(challenger: ChallengerConfig, harder: Harder, work: Work) -> Attempt:
    said = {key: value for key in ("start", "replay", "rate") if (value := getattr(harder, key)) is not None}
    own = dataclasses.replace(challenger, **said)
    replay = own.replay if own.replay is not None else _REPLAY_GROWN if work.grown else _REPLAY
    own = dataclasses.replace(own, replay=replay)
    epochs = work.cold_epochs if harder.start == "cold" else work.epochs * harder.times
    # Part of the name only where it says how the challenger is trained: no two names stand for the same.
    is_rate_said = own.start == "warm" and not work.grown and own.rate != challenger.rate
    parts = [own.start, f"replay {replay:g}", *([f"rate {own.rate:g}"] if is_rate_said else [])]
    name = ", ".join([*parts, f"{epochs} {'epoch' if epochs == 1 else 'epochs'}"])
    passes = epochs / 3 if own.start == "still" else epochs  # nothing is led back through the layers
    cost = round((work.new + replay * work.old) * passes)
    return Attempt(name=name, challenger=own, epochs=epochs, cost=cost)


def told(planned: Sequence[Attempt], number: int) -> str:
    """Say which attempt it is, from 0."""
    return f"attempt {number + 1} of {len(planned)}: {planned[number].name}"

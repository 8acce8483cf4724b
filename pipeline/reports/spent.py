"""Where the time of a sweep went that was neither training nor evaluation: every second of its wall clock, once."""

import math
import time
from collections.abc import Callable, Mapping
from typing import final

from pipeline.core.engine.events import JobTested, SweepEvent, TrialEnded, TrialReported, TrialStarted
from pipeline.reports.words import duration

Span = tuple[float, float]
"""Begin and end, in seconds since some moment."""

_AT_ONCE_S = 0.1
TRAINING, TESTS = "training and validation", "tests"
_FIRST, _LAST = "until the first step", "after the last test"
"""Parts of the search itself: what came before any training, which on Ray is its start and that of its processes; and
what came after all of it."""


@final
class Spent:
    """A clock that is told of each part of a sweep as it begins, and a sink of the sweep's events."""

    def __init__(self, begun: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with the part `start`.

        Args:
            begun: When the process began, by the clock.
            clock: Seconds, of which only differences matter.
        """
        self._clock = clock
        self._parts = [("start", begun)]
        self._busy: list[Span] = []
        self._tests: list[Span] = []
        self._since: dict[str, float] = {}
        """Trial -> when it was last known to begin an epoch."""
        self._told: dict[str, tuple[float, float]] = {}
        """Job -> when the last epoch of one of its trials was told, and when it began."""
        self._ended: dict[str, float] = {}
        """Job -> when the last of its trials ended."""

    def begin(self, part: str) -> None:
        """End the present part; another one begins."""
        self._parts.append((part, self._clock()))

    def __call__(self, event: SweepEvent) -> None:
        """Take in an event of the part `search`."""
        now = self._clock()
        match event:
            case TrialStarted():
                self._since[event.trial.key] = now
            case TrialReported(evaluated=evaluated):
                # Each of a pack has its share of what all took, and all are told at once: one share is before another.
                told, before = self._told.get(event.trial.job, (-math.inf, now))
                end = before if now - told < _AT_ONCE_S else now
                # An epoch of an earlier process is told anew and took no time now.
                begun = max(end - evaluated.train_s - evaluated.eval_s, self._since.get(event.trial.key, now))
                self._busy.append((begun, now))
                self._since[event.trial.key], self._told[event.trial.job] = now, (now, begun)
            case TrialEnded():
                self._ended[event.trial.job] = now
            case JobTested():
                self._tests.append((self._ended.get(event.trial.job, now), now))

    def seconds(self) -> dict[str, float]:
        """Part -> its seconds of wall clock; first `TRAINING` and `TESTS`, then all that was neither.

        Trials run side by side: a second in which any of them is trained or validated is one of `TRAINING`, and what
        another process did meanwhile is not told.
        """
        ends = [begun for _, begun in self._parts[1:]] + [self._clock()]
        parts = [(name, (begun, end)) for (name, begun), end in zip(self._parts, ends, strict=True)]
        groups = {TRAINING: self._busy, TESTS: self._tests}
        if spans := [*self._busy, *self._tests]:
            for name, (begun, end) in parts:
                if name == "search":
                    groups |= {_FIRST: [(begun, min(spans)[0])], _LAST: [(max(last for _, last in spans), end)]}
        for name, span in parts:
            groups.setdefault(name, []).append(span)
        return _apart(groups)

    def line(self) -> str:
        """All of it in one sentence; parts of less than half a second are left out."""
        parts = self.seconds()
        whole, training, tests = sum(parts.values()), parts.pop(TRAINING), parts.pop(TESTS)
        told = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in parts.items() if seconds >= 0.5)
        rest = duration(sum(parts.values())) + (f": {told}" if told else "")
        return f"Took {duration(whole)}: {duration(training)} of {TRAINING}, {duration(tests)} of tests; else {rest}."

    def metrics(self) -> dict[str, float]:
        """The same for the tracking store, in seconds."""
        parts = self.seconds()
        outside = sum(parts.values()) - parts[TRAINING] - parts[TESTS]
        return {"outside_s": outside} | {f"spent_s.{name.replace(' ', '_')}": value for name, value in parts.items()}


def _apart(groups: Mapping[str, list[Span]]) -> dict[str, float]:
    """Seconds of each group that are in none before it."""
    found: dict[str, float] = {}
    spans: list[Span] = []
    before = 0.0
    for name, more in groups.items():
        spans = _merged([*spans, *more])
        covered = sum(end - begun for begun, end in spans)
        found[name], before = covered - before, covered
    return found


def _merged(spans: list[Span]) -> list[Span]:
    """The same seconds in spans that do not overlap."""
    merged: list[Span] = []
    for begun, end in sorted(spans):
        if merged and begun <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        elif end > begun:
            merged.append((begun, end))
    return merged

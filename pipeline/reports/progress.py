"""What a running sweep shows: on a terminal a table that moves; elsewhere, and without Ray, a line for each
trial that ends.

Where no trial has ended for a while, a line says how far the sweep is. Of many jobs the table shows those that run and
those that did last, as many as the terminal has lines for; the line names those whose best score is another than it
was when it was last told.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self, final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live

from pipeline.core.data.rows import many
from pipeline.core.engine.events import SweepEvent, TrialEnded, TrialReported
from pipeline.reports import words
from pipeline.reports.results import SweepResults
from pipeline.reports.tables import Column, FittingTable

_STATES = {"running": 0, "paused": 3, "done": 0, "pruned": 2, "failed": 1}
"""State of a trial -> rank of its column."""
_MOST_TOLD = 8
"""Jobs that are named on a line."""
_SILENCE_S = 15.0
"""After this long without a line, the next epoch that ends is told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobPlan:
    """What a job is going to do."""

    trials: int
    epochs: int
    """Of all its trials together, pruning considered."""
    metric: str
    """Name of the primary metric."""


@final
class Progress:
    """Sink that shows the state of a sweep; `results` must have taken in an event before it comes here."""

    def __init__(
        self,
        console: Console,
        results: SweepResults,
        plans: Mapping[str, JobPlan],
        *,
        slots: int,
        live: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing is shown before the context is entered.

        Args:
            console, results: Where to, and the state of the trials.
            plans: Job -> what it is going to do.
            slots: Trials that run at once.
            live: Whether a terminal shows the table that moves; a debugger wants the terminal for itself.
            clock: Seconds since some moment.
        """
        self._console = console
        self._results = results
        self._plans = plans
        self._slots = slots
        self._is_live = live and console.is_terminal
        self._clock = clock
        self._printed_s = clock()
        self._live: Live | None = None
        self._told: dict[str, float] = {}
        """Job -> its best score, as it was told on a line."""
        self._newest: dict[str, int] = {}
        """Job -> number of the last event that was of it."""

    def __enter__(self) -> Self:
        if self._is_live:
            # Four times a second, from a thread of rich's own: events only change the state.
            # What libraries print is not drawn above the table: the command has sent it to the log.
            self._live = Live(
                console=self._console,
                get_renderable=lambda: self,
                refresh_per_second=4,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        else:
            trials = sum(plan.trials for plan in self._plans.values())
            jobs = many(len(self._plans), "job")
            self._print(f"{jobs}, {many(trials, 'trial')}, {self._slots} at once")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, event: SweepEvent) -> None:
        """Show an event."""
        self._newest[event.trial.job] = 1 + max(self._newest.values(), default=0)
        if isinstance(event, TrialEnded) and (self._live is None or event.status == "failed"):
            self._print(self._line(event))  # on a terminal above the table, which has no room for reasons
        elif self._live is not None:
            return
        elif isinstance(event, TrialReported) and self._clock() - self._printed_s > _SILENCE_S:
            self._print(self._standing())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table with as many jobs as the terminal has lines for; a long name takes more than one."""
        height = console.size.height - 1
        most = min(len(self._plans), height)
        while (taller := len(console.render_lines(self.table(most), options)) - height) > 0 and most > 1:
            most = max(most - taller, 1)
        yield self.table(most)

    def table(self, most: int | None = None) -> FittingTable:
        """The state of every job; or of `most` of them, and of the others together."""
        names = self._foremost(len(self._plans) if most is None else most)
        rest = [job for job in self._plans if job not in names]
        rows = [(job, [job], self._results.best(job), self.seconds_left(job)) for job in names]
        if rest:
            rows.append((f"{len(rest)} more", rest, None, None))
        left = [_left(seconds) for *_, seconds in rows]
        best = [words.score(score, self._plans[some[0]].metric) for _, some, score, _ in rows]
        if len(self._plans) > 1:
            rows.append(("all", list(self._plans), None, None))
            best, left = [*best, ""], [*left, _left(self.total_seconds_left())]
        trials = [[result for job in some for result in self._results.of(job)] for _, some, *_ in rows]
        columns = [Column(title="job", cells=[name for name, *_ in rows])]
        for state, rank in _STATES.items():
            counts = [sum(result.status == state for result in some) for some in trials]
            columns.append(Column(title=state, cells=[str(count or "-") for count in counts], right=True, rank=rank))
        columns += [Column(title="best", cells=best, right=True), Column(title="left", cells=left, right=True)]
        return FittingTable(columns, None if any(trials) else "Starting Ray and loading the checkpoint ...")

    def _foremost(self, most: int) -> list[str]:
        """The first of those that run, then did last, then wait; in the order of all."""

        def rank(job: str) -> tuple[bool, int]:
            runs = any(result.status == "running" for result in self._results.of(job))
            return not runs, -self._newest.get(job, 0)

        shown = set(sorted(self._plans, key=rank)[:most])
        return [job for job in self._plans if job in shown]

    def seconds_left(self, job: str) -> float | None:
        """Estimate, from the epochs measured so far, how long a job takes with as many trials as it runs."""
        work = self._work_left(job)
        running = sum(result.status == "running" for result in self._results.of(job))
        return None if work is None else work / max(min(running, self._slots), 1)  # those of a pack share a slot

    def total_seconds_left(self) -> float | None:
        """Estimate how long the sweep takes; None as long as a job has no epoch to go by."""
        work = [self._work_left(job) for job in self._plans]
        known = [seconds for seconds in work if seconds is not None]
        return sum(known) / self._slots if len(known) == len(work) else None

    def _work_left(self, job: str) -> float | None:
        """Seconds that the job's remaining epochs take one after another."""
        trials, plan = self._results.of(job), self._plans[job]
        if self._has_ended(job):
            return 0.0
        epochs = sum(len(result.curve) for result in trials)
        if not epochs:
            return None
        return max(plan.epochs - epochs, 0) * self._results.seconds(job) / epochs

    def _has_ended(self, job: str) -> bool:
        trials = self._results.of(job)
        return len(trials) >= self._plans[job].trials and all(result.is_over for result in trials)

    def _line(self, event: TrialEnded) -> str:
        trial, plan = event.trial, self._plans[event.trial.job]
        ended = sum(result.is_over for result in self._results.of(trial.job))
        if event.best_primary is None:
            outcome = event.reason
        else:
            outcome = f"{plan.metric} {words.score(event.best_primary, plan.metric)} (epoch {event.best_epoch})"
            outcome += f"  {event.reason}" if event.status == "failed" else ""
        settings, took = f"lr {words.rate(trial.settings.engine.learning_rate)}", words.duration(event.train_s)
        if trial.settings.method.shown_width is not None:
            settings += f" width {trial.settings.method.shown_width}"
        if trial.settings.method.shown_layers not in ("", "all"):
            settings += f" layers {trial.settings.method.shown_layers}"
        return f"{trial.job}  trial {ended}/{plan.trials}  {event.status}  {outcome}  {settings}  {took}"

    def _standing(self) -> str:
        """How far the sweep is: epochs, jobs of many that have ended, best scores that have changed, time left."""
        results = {job: self._results.of(job) for job in self._plans}
        epochs = sum(len(result.curve) for some in results.values() for result in some)
        parts = [f"{epochs} of {sum(plan.epochs for plan in self._plans.values())} epochs"]
        if len(self._plans) > _MOST_TOLD:
            ended = sum(map(self._has_ended, self._plans))
            parts.append(f"{ended} of {len(self._plans)} jobs ended")
        best = {job: score for job in self._plans if (score := self._results.best(job)) is not None}
        changed = [job for job, score in best.items() if self._told.get(job) != score]
        changed.sort(key=lambda job: -self._newest.get(job, 0))
        if changed:
            named = ", ".join(
                f"{job} {words.score(best[job], self._plans[job].metric)}" for job in changed[:_MOST_TOLD]
            )
            more = f" and {len(changed) - _MOST_TOLD} more" if len(changed) > _MOST_TOLD else ""
            parts.append(f"best: {named}{more}")
        self._told = best
        if (left := self.total_seconds_left()) is not None:
            parts.append(f"about {_left(left)} left")
        return "  ".join(parts)

    def _print(self, line: str) -> None:
        self._printed_s = self._clock()
        self._console.print(line, highlight=False, soft_wrap=True)


def _left(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.0f} s" if seconds < 59.5 else words.duration(seconds)

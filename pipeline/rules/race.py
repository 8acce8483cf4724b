"""The trials of all jobs of a search: which is next, which go on, what is told of them. Pure: it starts nothing.

Whatever runs the trials (`pipeline.cluster.experiment` on Ray, `pipeline.steps.here` in one process) drives a `Race`:

    suggest() ─► start() ─► take_in() ... take_in()
        ▲                       │ a pack whose trials do not all go on is over
        └───────────────────────┘ those that go on are suggested again

and tells the events that `take_events` yields. What is suggested is a pack: trials of one job that are trained
together, or one alone. When a job's trials have ended, the test of its winner is suggested as one more trial: it runs
where the checkpoint is resident already, while other jobs still train.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from pipeline.config import SearchConfig
from pipeline.core.engine.events import (
    JobTested,
    SweepEvent,
    TrialPaused,
    TrialReported,
    TrialStarted,
    TrialStatus,
)
from pipeline.core.engine.trials import Job
from pipeline.rules.halving import Action, Ruling
from pipeline.rules.lanes import Lane, Story
from pipeline.rules.search import proposer_of, search_of

TIME_IS_UP = "time budget"
"""Why a trial ended that the time budget cut off."""

Candidate = dict[str, Any]
"""One of a pack that an actor is to take up, plain so that it can travel: `job`, `index` and `params` of a trial,
`told` (epochs that are known of it) and `best` (its best score so far); of a test, which is alone, `bundle` instead of
the last two."""
Result = Mapping[str, Any]
"""What `pipeline.core.engine.trainer.Trainer` says of an epoch of a trial, or of its end."""


@dataclass(frozen=True, slots=True)
class Place:
    """A trial's job and its number in it."""

    job: str
    index: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a search ends with."""

    winners: Sequence[JobTested]
    """The tested winners, in the order of the jobs."""
    missing: Mapping[str, str]
    """Job without a tested winner -> why, as a clause that names it."""


def place_of(candidate: Mapping[str, Any]) -> Place:
    """Say which trial a candidate is, or is the test of."""
    return Place(candidate["job"], candidate["index"])


def score_of(result: Result) -> float | None:
    """Read the best score so far from a result; None if the trial failed or has no number to show."""
    score = result.get("score")
    return None if "failed" in result or score is None or not math.isfinite(score) else float(score)


@final
class Race:
    """Decides for all jobs of a search.

    With halving or without pruning, what comes out does not depend on the order in which trials report.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        search: SearchConfig,
        clock: Callable[[], float],
        most: Callable[[int], int] = lambda waiting: 1,
    ) -> None:
        """Begin a search that was checked already.

        Args:
            clock: Seconds since some moment, for the time budget.
            most: From how many trials of a job wait to how many may be trained together.
        """
        self._events: list[SweepEvent] = []
        self.stopped: str | None = None
        """Why no trial can go on, if that is so."""
        self._asynchronous = search.scheduler == "asha"
        self._budget_s, self._clock = search.time_budget_s or math.inf, clock
        self._started_s: float | None = None
        self._lanes = {}
        for job in jobs:
            own = search_of(search, job)
            self._lanes[job.name] = Lane(job, own, proposer_of(own, job.name, job.seed))
        self._most = most
        self._pruned: dict[Place, str] = {}
        self._alone: set[Place] = set()
        """Trials whose pack has died for good, perhaps of one of them."""

    def suggest(self) -> list[Candidate] | None:
        """Return what comes next: a test, or a pack of the job of which the fewest trials were handed out.

        None if there is nothing at the moment, and where `finished` is true as well, nothing any more.
        """
        over = self._time_is_up()
        for name, lane in self._lanes.items():
            if over:
                self._leave_out(name)
            else:
                lane.refill()
            winner = None if lane.num_ready else lane.winner()
            if winner is not None:
                lane.testing = True
                story = lane.stories[winner]
                return [{"job": name, "index": winner, "params": dict(story.trial.params), "bundle": story.bundle}]
        ready = {name: lane for name, lane in self._lanes.items() if lane.num_ready}
        if not ready:
            return None
        job = min(ready, key=lambda name: len(ready[name].stories) - ready[name].num_ready)
        alone = {place.index for place in self._alone if place.job == job}
        return [self.candidate(Place(job, index)) for index in ready[job].take_pack(self._most, alone)]

    @property
    def finished(self) -> bool:
        """Whether everything that was suggested has ended."""
        return not any(lane.out or lane.in_test for lane in self._lanes.values())

    def candidate(self, place: Place) -> Candidate:
        """Describe a trial to whichever actor takes it up, so that it says nothing twice."""
        story = self._story(place)
        taken = {"job": place.job, "index": place.index, "params": dict(story.trial.params)}
        return taken | {"told": story.epochs, "best": story.best}

    def start(self, place: Place) -> None:
        """Take in that a trial, or a test, has got a slot, for the first time or again."""
        self._started_s = self._clock() if self._started_s is None else self._started_s
        if not self._lanes[place.job].testing:
            self._events.append(TrialStarted(trial=self._story(place).trial))

    def take_in(self, pack: Sequence[Place], results: Mapping[int, Result]) -> list[Place]:
        """Take in an epoch of a pack, or its end.

        Args:
            results: Of each trial, by its number.

        Returns:
            Those of the pack that are to be trained on, together; none where the pack is over. It is over, too, where
            only some of those that have not ended by themselves may go on now: these are suggested again.
        """
        going_on, is_whole = [], True
        for place in pack:
            result = results[place.index]
            action = "end" if "done" in result else self._report(place, result)
            if action in ("end", "stop"):
                self.end(place, result)
            if action == "continue":
                going_on.append(place)
            elif action != "end":
                is_whole = False
        if is_whole:
            return going_on
        for place in going_on:
            self._lanes[place.job].waiting.append(place.index)
        return []

    def _report(self, place: Place, result: Result) -> Action:
        """Take in an epoch of a trial that has not ended by itself, and rule; after `stop` comes its end."""
        self._add(place, result)
        if self._time_is_up():
            self._pruned[place] = TIME_IS_UP
            return "stop"
        ruling = self._lanes[place.job].rule(place.index)
        if self._asynchronous and ruling.action == "stop" and result["went_on"]:
            return "continue"  # it was let pass before the sweep was resumed, and its adapter is a later one
        if ruling.action == "pause":
            self._lanes[place.job].paused.add(place.index)
            self._events.append(TrialPaused(trial=self._story(place).trial))
        self._note(place.job, ruling)
        return ruling.action

    def end(self, place: Place, result: Result | None = None) -> None:
        """Take in the end of a trial or a test, with its last result; None of a trial that was cut without a slot.

        While the winner of a job is tested, no other trial of it is out.
        """
        result, lane = result or {}, self._lanes[place.job]
        if "stop" in result:
            self.stopped = result["stop"]
        elif lane.testing:
            lane.tested, lane.untested = result.get("tested"), result.get("failed")
            self._events += [lane.tested] if lane.tested else []
        elif "failed" in result:
            self._fail(place, result["failed"])
        else:
            self._add(place, result)
            pruned = self._pruned.get(place)
            self._end(place, "pruned" if pruned else "done", pruned or result["reason"])

    def lose(self, pack: Sequence[Place], reason: str) -> None:
        """Take in that the process of a pack, or of a test, has died for good.

        Where there are several, one of them may have been the cause: each is suggested again, alone.
        """
        if len(pack) == 1:
            self._fail(pack[0], reason)
            return
        self._alone.update(pack)
        for place in pack:
            self._lanes[place.job].waiting.append(place.index)

    def _fail(self, place: Place, reason: str) -> None:
        lane = self._lanes[place.job]
        if lane.testing:
            lane.untested = reason
        else:
            self._end(place, "failed", reason)

    def cut(self, place: Place) -> bool:
        """Say whether a trial that was suggested, and has no slot, is to be ended: the time is up. No test is cut."""
        if self._lanes[place.job].testing or not self._time_is_up():
            return False
        self._pruned.setdefault(place, TIME_IS_UP)
        return True

    def close(self) -> None:
        """Take in that nothing will run any more: trials that time left no room for are told as pruned."""
        for name in self._lanes:
            self._leave_out(name)

    def take_events(self) -> Iterator[SweepEvent]:
        """Yield what is to be told, oldest first; nothing comes twice."""
        while self._events:
            yield self._events.pop(0)

    def outcome(self) -> Outcome:
        """Sum up at the end."""
        winners = [lane.tested for lane in self._lanes.values() if lane.tested]
        missing = {name: lane.why_untested() for name, lane in self._lanes.items() if not lane.tested}
        return Outcome(winners=winners, missing=missing)

    def _leave_out(self, job: str) -> None:
        """End the trials that time left no room for."""
        for index in self._lanes[job].clear():
            self._end(Place(job, index), "pruned", TIME_IS_UP)

    def _add(self, place: Place, result: Result) -> None:
        """Take in an epoch, once: the last result of a trial comes with its end too."""
        story = self._story(place)
        if "score" in result:
            story.score = score_of(result)
        if "report" in result and result["report"][0].epoch > story.epochs:
            evaluated, losses = result["report"]
            story.add(evaluated, result["score"], result["bundle"])
            self._events.append(TrialReported(trial=story.trial, evaluated=evaluated, losses=losses))

    def _end(self, place: Place, status: TrialStatus, reason: str) -> None:
        self._events.append(self._story(place).end(status, reason))
        self._note(place.job, self._lanes[place.job].close(place.index, status))

    def _time_is_up(self) -> bool:
        """Whether the budget is used up; its clock starts when the first trial runs."""
        return self._started_s is not None and self._clock() - self._started_s > self._budget_s

    def _note(self, job: str, ruling: Ruling) -> None:
        """Let those that wait at a rung go on, or end them; a trial that has just reported is told by the action."""
        lane = self._lanes[job]
        for index in ruling.promoted:
            if index in lane.paused:
                lane.paused.remove(index)
                lane.waiting.append(index)
        self._pruned |= {Place(job, index): why for index, why in ruling.pruned.items()}
        for index, why in ruling.pruned.items():
            if index in lane.paused:
                lane.paused.remove(index)
                self._end(Place(job, index), "pruned", why)

    def _story(self, place: Place) -> Story:
        return self._lanes[place.job].stories[place.index]

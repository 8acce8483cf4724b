"""The trials of all jobs of a search: which is next, which go on, what is told of them. Pure: it starts nothing.

Whatever runs the trials (`pipeline.cluster.experiment` on Ray, `pipeline.steps.here` in one process) drives a `Race`:

    suggest() ─► start() ─► report() ... report() ─► end()
                   ▲            │ "pause"
                   └────────────┘ once it may go on

and tells the events that `take_events` yields. When a job's trials have ended, the test of its winner is suggested as
one more trial: it runs where the checkpoint is resident already, while other jobs still train.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from pipeline.config import SearchConfig
from pipeline.core.engine.events import (
    Evaluated,
    JobTested,
    SweepEvent,
    TrialEnded,
    TrialPaused,
    TrialReported,
    TrialStarted,
    TrialStatus,
)
from pipeline.core.engine.trials import Job, Trial, trial_of
from pipeline.rules.halving import Action, Pruner, Ruling, Standing, pruner_of
from pipeline.rules.search import Proposer, proposer_of, search_of

TIME_IS_UP = "time budget"
"""Why a trial ended that the time budget cut off."""

Candidate = dict[str, Any]
"""What an actor is to take up, plain so that it can travel: `job`, `index` and `params` of a trial, `told` (epochs that
are known of it) and `best` (its best score so far); of a test, `bundle` instead of the last two."""
Result = Mapping[str, Any]
"""What `pipeline.core.engine.trainer.Trainer` says of an epoch, or of the end."""


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


def select(standings: Mapping[int, Standing]) -> int | None:
    """Choose the winner among a job's trials: the best score, among equals the lower loss, then the lower number.

    A trial that was pruned may win with the epochs that it had; one that failed has no score and may not.
    """
    scored = {index: standing.rank for index, standing in standings.items() if standing.score is not None}
    return min(scored, key=lambda index: (scored[index], index), default=None)


class Story:
    """What is known of one trial."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.score: float | None = None
        """The best so far; None if there is none, or the trial failed."""
        self.ended: TrialEnded | None = None
        self.epochs = 0
        self.best = -math.inf
        self.bundle: Path | None = None
        self._evaluated: Evaluated | None = None
        self._train_s = 0.0

    @property
    def standing(self) -> Standing:
        """How it stands, for what compares it with others; an epoch has as many steps as any other."""
        share = self.epochs / self.trial.settings.engine.epochs
        loss = self._evaluated.loss if self._evaluated else math.inf
        return Standing(epoch=self.epochs, share=share, score=self.score, loss=loss)

    def add(self, evaluated: Evaluated, score: float, bundle: Path | None) -> None:
        """Take in an epoch, with the best score so far."""
        self.epochs, self.best, self.bundle = evaluated.epoch, score, bundle
        self._train_s += evaluated.train_s
        if evaluated.best:
            self._evaluated = evaluated

    def end(self, status: TrialStatus, reason: str) -> TrialEnded:
        """Sum up."""
        self.ended = TrialEnded(
            trial=self.trial,
            status=status,
            reason=reason,
            epochs=self.epochs,
            best_epoch=self._evaluated.epoch if self._evaluated else 0,
            best_primary=self._evaluated.primary if self._evaluated else None,
            bundle=self.bundle,
            train_s=self._train_s,
        )
        return self.ended


@final
class Lane:
    """One job: its candidates, waiting to be handed out, out, and scored; at the end its winner's test."""

    def __init__(self, job: Job, search: SearchConfig, proposer: Proposer) -> None:
        self.stories: dict[int, Story] = {}
        """Of all trials that were proposed."""
        self.waiting: list[int] = []
        """Trials that were proposed but not handed out yet."""
        self.out: set[int] = set()
        """Trials that were handed out and have not ended."""
        self.testing = False
        """Whether the winner's test was handed out."""
        self.tested: JobTested | None = None
        self.untested: str | None = None
        """Why the test failed."""
        self._job, self._search, self._proposer = job, search, proposer
        self._cohort = range(0)
        self._pruners: dict[int, Pruner] = {}
        self._exhausted = False

    @property
    def in_test(self) -> bool:
        """Whether the winner is being tested."""
        return self.testing and self.tested is None and self.untested is None

    def refill(self) -> None:
        """Propose the next cohort, if every trial of the last one has ended."""
        if self._exhausted or self.waiting or self.out:
            return
        if self._cohort:
            self._proposer.learn([self.stories[index].score for index in self._cohort])
        proposed = self._proposer.propose() or []
        self._exhausted = not proposed
        self._cohort = range(self._cohort.stop, self._cohort.stop + len(proposed))
        if self._cohort:
            # ASHA ranks a trial against all that came before it, also those of other cohorts.
            first = self._pruners.get(0) if self._search.scheduler == "asha" else None
            pruner = first or pruner_of(self._search, self._cohort)
            for index, params in zip(self._cohort, proposed, strict=True):
                self.stories[index], self._pruners[index] = Story(trial_of(self._job, index, params)), pruner
        self.waiting = list(self._cohort)

    def winner(self) -> int | None:
        """Return the trial that is to be tested; None if it is not its time or there is none."""
        ended = {} if self.out or self.testing else self.stories
        return select({index: story.standing for index, story in ended.items()})

    def rule(self, index: int) -> Ruling:
        """Rule by the epoch that a trial has added."""
        return self._pruners[index].report(index, self.stories[index].standing)

    def close(self, index: int, status: TrialStatus) -> Ruling:
        """Take in that a trial has ended."""
        self.out.discard(index)
        story = self.stories[index]
        story.score = None if status == "failed" else story.score
        return Ruling(action="stop") if status == "pruned" else self._pruners[index].leave(index, story.standing)

    def why_untested(self) -> str:
        """Say why the job has no tested winner."""
        if self.untested is not None:
            return f"the winner of {self._job.name} could not be tested ({self.untested})"
        reasons = dict.fromkeys(story.ended.reason for story in self.stories.values() if story.ended)
        return f"{self._job.name} has no trial with a score ({', '.join(reasons)})"


@final
class Race:
    """Decides for all jobs of a search.

    With halving or without pruning, what comes out does not depend on the order in which trials report.
    """

    def __init__(self, jobs: Sequence[Job], search: SearchConfig, clock: Callable[[], float]) -> None:
        """Begin a search that was checked already; the clock, seconds since some moment, is for the time budget."""
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
        self._pruned: dict[Place, str] = {}
        self._released: set[Place] = set()

    def suggest(self) -> Candidate | None:
        """Return what comes next that has not run yet: a test, or a trial of the job that has had the fewest.

        None if there is nothing at the moment, and where `finished` is true as well, nothing any more.
        """
        over = self._time_is_up()
        for name, lane in self._lanes.items():
            if not over:
                lane.refill()
            winner = lane.winner() if over or not lane.waiting else None
            if winner is not None:
                lane.testing = True
                self._leave_out(lane)
                story = lane.stories[winner]
                return {"job": name, "index": winner, "params": dict(story.trial.params), "bundle": story.bundle}
        ready = {name: lane for name, lane in self._lanes.items() if lane.waiting and not over}
        if not ready:
            return None
        job = min(ready, key=lambda name: len(ready[name].stories) - len(ready[name].waiting))
        index = ready[job].waiting.pop(0)
        ready[job].out.add(index)
        return self.candidate(Place(job, index))

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

    def report(self, place: Place, result: Result) -> Action:
        """Take in an epoch of a trial that has not ended by itself, and rule.

        Returns:
            What the trial is to do. After `pause` it waits until `may_go_on` or `cut` is true of it; after `stop` its
            end is to be taken in.
        """
        self._add(place, result)
        if self._time_is_up():
            self._pruned[place] = TIME_IS_UP
            return "stop"
        ruling = self._lanes[place.job].rule(place.index)
        if self._asynchronous and ruling.action == "stop" and result["went_on"]:
            return "continue"  # it was let pass before the sweep was resumed, and its adapter is a later one
        self._note(place.job, ruling)
        if ruling.action == "pause":
            self._released.discard(place)
            self._events.append(TrialPaused(trial=self._story(place).trial))
        return ruling.action

    def end(self, place: Place, result: Result | None = None) -> None:
        """Take in the end of a trial or a test, with its last result; None of a trial that was cut while it waited.

        While the winner of a job is tested, no other trial of it is out.
        """
        result, lane = result or {}, self._lanes[place.job]
        if "stop" in result:
            self.stopped = result["stop"]
        elif lane.testing:
            lane.tested, lane.untested = result.get("tested"), result.get("failed")
            self._events += [lane.tested] if lane.tested else []
        elif "failed" in result:
            self.fail(place, result["failed"])
        else:
            self._add(place, result)
            pruned = self._pruned.get(place)
            self._end(place, "pruned" if pruned else "done", pruned or result["reason"])

    def fail(self, place: Place, reason: str) -> None:
        """Take in that a trial, or a test, has failed or died for good."""
        lane = self._lanes[place.job]
        if lane.testing:
            lane.untested = reason
        else:
            self._end(place, "failed", reason)

    def cut(self, place: Place) -> bool:
        """Say whether a trial that waits is to be ended: it was pruned, or the time is up. No test is cut."""
        if self._lanes[place.job].testing:
            return False
        if self._time_is_up():
            self._pruned.setdefault(place, TIME_IS_UP)
        return place in self._pruned

    def may_go_on(self, place: Place) -> bool:
        """Say whether a trial that waits at a rung is to be taken up again."""
        return place in self._released

    def release(self, place: Place) -> None:
        """Let a trial go on that was interrupted before it could report."""
        self._released.add(place)

    def close(self) -> None:
        """Take in that nothing will run any more: trials that time left no room for are told as pruned."""
        for lane in self._lanes.values():
            self._leave_out(lane)

    def take_events(self) -> Iterator[SweepEvent]:
        """Yield what is to be told, oldest first; nothing comes twice."""
        while self._events:
            yield self._events.pop(0)

    def outcome(self) -> Outcome:
        """Sum up at the end."""
        winners = [lane.tested for lane in self._lanes.values() if lane.tested]
        missing = {name: lane.why_untested() for name, lane in self._lanes.items() if not lane.tested}
        return Outcome(winners=winners, missing=missing)

    def _leave_out(self, lane: Lane) -> None:
        """Tell of the trials that time left no room for: none of a job that is tested will run any more."""
        self._events += [lane.stories[index].end("pruned", TIME_IS_UP) for index in lane.waiting]
        lane.waiting.clear()

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
        self._released |= {Place(job, index) for index in ruling.promoted}
        self._pruned |= {Place(job, index): why for index, why in ruling.pruned.items()}

    def _story(self, place: Place) -> Story:
        return self._lanes[place.job].stories[place.index]

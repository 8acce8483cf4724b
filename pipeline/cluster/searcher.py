"""Which trial Tune starts next: one proposer per job behind a single Tune searcher.

A trial travels through Tune as a small plain config; `place_of` says which trial of which job it is. When a
job's trials have ended, the test of its winner is one more trial of Tune's: it runs where the checkpoint is
resident already, while other jobs still train.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from ray.tune.experiment import Trial as TuneTrial
from ray.tune.search import Searcher

from pipeline.rules.search import Params, Proposer


@dataclass(frozen=True, slots=True)
class Place:
    """A trial's job and its number in it."""

    job: str
    index: int


def place_of(trial: TuneTrial) -> Place:
    """Say which trial of ours one of Tune's is."""
    return Place(trial.config["job"], trial.config["index"])


def is_test(trial: TuneTrial) -> bool:
    """Say whether one of Tune's trials is the test of a winner."""
    return "bundle" in trial.config


def score_of(result: Mapping[str, Any]) -> float | None:
    """Read the best score so far from what a trial reported; None if it failed or has no number to show."""
    score = result.get("score")
    return None if "failed" in result or score is None or not math.isfinite(score) else float(score)


def select(scores: Mapping[int, float | None]) -> int | None:
    """Choose the winner among a job's trials: the best score, the lower number among equals.

    A trial that was pruned may win with the epochs that it had; one that failed has no score and may not.
    """
    scored = {index: score for index, score in scores.items() if score is not None}
    return min(scored, key=lambda index: (-scored[index], index), default=None)


@final
class Lane:
    """One job's candidates: waiting to be handed out, out, and scored; at the end its winner's test."""

    def __init__(self, proposer: Proposer) -> None:
        self._proposer = proposer
        self._cohort = range(0)
        self._params: dict[int, Params] = {}
        self._scores: dict[int, float | None] = {}
        self._bundles: dict[int, Path] = {}
        self._exhausted = False
        self._tested = False
        self.waiting: list[int] = []
        """Trials that were proposed but not handed out yet."""
        self.out: set[int] = set()
        """Trials that were handed out and have not ended."""

    @property
    def handed_out(self) -> int:
        """How many trials were handed out so far."""
        return len(self._params) - len(self.waiting)

    def refill(self) -> None:
        """Propose the next cohort, if every trial of the last one has ended."""
        if self._exhausted or self.waiting or self.out:
            return
        if self._cohort:
            self._proposer.learn([self._scores[index] for index in self._cohort])
        proposed = self._proposer.propose() or []
        self._exhausted = not proposed
        self._cohort = range(self._cohort.stop, self._cohort.stop + len(proposed))
        self._params |= zip(self._cohort, proposed, strict=True)
        self.waiting = list(self._cohort)

    def hand_out(self) -> dict[str, Any]:
        """Return the next trial as a config for Tune."""
        index = self.waiting.pop(0)
        self.out.add(index)
        cohort = (self._cohort.start, self._cohort.stop)
        return {"index": index, "params": self.params(index), "cohort": cohort, "told": 0, "best": -math.inf}

    def test(self) -> dict[str, Any] | None:
        """Return the test of the winner as a config for Tune; None if it is not its time or there is none."""
        winner = select(self._scores)
        if self.out or self._tested or winner is None:
            return None
        self._tested = True
        return {"index": winner, "params": self.params(winner), "bundle": self._bundles[winner]}

    def params(self, index: int) -> Params:
        """Return a trial's parameters."""
        return dict(self._params[index])

    def report(self, index: int, result: Mapping[str, Any]) -> None:
        """Take in what a trial said of an epoch, or of its end."""
        self._scores[index] = score_of(result)
        if result.get("bundle") is not None:
            self._bundles[index] = result["bundle"]

    def close(self, index: int, *, failed: bool) -> None:
        """Take in that a trial has ended; if it neither failed nor said anything, it has no score."""
        self.out.discard(index)
        if failed or index not in self._scores:
            self._scores[index] = None


@final
class Candidates(Searcher):  # type: ignore[misc]
    """Hands out the trials of all jobs in turn, so that all of them get on; a job's next cohort waits for its
    last.

    It counts as finished only when everything has ended: until then Tune keeps idle actors for paused trials.
    """

    def __init__(self, proposers: Mapping[str, Proposer], *, over: Callable[[], bool]) -> None:
        super().__init__()
        self._lanes = {job: Lane(proposer) for job, proposer in proposers.items()}
        self._over = over
        self._places: dict[str, Place] = {}
        """Tune's id -> trial, for those that are out."""
        self._tests: set[str] = set()
        """Tune's ids of the tests that are out."""

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the config of what comes next, None if there is nothing at the moment, or `FINISHED`."""
        over = self._over()
        for job, lane in self._lanes.items():
            if not over:
                lane.refill()
            test = lane.test() if over or not lane.waiting else None
            if test is not None:
                self._tests.add(trial_id)
                return {"job": job, **test}
        ready = {job: lane for job, lane in self._lanes.items() if lane.waiting and not over}
        if not ready:
            return None if self._places or self._tests else str(Searcher.FINISHED)
        job = min(ready, key=lambda name: ready[name].handed_out)
        config = {"job": job, **ready[job].hand_out()}
        self._places[trial_id] = Place(job, config["index"])
        return config

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Take in an epoch of a trial that goes on."""
        if trial_id in self._places:
            place = self._places[trial_id]
            self._lanes[place.job].report(place.index, result)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Take in the end of a trial; `result` is missing if it waited at a rung."""
        self._tests.discard(trial_id)
        if trial_id in self._places:
            place = self._places.pop(trial_id)
            if result is not None:
                self._lanes[place.job].report(place.index, result)
            self._lanes[place.job].close(place.index, failed=error)

    def never_started(self) -> list[tuple[Place, Params]]:
        """List the proposed trials that Tune was never given, for want of time."""
        lanes = self._lanes.items()
        return [(Place(job, index), lane.params(index)) for job, lane in lanes for index in lane.waiting]

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: a resumed sweep proposes anew from its seed."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: a resumed sweep proposes anew from its seed."""

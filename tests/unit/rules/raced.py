"""Races whose trials are played: a runner of packs, and jobs with cohorts of given sizes."""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Range, SearchConfig
from pipeline.core.engine.events import SweepEvent, TrialEnded
from pipeline.rules.race import Place, Race, place_of
from pipeline.rules.search import Params
from tests.played import evaluated, played_job

EPOCHS = 4
SEARCH = SearchConfig(trials=6, reduction=2, space={"method.dropout": Range(uniform=[0.0, 0.9])})

Step = Callable[[Mapping[str, Any], int], dict[str, Any]]
"""A candidate and an epoch -> what the actor would report."""


def step(candidate: Mapping[str, Any], epoch: int) -> dict[str, Any]:
    """The dropout is the score from the first epoch on."""
    return epoch_of(epoch, candidate["params"]["method.dropout"])


def epoch_of(epoch: int, score: float, *, best: bool = True, **given: Any) -> dict[str, Any]:
    """What a trainer says of an epoch."""
    report = evaluated(epoch, score, best=best), ()
    result = {"epoch": epoch, "score": score, "went_on": False, "report": report, "bundle": Path(f"bundle-{epoch}")}
    return result | ({"done": True, "reason": "all epochs done"} if epoch == EPOCHS else {}) | given


class Runner:
    """Gives the packs of a race slots, and lets them report in an order that a generator draws."""

    def __init__(self, race: Race, *, step: Step, slots: int, seed: int) -> None:
        self.race, self.step, self.slots, self.random = race, step, slots, random.Random(seed)
        self.running: list[list[dict[str, Any]]] = []
        self.packs: list[list[Place]] = []
        """All that were handed out."""
        self.tested: list[Place] = []
        self.seen: dict[Place, Params] = {}
        self.most_running = 0

    def run(self) -> dict[Place, tuple[int, str]]:
        """Return how many epochs each trial had, and why it ended early."""
        while self._fill():
            self.most_running = max(self.most_running, len(self.running))
            self._advance(self.running.pop(self.random.randrange(len(self.running))))
        assert self.race.finished
        self.race.close()
        ended = [event for event in self.race.take_events() if isinstance(event, TrialEnded)]
        assert max(Counter(end.trial.key for end in ended).values()) == 1
        return {
            Place(end.trial.job, end.trial.index): (end.epochs, end.reason if end.status == "pruned" else "")
            for end in ended
        }

    def _fill(self) -> bool:
        """Give out the free slots; False if nothing runs then."""
        while len(self.running) < self.slots:
            pack = self.race.suggest()
            if pack is None:
                break
            self.packs.append([place_of(candidate) for candidate in pack])
            for candidate in pack:
                self.seen[place_of(candidate)] = candidate["params"]
                self.race.start(place_of(candidate))
            self.running.append(pack)
        return bool(self.running)

    def _advance(self, pack: list[dict[str, Any]]) -> None:
        places = [place_of(candidate) for candidate in pack]
        if "bundle" in pack[0]:
            self.tested += places
            results = {place.index: {"failed": "no test here", "done": True} for place in places}
        else:
            results = {candidate["index"]: self.step(candidate, candidate["told"] + 1) for candidate in pack}
        if going_on := self.race.take_in(places, results):
            self.running.append([self.race.candidate(place) for place in going_on])


def runner(
    *, jobs: str = "ab", slots: int = 2, seed: int = 0, step: Step = step, search: SearchConfig = SEARCH, most: int = 1
) -> Runner:
    race = Race([played_job(name) for name in jobs], search, lambda: 0.0, lambda waiting: most)
    return Runner(race, step=step, slots=slots, seed=seed)


class Listed:
    """Proposes the cohorts that it is given, and keeps what it learns."""

    def __init__(self, cohorts: Sequence[int]) -> None:
        self.cohorts = list(cohorts)
        self.learnt: list[list[float | None]] = []

    def propose(self) -> list[Params] | None:
        return [{} for _ in range(self.cohorts.pop(0))] if self.cohorts else None

    def learn(self, scores: Sequence[float | None]) -> None:
        self.learnt.append(list(scores))


def listed(monkeypatch: pytest.MonkeyPatch, jobs: str, *cohorts: int, most: int = 1) -> tuple[Race, list[Listed]]:
    """A race without pruning whose jobs have cohorts of these sizes."""
    made: list[Listed] = []

    def proposer_of(search: SearchConfig, job: str, seed: int) -> Listed:
        made.append(Listed(cohorts))
        return made[-1]

    monkeypatch.setattr("pipeline.rules.race.proposer_of", proposer_of)
    search = SearchConfig(scheduler="none")
    return Race([played_job(name) for name in jobs], search, lambda: 0.0, lambda waiting: most), made


def next_place(race: Race) -> Place:
    (candidate,) = race.suggest() or []
    return place_of(candidate)


def report(race: Race, place: Place, result: dict[str, Any]) -> list[Place]:
    """Take in what a trial says that is trained alone."""
    return race.take_in([place], {place.index: result})


def told(race: Race) -> list[SweepEvent]:
    return list(race.take_events())

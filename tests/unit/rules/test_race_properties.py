"""Searches that hypothesis makes up: any order of arrival, cut off anywhere, processes that die, trials that fail."""

import dataclasses
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import Range, SearchConfig
from pipeline.core.engine.events import TrialEnded, TrialReported
from pipeline.rules.race import Candidate, Place, Race, place_of
from pipeline.rules.search import Params, num_trials, plan_of
from tests.played import evaluated, played_job

JOBS, TRIALS, EPOCHS = "ab", 5, 4


@dataclass(frozen=True, kw_only=True)
class Fate:
    """What becomes of a trial whenever it is trained."""

    scores: Sequence[float]
    """Of its epochs. There are few, so that there are ties, and some are no numbers."""
    losses: Sequence[float]
    """Of its epochs, few too."""
    fails: int | None
    """The epoch in which it fails."""
    dies: bool
    """Whether that is because its process dies for good."""
    stops: int | None
    """The epoch after which it stops early."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """In which order things happen."""

    seed: int
    slots: int
    most: int
    """From which it comes how many trials a pack may have."""
    steps: Sequence[int]
    """Each is the number of steps after which the search is cut off, to be resumed."""
    trouble: float
    """How often a process dies that is given a trial, or has one."""


@dataclass
class World:
    """What outlives an interruption, and what has been done altogether."""

    fates: Mapping[Place, Fate]
    kept: Counter[Place] = field(default_factory=Counter)
    """Epochs in the folder of a trial: what was trained."""
    params: dict[Place, Params] = field(default_factory=dict)
    tested: dict[str, Place] = field(default_factory=dict)


class Cut(Exception):
    """The command is interrupted."""


class Life:
    """One command: gives slots, trains, and watches that the race asks for nothing that it may not."""

    def __init__(self, world: World, search: SearchConfig, course: Course, seed: int, steps: float) -> None:
        self.world, self.search, self.slots, self.trouble = world, search, course.slots, course.trouble
        self.random, self.steps = random.Random(seed), steps
        self.clock = SimpleNamespace(now=0.0)
        self.most = 1 + (course.most + seed) % TRIALS  # another in each life
        jobs = [played_job(name, epochs=EPOCHS) for name in JOBS]
        self.race = Race(jobs, search, lambda: self.clock.now, lambda waiting: self.most)
        self.running: list[tuple[Sequence[Candidate], Mapping[Place, int]]] = []
        """Packs, with the epochs that the folders had when they were taken up."""
        self.begun: set[Place] = set()
        self.over: set[Place] = set()
        self.tested: dict[str, Place] = {}
        self.late: Counter[Place] = Counter()
        """Epochs after the time was up."""
        self.events: list[Any] = []

    def run(self) -> dict[str, TrialEnded]:
        """Run to the end; return how each trial ended."""
        while self._fill():
            self.events += self.race.take_events()
            if self.steps <= 0:
                raise Cut
            self.steps -= 1
            self._step(*self.running.pop(self.random.randrange(len(self.running))))
        assert self.race.finished
        self.race.close()
        self.events += self.race.take_events()
        ended = [one for one in self.events if isinstance(one, TrialEnded)]
        reports = [(one.trial.key, one.evaluated.epoch) for one in self.events if isinstance(one, TrialReported)]
        assert len({one.trial.key for one in ended}) == len(ended), "a trial has ended twice"
        assert len({*reports}) == len(reports), "an epoch was told twice"
        counted = Counter(key for key, _ in reports)
        assert all(one.epochs == counted[one.trial.key] for one in ended)
        return {one.trial.key: one for one in ended}

    @property
    def is_late(self) -> bool:
        return bool(self.clock.now > (self.search.time_budget_s or math.inf))

    def _fill(self) -> bool:
        while len(self.running) < self.slots and (pack := self.race.suggest()) is not None:
            self._check(pack)
            self._take_up(pack)
        return bool(self.running)

    def _check(self, pack: Sequence[Candidate]) -> None:
        """Look at what is suggested: trials that are not out, and the test when all trials of the job have ended."""
        assert 0 < len(pack) <= max(self.most, 1)
        for candidate in pack:
            place = place_of(candidate)
            assert place.job not in self.tested
            if "bundle" in candidate:
                begun = {one for one in self.begun if one.job == place.job}
                assert place in begun <= self.over, "a test row before the end"
                self.tested[place.job] = place
                self.world.tested.setdefault(place.job, place)
                continue
            assert place not in self.over and not self.is_late
            assert place not in {place_of(one) for running, _ in self.running for one in running}
            assert self.world.params.setdefault(place, candidate["params"]) == candidate["params"]
            self.begun.add(place)
        assert len({candidate["told"] for candidate in pack if "told" in candidate}) <= 1

    def _take_up(self, pack: Sequence[Candidate]) -> None:
        places = [place_of(candidate) for candidate in pack]
        for place in places:
            self.race.start(place)
        self.running.append((pack, {place: self.world.kept[place] for place in places}))

    def _step(self, pack: Sequence[Candidate], known: Mapping[Place, int]) -> None:
        places, is_test = [place_of(candidate) for candidate in pack], "bundle" in pack[0]
        died = self.random.random() < self.trouble
        if died and self.random.random() < 0.5:  # before it could report, with its work kept or not
            if not is_test and self.random.random() < 0.5:
                for place, candidate in zip(places, pack, strict=True):
                    self._result(place, candidate, known[place])
            self._take_up(pack)
            return
        if is_test:
            self.race.take_in(places, {places[0].index: {"failed": "no test here", "done": True}})
            return
        late = self.is_late
        results = {place: self._result(place, one, known[place]) for place, one in zip(places, pack, strict=True)}
        self.clock.now += 1
        for place in places:
            self.late[place] += late
            assert self.late[place] <= 1
        if any("died" in result for result in results.values()):  # and all that was trained with it
            if len(places) == 1:
                self.over.update(places)
            self.race.lose(places, "its process ended 3 times")
            return
        going_on = self.race.take_in(places, {place.index: result for place, result in results.items()})
        self.over |= {place for place in self.begun if self.race._story(place).ended is not None}
        assert not set(going_on) & self.over
        if going_on and died:
            self._take_up([self.race.candidate(place) for place in going_on])
        elif going_on:
            self.running.append(([self.race.candidate(place) for place in going_on], known))

    def _result(self, place: Place, candidate: Candidate, known: int) -> dict[str, Any]:
        """The next epoch of a trial, out of its folder if that has it."""
        fate, epoch = self.world.fates[place], candidate["told"] + 1
        assert place not in self.over
        if epoch - 1 in (fate.stops, EPOCHS):
            return {"score": candidate["best"], "done": True, "reason": "early stopping"}
        if epoch > self.world.kept[place]:
            if epoch == fate.fails:
                return {"died": True} if fate.dies else {"failed": "the loss is not a number", "done": True}
            assert epoch == self.world.kept[place] + 1 <= EPOCHS
            # A resumed search may go on after a test in an earlier life: it has its time anew, and ASHA another order.
            is_repeated = self.search.scheduler != "asha" and not self.search.time_budget_s
            assert place.job not in (self.world.tested if is_repeated else self.tested)
            self.world.kept[place] = epoch
        score, loss = fate.scores[epoch - 1], fate.losses[epoch - 1]
        before = [(-fate.scores[i], fate.losses[i]) for i in range(epoch - 1) if math.isfinite(fate.scores[i])]
        best = math.isfinite(score) and (-score, loss) < min(before, default=(math.inf, math.inf))
        report = dataclasses.replace(evaluated(epoch, score, best=best), loss=loss), ()
        result = {"epoch": epoch, "score": max(candidate["best"], score), "report": report, "bundle": Path(f"{epoch}")}
        result["went_on"] = epoch < known
        return result | ({"done": True, "reason": "all epochs done"} if epoch == EPOCHS else {})


scores = st.sampled_from([0.1, 0.2, 0.3, math.nan, -math.inf])
epochs = st.integers(1, EPOCHS)
fates = st.builds(
    Fate,
    scores=st.lists(scores, min_size=EPOCHS, max_size=EPOCHS),
    losses=st.lists(st.sampled_from([0.5, 1.0, math.inf]), min_size=EPOCHS, max_size=EPOCHS),
    fails=st.none() | epochs,
    dies=st.booleans(),
    stops=st.none() | epochs,
)
worlds = st.lists(fates, min_size=len(JOBS) * TRIALS, max_size=len(JOBS) * TRIALS)
courses = st.builds(
    Course,
    seed=st.integers(0, 2**16),
    slots=st.integers(1, 4),
    most=st.integers(0, TRIALS - 1),
    steps=st.lists(st.integers(0, 20), max_size=2),
    trouble=st.sampled_from([0.0, 0.0, 0.2, 0.5]),
)
searches = st.builds(
    SearchConfig,
    algorithm=st.sampled_from(["random", "grid", "random", "optuna"]),
    trials=st.integers(1, TRIALS),
    grid_points=st.integers(1, TRIALS),
    cohort=st.integers(1, 3),
    reduction=st.integers(2, 3),
    first_rung=st.sampled_from([0.1, 0.2, 0.25, 0.4, 0.5, 0.7, 0.9]),
    space=st.just({"method.dropout": Range(uniform=[0.0, 0.9])}),
)
made_up = settings(max_examples=60, derandomize=True, database=None, deadline=None)


def world_of(given: Sequence[Fate]) -> World:
    places = [Place(job, index) for job in JOBS for index in range(TRIALS)]
    return World(fates=dict(zip(places, given, strict=True)))


def lived(given: Sequence[Fate], search: SearchConfig, course: Course) -> tuple[World, Life, dict[str, TrialEnded]]:
    """Run a search through all its interruptions; return the last life, and how the trials ended in it."""
    world = world_of(given)
    for number, steps in enumerate([*course.steps, math.inf]):
        life = Life(world, search, course, seed=course.seed + number, steps=steps)
        try:
            ended = life.run()
        except Cut:
            continue
        for job in JOBS:
            count, trained = num_trials(search), sum(world.kept[place] for place in world.kept if place.job == job)
            found = sum(end.trial.job == job for end in ended.values())
            assert found == count or (found < count and search.time_budget_s)  # cohorts that are not proposed any more
            most = count * EPOCHS if search.scheduler == "asha" else plan_of(search, EPOCHS).epochs
            assert trained <= most
        return world, life, ended
    raise AssertionError("the last life is not cut off")


UNDISTURBED = Course(seed=0, slots=1, most=0, steps=(), trouble=0.0)  # each trial alone


@made_up
@given(worlds, searches, st.sampled_from(["halving", "none"]), courses)
def test_neither_arrival_nor_interruption_nor_failure_changes_what_a_search_ends_with(
    given: Sequence[Fate], search: SearchConfig, scheduler: Any, course: Course
) -> None:
    search = dataclasses.replace(search, scheduler=scheduler)
    world, life, ended = lived(given, search, course)
    its_world, its_life, its_ended = lived(given, search, UNDISTURBED)
    assert ended == its_ended
    assert life.tested == world.tested == its_life.tested
    assert (world.kept, world.params) == (its_world.kept, its_world.params)


@made_up
@given(worlds, searches, st.sampled_from(["halving", "asha", "none"]), courses, st.none() | st.integers(1, 12))
def test_no_trial_is_counted_twice_and_no_budget_exceeded(
    given: Sequence[Fate], search: SearchConfig, scheduler: Any, course: Course, budget_s: float | None
) -> None:
    lived(given, dataclasses.replace(search, scheduler=scheduler, time_budget_s=budget_s), course)

"""How long a search will take, by playing it: the same race as in earnest, with epochs that last what was measured."""

import heapq
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.config import SearchConfig
from pipeline.core.engine.trials import Job
from pipeline.rules.race import Candidate, Place, Race, place_of

_SCORE = 0.5  # of every trial: which of them go on changes no time, only how many


@dataclass(frozen=True, kw_only=True, slots=True)
class Lasting:
    """What one job takes on one slot, in seconds."""

    epoch_s: float
    """Training and validation."""
    test_s: float


def forecast(jobs: Sequence[Job], search: SearchConfig, slots: int, lasting: Mapping[str, Lasting]) -> float:
    """Say how many seconds a search takes, from the first step to the end of the last test.

    Slots that stand empty, since the trials of a rung wait for one another, count; early stopping is not foreseen.

    Args:
        jobs, search: As the race has them; a job may have a space of its own.
        slots: Trials that run side by side.
        lasting: By the name of a job.
    """
    now, number = 0.0, itertools.count()
    race = Race(jobs, search, lambda: now)
    epochs = {job.name: job.settings.engine.epochs for job in jobs}
    done: dict[Place, int] = {}
    paused: list[Place] = []
    running: list[tuple[float, int, Candidate]] = []
    """When the present epoch or test ends, a number that breaks ties, and what ends then."""

    def run(candidate: Candidate) -> None:
        lasts = lasting[candidate["job"]]
        takes = lasts.test_s if "bundle" in candidate else lasts.epoch_s
        heapq.heappush(running, (now + takes, next(number), candidate))

    while True:
        while len(running) < slots and (candidate := _next(race, paused)) is not None:
            race.start(place_of(candidate))
            run(candidate)
        for _ in race.take_events():
            pass
        if not running:
            return now
        now, _, candidate = heapq.heappop(running)
        place = place_of(candidate)
        if "bundle" in candidate:
            race.end(place, {"failed": "it is played"})
            continue
        done[place] = done.get(place, 0) + 1
        result = {"epoch": done[place], "score": _SCORE, "went_on": False}
        is_last = done[place] == epochs[place.job]
        action = "stop" if is_last else race.report(place, result)
        if action == "pause":
            paused.append(place)
        elif action == "stop":
            race.end(place, result | {"reason": "all epochs done"})
        else:
            run(candidate)


def _next(race: Race, paused: list[Place]) -> Candidate | None:
    """What takes a slot that is free: what has not run yet comes before what waits at a rung."""
    for place in [place for place in paused if race.cut(place)]:
        paused.remove(place)
        race.end(place, {"reason": "pruned"})
    if (candidate := race.suggest()) is not None:
        return candidate
    for place in paused:
        if race.may_go_on(place):
            paused.remove(place)
            return race.candidate(place)
    return None

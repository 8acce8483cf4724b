"""How long a search will take, by playing it: the same race as in earnest, with epochs that last what was measured."""

import dataclasses
import heapq
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.config import SearchConfig
from pipeline.core.engine.events import Evaluated
from pipeline.core.engine.trials import Job
from pipeline.rules.race import Candidate, Race, Result, place_of

_SCORE = 0.5  # of every trial: which of them go on changes no time, only how many


@dataclass(frozen=True, kw_only=True, slots=True)
class Lasting:
    """What one job takes on one slot, in seconds."""

    epoch_s: float
    """Training and validation."""
    test_s: float
    once_s: float = 0.0
    """What the job's first trial takes on top: of frozen layers that is kept which all trials need."""


def forecast(jobs: Sequence[Job], search: SearchConfig, slots: int, lasting: Mapping[str, Lasting]) -> float:
    """Say how many seconds a search takes, from the first step to the end of the last test.

    Trials are played one by one, also where they are to be trained in packs. Slots that stand empty, since the trials
    of a rung wait for one another, count; early stopping is not foreseen.

    Args:
        jobs, search: As the race has them; a job may have a space of its own.
        slots: Trials that run side by side.
        lasting: By the name of a job.
    """
    now, number = 0.0, itertools.count()
    if search.scheduler == "asha":  # which prunes none of equals; halving prunes about as many
        search = dataclasses.replace(search, scheduler="halving")
    race = Race(jobs, search, lambda: now)
    epochs = {job.name: job.settings.engine.epochs for job in jobs}
    begun: set[str] = set()
    running: list[tuple[float, int, Candidate]] = []
    """When the present epoch or test ends, a number that breaks ties, and what ends then."""

    def run(candidate: Candidate) -> None:
        lasts = lasting[candidate["job"]]
        takes = lasts.test_s if "bundle" in candidate else lasts.epoch_s
        if candidate["job"] not in begun:
            begun.add(candidate["job"])
            takes += lasts.once_s
        heapq.heappush(running, (now + takes, next(number), candidate))

    while True:
        while len(running) < slots and (pack := race.suggest()) is not None:
            (candidate,) = pack
            race.start(place_of(candidate))
            run(candidate)
        for _ in race.take_events():
            pass
        if not running:
            return now
        now, _, candidate = heapq.heappop(running)
        place = place_of(candidate)
        for going_on in race.take_in([place], {place.index: _result(candidate, _epochs(candidate, epochs[place.job]))}):
            run(race.candidate(going_on))


def _epochs(candidate: Candidate, epochs: int) -> int:
    """Of the trial itself, where they are searched."""
    return round(float(candidate["params"].get("engine.epochs", epochs)))


def _result(candidate: Candidate, epochs: int) -> Result:
    """What is said of a test, or of the next epoch of a trial."""
    if "bundle" in candidate:
        return {"failed": "it is played", "done": True}
    epoch = candidate["told"] + 1
    report = Evaluated(
        epoch=epoch,
        step=epoch,
        primary=_SCORE,
        metrics={},
        best=epoch == 1,
        train_loss=0.0,
        train_s=0.0,
        eval_s=0.0,
        rows_per_s=0.0,
        peak_bytes=0,
    )
    result = {"score": _SCORE, "went_on": False, "report": (report, ()), "bundle": None}
    return result | ({"done": True, "reason": "all epochs done"} if epoch == epochs else {})

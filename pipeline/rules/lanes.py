"""One job of a race: its trials, waiting to be handed out, out, and scored; at the end its winner's test. Pure."""

import math
from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import final

from pipeline.config import SearchConfig
from pipeline.core.engine.events import Evaluated, JobTested, TrialEnded, TrialStatus
from pipeline.core.engine.trials import Job, Trial, trial_of
from pipeline.rules.halving import Pruner, Ruling, Standing, pruner_of
from pipeline.rules.packs import key_of, packs_of
from pipeline.rules.search import Proposer


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
        """Trials that were proposed, or may go on, and are in no pack."""
        self.packs: list[list[int]] = []
        """Trials that are to be trained together, and were not handed out."""
        self.paused: set[int] = set()
        """Trials that wait at their rung for others."""
        self.out: set[int] = set()
        """Trials that were handed out once and have not ended."""
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
        if self._exhausted or self.num_ready or self.out:
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

    @property
    def num_ready(self) -> int:
        """How many trials can be handed out."""
        return len(self.waiting) + sum(map(len, self.packs))

    def take_pack(self, most: Callable[[int], int], alone: Set[int]) -> list[int]:
        """Hand out trials that are to be trained together, of which there are some.

        Args:
            most: From how many wait to how many a pack may have.
            alone: Trials that are to be in no pack with others.
        """
        if self.waiting:
            trials = [self.stories[index].trial for index in sorted(self.waiting)]
            keys = [
                (one.index,) if one.index in alone else key_of(self._job, one, self.stories[one.index].epochs)
                for one in trials
            ]
            packs = packs_of(trials, keys, max(most(len(trials)), 1))
            self.packs += [[trial.index for trial in pack] for pack in packs]
            self.waiting = []
        pack = self.packs.pop(0)
        self.out.update(pack)
        return pack

    def clear(self) -> list[int]:
        """Take out and return the trials that do not run at the moment."""
        idle = sorted({*self.paused, *self.waiting, *(index for pack in self.packs for index in pack)})
        self.paused, self.waiting, self.packs = set(), [], []
        return idle

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

"""From Tune's callbacks to the events of a sweep."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, final

from ray import tune
from ray.tune.experiment import Trial as TuneTrial

from pipeline.cluster.searcher import Place, is_test, place_of
from pipeline.core.engine.events import (
    Evaluated,
    JobTested,
    Sink,
    SweepEvent,
    TrialEnded,
    TrialPaused,
    TrialReported,
    TrialStarted,
    TrialStatus,
)
from pipeline.core.engine.trials import Trial
from pipeline.errors import SweepError


@final
class Narrator(tune.Callback):  # type: ignore[misc]
    """Tells the sink what happens to the trials, between two of Tune's steps.

    Inside a step Tune takes an exception for the failure of a trial, and an interrupt would cut a sink in
    two.
    """

    def __init__(
        self, trials: Callable[[Place, Mapping[str, Any]], Trial], sink: Sink, pruned: Mapping[Place, str]
    ) -> None:
        self._trials, self._sink, self._pruned = trials, sink, pruned
        self._queue: list[SweepEvent] = []
        self._stories: dict[Place, Story] = {}
        self.interrupted = False
        """Set by the signal handler; the experiment ends before its next step."""
        self._stopped: str | None = None
        """Why no trial can go on."""
        self.tested: dict[str, JobTested] = {}
        self._failed_tests: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave everything out: Tune pickles callbacks into a file that nobody reads, and sinks hold threads."""
        return {}

    def tell(self) -> None:
        """Tell what is queued."""
        while self._queue:
            self._sink(self._queue.pop(0))

    def never_started(self, place: Place, params: Mapping[str, Any], why: str) -> None:
        """Note a trial that Tune was never given."""
        self._stories[place] = Story(self._trials(place, params))
        self._end(self._stories[place], "pruned", why)

    def why_untested(self, job: str) -> str:
        """Say why a job has no tested winner."""
        if job in self._failed_tests:
            return f"the winner of {job} could not be tested ({self._failed_tests[job]})"
        stories = [story for place, story in self._stories.items() if place.job == job]
        reasons = dict.fromkeys(story.ended.reason for story in stories if story.ended)
        return f"{job} has no trial with a score ({', '.join(reasons)})"

    def on_step_begin(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.tell()
        if self._stopped is not None:
            raise SweepError(self._stopped)

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        if not is_test(trial):
            self._queue.append(TrialStarted(trial=self._story(trial).trial))

    def on_trial_result(
        self,
        iteration: int,
        trials: list[TuneTrial],
        trial: TuneTrial,
        result: Mapping[str, Any],
        **info: Any,
    ) -> None:
        story = self._story(trial)
        if "tested" in result:
            self.tested[story.trial.job] = result["tested"]
            self._queue.append(result["tested"])
        if "report" in result:
            evaluated, losses = result["report"]
            story.add(evaluated, result["bundle"])
            self._queue.append(TrialReported(trial=story.trial, evaluated=evaluated, losses=losses))
        if trial.status == TuneTrial.PAUSED:
            self._queue.append(TrialPaused(trial=story.trial))

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        result = trial.last_result or {}
        if "stop" in result:
            self._stopped = result["stop"]
        elif is_test(trial):
            if "failed" in result:
                self._failed_tests[trial.config["job"]] = result["failed"]
        elif "failed" in result:
            self._end(self._story(trial), "failed", result["failed"])
        elif place_of(trial) in self._pruned:
            self._end(self._story(trial), "pruned", self._pruned[place_of(trial)])
        else:
            self._end(self._story(trial), "done", result["reason"])

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        reason = _death(trial)
        if is_test(trial):
            self._failed_tests[trial.config["job"]] = reason
        else:
            self._end(self._story(trial), "failed", reason)

    def _story(self, trial: TuneTrial) -> "Story":
        place = place_of(trial)
        if place not in self._stories:
            self._stories[place] = Story(self._trials(place, trial.config["params"]))
        return self._stories[place]

    def _end(self, story: "Story", status: TrialStatus, reason: str) -> None:
        story.ended = story.end(status, reason)
        self._queue.append(story.ended)


class Story:
    """What is known of one trial."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.ended: TrialEnded | None = None
        self._best: Evaluated | None = None
        self._bundle: Path | None = None
        self._epochs = 0
        self._train_s = 0.0

    def add(self, evaluated: Evaluated, bundle: Path | None) -> None:
        """Take in an epoch."""
        self._epochs, self._bundle = evaluated.epoch, bundle
        self._train_s += evaluated.train_s
        if evaluated.best:
            self._best = evaluated

    def end(self, status: TrialStatus, reason: str) -> TrialEnded:
        """Sum up."""
        return TrialEnded(
            trial=self.trial,
            status=status,
            reason=reason,
            epochs=self._epochs,
            best_epoch=self._best.epoch if self._best else 0,
            best_primary=self._best.primary if self._best else None,
            bundle=self._bundle,
            train_s=self._train_s,
        )


def _death(trial: TuneTrial) -> str:
    """Say why the last process of a trial ended."""
    times = f"its process ended {trial.run_metadata.num_failures} times"
    lines = Path(trial.error_file).read_text(errors="replace").split("\n") if trial.error_file else []
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    if "worker process has died" in last:
        return f"{times}: killed, perhaps for want of memory, or crashed"
    return f"{times}: {last[:200]}" if last else times

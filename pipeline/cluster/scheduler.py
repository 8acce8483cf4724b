"""Which of Tune's trials runs, waits or stops: what the race rules, as a Tune scheduler.

Tune's interface for schedulers has no public way to keep idle actors, to see that an actor died between two trials, or
to give everything back after an interrupt: `_keep_actors`, `_spare` and `abandon` reach into its controller.
"""

from collections.abc import Mapping
from typing import Any, final

from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import TrialScheduler

from pipeline.cluster.searcher import PACK, RESULTS, places_of
from pipeline.rules.race import Race

_CONTINUE, _STOP = str(TrialScheduler.CONTINUE), str(TrialScheduler.STOP)


@final
class Matrix(TrialScheduler):  # type: ignore[misc]
    """Tells the race what a trial reports, and carries out what it rules.

    A trial of Tune's is a pack from one rung to the next; it ends there, and those that go on come in another. Their
    own folders have all that they need.
    """

    _supports_buffered_results = False

    def __init__(self, race: Race) -> None:
        super().__init__()
        self._race = race
        self._controller: TuneController | None = None
        self._trials: dict[str, TuneTrial] = {}

    def on_trial_add(self, tune_controller: TuneController, trial: TuneTrial) -> None:
        self._controller = tune_controller._tune_controller  # out of a wrapper that warns of everything private
        self._trials[trial.trial_id] = trial
        _keep_actors(self._controller, trial)
        if trial in self._controller._resetting_trials:
            _spare(self._controller, trial)

    def on_trial_result(self, tune_controller: TuneController, trial: TuneTrial, result: Mapping[str, Any]) -> str:
        going_on = self._race.take_in(places_of(trial), dict(result[RESULTS]))
        # Whichever actor takes the trial up again says nothing twice.
        trial.config[PACK] = [self._race.candidate(place) for place in going_on]
        return _CONTINUE if going_on else _STOP

    def on_trial_complete(self, tune_controller: TuneController, trial: TuneTrial, result: Mapping[str, Any]) -> None:
        self._race.take_in(places_of(trial), dict(result[RESULTS]))  # of none where it was stopped

    def on_trial_error(self, tune_controller: TuneController, trial: TuneTrial) -> None:
        """Do nothing: the narrator tells the race, as it knows why."""

    def on_trial_remove(self, tune_controller: TuneController, trial: TuneTrial) -> None:
        for place in places_of(trial):
            self._race.end(place)

    def choose_trial_to_run(self, tune_controller: TuneController) -> TuneTrial | None:
        """End what waits when the time is up; then those go first that have not run yet."""
        # Those that have ended are left behind: of a long sweep nearly all have, and this is asked all the time.
        for id in [id for id, trial in self._trials.items() if trial.status == TuneTrial.TERMINATED]:
            del self._trials[id]
        waiting = [t for t in self._trials.values() if t.status in (TuneTrial.PENDING, TuneTrial.PAUSED)]
        for trial in waiting:
            if all([self._race.cut(place) for place in places_of(trial)]):
                tune_controller.stop_trial(trial)
        pending = [t for t in waiting if t.status == TuneTrial.PENDING]
        spared = [t for t in waiting if t.status == TuneTrial.PAUSED]
        return next(iter(pending + spared), None)

    def abandon(self) -> None:
        """Kill the actors and give back what they hold, where an interrupt has left Tune no time for it."""
        if self._controller is not None:
            self._controller._actor_manager.cleanup()

    def debug_string(self) -> str:
        return type(self._race).__name__


def _keep_actors(controller: TuneController, trial: TuneTrial) -> None:
    """Make Tune keep every idle actor until the experiment ends.

    It keeps only as many as there are trials staged at that moment, that is none while all wait for the last pack of
    their rung; each actor would then be started anew (seconds), though a trial is a matter of milliseconds.
    """
    cache, resources = controller._actor_cache, trial.placement_group_factory
    if cache._max_num_objects[resources] < _ALL:
        cache.increase_max(resources, by=2 * _ALL)


_ALL = 10**6


def _spare(controller: TuneController, trial: TuneTrial) -> None:
    """Keep a trial alive that was given to an actor which had died in the meantime.

    Tune takes up that failure twice, as the actor's (and queues the trial again) and as the task's (and ends the trial
    for good); and it believes for ever that the trial is being reset. It leaves a paused trial alone.
    """
    controller._resetting_trials.discard(trial)
    controller._set_trial_status(trial, TuneTrial.PAUSED)
    trial.run_metadata.num_failures -= 1  # it is going to be counted once more

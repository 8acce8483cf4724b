"""Which of Tune's trials runs, waits or stops: a judge per job and cohort behind one Tune scheduler."""

import math
import time
from collections.abc import Mapping
from typing import Any, Protocol, final

from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from pipeline.cluster.searcher import Place, is_test, place_of, score_of
from pipeline.config import SearchConfig
from pipeline.rules.halving import Decision, Halving

TIME_IS_UP = "time budget"
"""Why a trial ended that the time budget cut off."""


_CONTINUE, _STOP, _NOOP = (str(TrialScheduler.CONTINUE), str(TrialScheduler.STOP), str(TrialScheduler.NOOP))


class Judge(Protocol):
    """Decides within one job."""

    def report(self, trial: int, epoch: int, score: float | None) -> Decision:
        """Take in the best score of a trial after an epoch."""

    def leave(self, trial: int, score: float | None) -> Decision:
        """Take in that a trial ended by itself with this best score, or failed (None)."""


@final
class Asha:
    """Asynchronous successive halving (Li et al. 2020), by Tune's scheduler: decides by order of arrival."""

    def __init__(self, *, first_rung: int, reduction: int) -> None:
        self._asha = ASHAScheduler(
            time_attr="epoch",
            metric="score",
            mode="max",
            max_t=first_rung * 10**6,  # out of reach: a trial's last epoch ends it, not the scheduler
            grace_period=first_rung,
            reduction_factor=reduction,
        )
        self._stubs: dict[int, TuneTrial] = {}

    def report(self, trial: int, epoch: int, score: float | None) -> Decision:
        if trial not in self._stubs:
            self._stubs[trial] = TuneTrial("stub", trial_id=str(trial), stub=True)
            self._asha.on_trial_add(None, self._stubs[trial])
        value = -math.inf if score is None else score
        action = self._asha.on_trial_result(None, self._stubs[trial], {"epoch": epoch, "score": value})
        if action == _STOP:
            return Decision(action="stop", pruned={trial: f"pruned at epoch {epoch}: behind those before it"})
        return Decision(action="continue")

    def leave(self, trial: int, score: float | None) -> Decision:
        return Decision(action="stop")


@final
class Lenient:
    """Lets every trial train to its end."""

    def report(self, trial: int, epoch: int, score: float | None) -> Decision:
        return Decision(action="continue")

    def leave(self, trial: int, score: float | None) -> Decision:
        return Decision(action="stop")


@final
class Deadline:
    """The time budget of a search; its clock starts when the first trial runs."""

    def __init__(self, budget_s: float | None) -> None:
        self._budget_s = budget_s
        self._started_s: float | None = None

    def start(self) -> None:
        """Start the clock, if it does not run yet."""
        if self._started_s is None:
            self._started_s = time.monotonic()

    def over(self) -> bool:
        """Say whether the budget is used up."""
        if self._budget_s is None or self._started_s is None:
            return False
        return time.monotonic() - self._started_s > self._budget_s


@final
class Matrix(TrialScheduler):  # type: ignore[misc]
    """Forwards what a trial reports to the judge of its job, and carries out the decision.

    A trial that waits at its rung is paused without a checkpoint of Tune's: its own folder has all that it
    needs.
    """

    _supports_buffered_results = False

    def __init__(self, search: SearchConfig, deadline: Deadline) -> None:
        super().__init__()
        self._search, self._deadline = search, deadline
        self._controller: TuneController | None = None
        self._judges: dict[tuple[str, tuple[int, int]], Judge] = {}
        self._released: set[Place] = set()
        """Paused trials that may go on."""
        self.pruned: dict[Place, str] = {}
        """Why each of the trials that were ended early was."""

    def on_trial_add(self, tune_controller: TuneController, trial: TuneTrial) -> None:
        self._controller = tune_controller._tune_controller  # out of a wrapper that warns of everything private
        _keep_actors(self._controller, trial)
        if trial in self._controller._resetting_trials:
            _spare(self._controller, trial)
            self._released.add(place_of(trial))

    def on_trial_result(self, tune_controller: TuneController, trial: TuneTrial, result: Mapping[str, Any]) -> str:
        place = place_of(trial)
        # Whichever actor takes the trial up again says nothing twice.
        trial.config |= {"told": result["epoch"], "best": result["score"]}
        if self._deadline.over():
            self.pruned[place] = TIME_IS_UP
            return _STOP
        decision = self._judge(trial).report(place.index, result["epoch"], score_of(result))
        if self._search.scheduler == "asha" and decision.action == "stop" and result["went_on"]:
            return _CONTINUE  # it was let pass before the sweep was resumed, and its adapter is a later one
        self._note(place.job, decision)
        if decision.action == "pause":
            self._released.discard(place)
            tune_controller.pause_trial(trial, should_checkpoint=False)
            return _NOOP
        return _CONTINUE if decision.action == "continue" else _STOP

    def on_trial_complete(self, tune_controller: TuneController, trial: TuneTrial, result: Mapping[str, Any]) -> None:
        place = place_of(trial)
        if place not in self.pruned and not is_test(trial):
            self._note(place.job, self._judge(trial).leave(place.index, score_of(result)))

    def on_trial_error(self, tune_controller: TuneController, trial: TuneTrial) -> None:
        if not trial.should_recover() and not is_test(trial):
            place = place_of(trial)
            self._note(place.job, self._judge(trial).leave(place.index, None))

    def on_trial_remove(self, tune_controller: TuneController, trial: TuneTrial) -> None:
        assert place_of(trial) in self.pruned, "only a pruned trial is ended while it waits"

    def choose_trial_to_run(self, tune_controller: TuneController) -> TuneTrial | None:
        """End the waiting trials that were pruned; then those go first that have not run yet."""
        waiting = [t for t in tune_controller.get_trials() if t.status in (TuneTrial.PENDING, TuneTrial.PAUSED)]
        candidates = [trial for trial in waiting if not is_test(trial)]
        if any(trial.status == TuneTrial.RUNNING for trial in tune_controller.get_trials()):
            self._deadline.start()
        over = self._deadline.over()
        for trial in candidates:
            if over:
                self.pruned.setdefault(place_of(trial), TIME_IS_UP)
            if place_of(trial) in self.pruned:
                tune_controller.stop_trial(trial)
        pending = [t for t in waiting if t.status == TuneTrial.PENDING]
        paused = [t for t in waiting if t.status == TuneTrial.PAUSED and place_of(t) in self._released]
        return next(iter(pending + paused), None)

    def abandon(self) -> None:
        """Kill the actors and give back what they hold, where an interrupt has left Tune no time for it."""
        if self._controller is not None:
            self._controller._actor_manager.cleanup()

    def debug_string(self) -> str:
        return f"{self._search.scheduler}, {len(self.pruned)} pruned"

    def _judge(self, trial: TuneTrial) -> Judge:
        search, cohort = self._search, tuple(trial.config["cohort"])
        key = (trial.config["job"], (0, 0) if search.scheduler == "asha" else cohort)
        if key not in self._judges:
            if search.scheduler == "halving":
                members = range(*cohort)
                self._judges[key] = Halving(members, first_rung=search.first_rung, reduction=search.reduction)
            elif search.scheduler == "asha":
                self._judges[key] = Asha(first_rung=search.first_rung, reduction=search.reduction)
            else:
                self._judges[key] = Lenient()
        return self._judges[key]

    def _note(self, job: str, decision: Decision) -> None:
        self._released |= {Place(job, index) for index in decision.promoted}
        self.pruned |= {Place(job, index): why for index, why in decision.pruned.items()}


def _keep_actors(controller: TuneController, trial: TuneTrial) -> None:
    """Make Tune keep every idle actor until the experiment ends.

    It keeps only as many as there are trials staged at that moment, that is none while all wait for the last
    one of their rung; each actor would then be started anew (seconds), though a trial is a matter of
    milliseconds.
    """
    cache, resources = controller._actor_cache, trial.placement_group_factory
    if cache._max_num_objects[resources] < _ALL:
        cache.increase_max(resources, by=2 * _ALL)


_ALL = 10**6


def _spare(controller: TuneController, trial: TuneTrial) -> None:
    """Keep a trial alive that was given to an actor which had died in the meantime.

    Tune takes up that failure twice, as the actor's (and queues the trial again) and as the task's (and ends
    the trial for good); and it believes for ever that the trial is being reset. It leaves a paused trial
    alone.
    """
    controller._resetting_trials.discard(trial)
    controller._set_trial_status(trial, TuneTrial.PAUSED)
    trial.run_metadata.num_failures -= 1  # it is going to be counted once more

"""From Tune's callbacks to the race, and from the race to the sink."""

from pathlib import Path
from typing import Any, final

from ray import tune
from ray.tune.experiment import Trial as TuneTrial

from pipeline.cluster.searcher import places_of
from pipeline.core.engine.events import Sink
from pipeline.errors import SweepError
from pipeline.rules.race import Race


@final
class Narrator(tune.Callback):  # type: ignore[misc]
    """Tells the sink what happens to the trials, between two of Tune's steps.

    Inside a step Tune takes an exception for the failure of a trial, and an interrupt would cut a sink in two.
    """

    def __init__(self, race: Race, sink: Sink) -> None:
        self._race, self._sink = race, sink
        self.interrupted = False
        """Set by the signal handler; the experiment ends before its next step."""

    def __getstate__(self) -> dict[str, Any]:
        """Leave everything out: Tune pickles callbacks into a file that nobody reads, and sinks hold threads."""
        return {}

    def tell(self) -> None:
        """Tell what has gathered."""
        for event in self._race.take_events():
            self._sink(event)

    def on_step_begin(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.tell()
        if self._race.stopped is not None:
            raise SweepError(self._race.stopped)

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        for place in places_of(trial):
            self._race.start(place)

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        self._race.lose(places_of(trial), _death(trial))


def _death(trial: TuneTrial) -> str:
    """Say why the last process of a trial ended."""
    times = f"its process ended {trial.run_metadata.num_failures} times"
    lines = Path(trial.error_file).read_text(errors="replace").split("\n") if trial.error_file else []
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    if "worker process has died" in last:
        return f"{times}: killed, perhaps for want of memory, or crashed"
    return f"{times}: {last[:200]}" if last else times

"""Which trial Tune starts next: what the race suggests, as a Tune searcher; a candidate travels as a trial's config."""

from collections.abc import Mapping
from typing import Any, final

from ray.tune.experiment import Trial as TuneTrial
from ray.tune.search import Searcher

from pipeline.rules import race
from pipeline.rules.race import Place, Race


def place_of(trial: TuneTrial) -> Place:
    """Say which trial of ours one of Tune's is, or is the test of."""
    return race.place_of(trial.config)


@final
class Candidates(Searcher):  # type: ignore[misc]
    """Hands out what the race suggests.

    It counts as finished only when everything has ended: until then Tune keeps idle actors for paused trials.
    """

    def __init__(self, race: Race) -> None:
        super().__init__()
        self._race = race

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the config of what comes next, None if there is nothing at the moment, or `FINISHED`."""
        suggested = self._race.suggest()
        return str(Searcher.FINISHED) if suggested is None and self._race.finished else suggested

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing: the scheduler tells the race."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: a resumed sweep proposes anew from its seed."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: a resumed sweep proposes anew from its seed."""

"""Which trial Tune starts next: what the race suggests, as a Tune searcher; a pack travels as a trial's config."""

from collections.abc import Mapping
from typing import Any, final

from ray.tune.experiment import Trial as TuneTrial
from ray.tune.search import Searcher

from pipeline.rules import race
from pipeline.rules.race import Place, Race

PACK = "pack"
"""The key of a config under which the candidates are."""
RESULTS = "results"
"""The key of a result under which those of the trials are, as pairs: Tune flattens a mapping."""


def places_of(trial: TuneTrial) -> list[Place]:
    """Say which trials of ours one of Tune's is, or is the test of; none where all have left it."""
    return [race.place_of(candidate) for candidate in trial.config[PACK]]


@final
class Candidates(Searcher):  # type: ignore[misc]
    """Hands out what the race suggests.

    It counts as finished only when everything has ended: until then Tune keeps idle actors for packs to come.
    """

    def __init__(self, race: Race) -> None:
        super().__init__()
        self._race = race

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the config of what comes next, None if there is nothing at the moment, or `FINISHED`."""
        suggested = self._race.suggest()
        if suggested is not None:
            return {PACK: suggested}
        return str(Searcher.FINISHED) if self._race.finished else None

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing: the scheduler tells the race."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: a resumed sweep proposes anew from its seed."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: a resumed sweep proposes anew from its seed."""

from pathlib import Path

import pytest
from ray.tune.experiment import Trial as TuneTrial

from pipeline.cluster.narrator import Narrator
from pipeline.cluster.searcher import PACK
from pipeline.config import SearchConfig
from pipeline.core.engine.events import Sink, SweepEvent, TrialEnded, TrialStarted
from pipeline.errors import SweepError
from pipeline.rules.race import Race
from tests.played import played_job


class Stage:
    """A narrator with a sink that lists events, and one trial of Tune's."""

    def __init__(self, sink: Sink | None = None) -> None:
        self.told: list[SweepEvent] = []
        self.race = Race([played_job("a")], SearchConfig(trials=1), lambda: 0.0)
        self.narrator = Narrator(self.race, sink or self.told.append)
        self.trial = TuneTrial("stub", config={PACK: self.race.suggest()}, stub=True)

    def start(self) -> None:
        self.narrator.on_trial_start(0, [], self.trial)


def test_events_are_told_between_steps() -> None:
    stage = Stage()
    stage.start()
    assert stage.told == []
    stage.narrator.on_step_begin(0, [])
    assert [type(event) for event in stage.told] == [TrialStarted]


def test_what_stops_the_race_ends_the_experiment() -> None:
    stage = Stage()
    stage.race.stopped = "Nothing can be written any more"
    with pytest.raises(SweepError, match="Nothing can be written any more"):
        stage.narrator.on_step_begin(0, [])


def test_what_a_sink_raises_is_not_swallowed() -> None:
    def broken(event: SweepEvent) -> None:
        raise OSError("disk full")

    stage = Stage(broken)
    stage.start()
    with pytest.raises(OSError, match="disk full"):
        stage.narrator.on_step_begin(0, [])


def test_an_interrupt_ends_the_experiment_and_tells_nothing_more() -> None:
    stage = Stage()
    stage.start()
    stage.narrator.interrupted = True
    with pytest.raises(KeyboardInterrupt):
        stage.narrator.on_step_begin(0, [])
    assert stage.told == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "Failure # 1\nThe actor is dead because its worker process has died. Exit\n",
            "killed, perhaps for want of memory, or crashed",
        ),
        (
            "Failure # 1\n  traceback\nModuleNotFoundError: No module named x\n",
            "ModuleNotFoundError: No module named x",
        ),
    ],
)
def test_a_trial_whose_processes_died_tells_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, reason: str
) -> None:
    (tmp_path / "error.txt").write_text(text)
    monkeypatch.setattr(TuneTrial, "error_file", str(tmp_path / "error.txt"))
    stage = Stage()
    stage.trial.run_metadata.num_failures = 3
    stage.narrator.on_trial_error(0, [], stage.trial)
    stage.narrator.tell()
    assert isinstance(stage.told[-1], TrialEnded)
    assert (stage.told[-1].status, stage.told[-1].reason) == ("failed", f"its process ended 3 times: {reason}")

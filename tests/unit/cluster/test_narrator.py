from pathlib import Path
from typing import Any

import pytest
from ray.tune.experiment import Trial as TuneTrial

from pipeline.cluster.narrator import Narrator
from pipeline.cluster.searcher import Place
from pipeline.config import EngineConfig, MethodConfig
from pipeline.core.engine.events import Evaluated, SweepEvent, TrialEnded, TrialPaused, TrialReported, TrialStarted
from pipeline.core.engine.trials import Settings, Trial

SETTINGS = Settings(method=MethodConfig(name="pfeiffer"), engine=EngineConfig())


def trial_at(place: Place, params: Any) -> Trial:
    return Trial(job=place.job, index=place.index, params=params, settings=SETTINGS, seed=0)


def evaluated(epoch: int, primary: float, *, best: bool = True) -> Evaluated:
    return Evaluated(
        epoch=epoch,
        step=epoch,
        primary=primary,
        metrics={},
        best=best,
        train_loss=1.0,
        train_s=2.0,
        eval_s=1.0,
        rows_per_s=1.0,
        peak_bytes=2**29,
    )


class Stage:
    """A narrator with a sink that lists events, and one trial of Tune's."""

    def __init__(self) -> None:
        self.told: list[SweepEvent] = []
        self.pruned: dict[Place, str] = {}
        self.narrator = Narrator(trial_at, self.told.append, self.pruned)
        self.trial = TuneTrial("stub", config={"job": "a", "index": 1, "params": {"x": 3}}, stub=True)

    def start(self) -> None:
        self.narrator.on_trial_start(0, [], self.trial)

    def report(self, epoch: int, primary: float, **given: Any) -> None:
        result = {"report": (evaluated(epoch, primary, **given), ()), "bundle": Path(f"bundle-{epoch}")}
        self.narrator.on_trial_result(0, [], self.trial, result)

    def end(self, **result: Any) -> TrialEnded:
        self.trial.run_metadata.last_result = result
        self.narrator.on_trial_complete(0, [], self.trial)
        self.narrator.on_step_begin(0, [])
        assert isinstance(self.told[-1], TrialEnded)
        return self.told[-1]


def test_events_are_told_between_steps_in_order() -> None:
    stage = Stage()
    stage.start()
    stage.trial.status = TuneTrial.PAUSED
    stage.report(1, 0.5)
    assert stage.told == []
    stage.narrator.on_step_begin(0, [])
    assert [type(event) for event in stage.told] == [TrialStarted, TrialReported, TrialPaused]
    assert all(event.trial == trial_at(Place("a", 1), {"x": 3}) for event in stage.told)


def test_the_end_sums_up_the_epochs() -> None:
    stage = Stage()
    stage.report(1, 0.5)
    stage.report(2, 0.7)
    stage.report(3, 0.6, best=False)
    ended = stage.end(done=True, reason="all epochs done")
    assert (ended.status, ended.reason) == ("done", "all epochs done")
    assert (ended.epochs, ended.best_epoch, ended.best_primary) == (3, 2, 0.7)
    assert (ended.bundle, ended.train_s) == (Path("bundle-3"), 6.0)


def test_a_pruned_trial_keeps_its_bundle() -> None:
    stage = Stage()
    stage.pruned[Place("a", 1)] = "pruned at epoch 1: 2nd of 2"
    stage.report(1, 0.5)
    ended = stage.end()
    assert (ended.status, ended.reason, ended.bundle) == (
        "pruned",
        "pruned at epoch 1: 2nd of 2",
        Path("bundle-1"),
    )


def test_a_failed_trial_tells_why() -> None:
    ended = Stage().end(failed="the loss is not a number at step 17", done=True)
    assert (ended.status, ended.reason) == ("failed", "the loss is not a number at step 17")
    assert (ended.epochs, ended.best_primary, ended.bundle) == (0, None, None)


def test_what_a_sink_raises_is_not_swallowed() -> None:
    def broken(event: SweepEvent) -> None:
        raise OSError("disk full")

    stage = Stage()
    stage.narrator = Narrator(trial_at, broken, {})
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


def test_a_job_without_a_winner_gives_the_reasons_of_its_trials() -> None:
    stage = Stage()
    stage.end(failed="the loss is not a number at step 1", done=True)
    stage.narrator.never_started(Place("a", 2), {}, "time budget")
    assert stage.narrator.why_untested("a") == (
        "a has no trial with a score (the loss is not a number at step 1, time budget)"
    )


def test_a_test_is_no_trial_and_its_failure_is_told_at_the_end() -> None:
    stage = Stage()
    stage.trial.config["bundle"] = Path("bundle-1")
    stage.start()
    stage.trial.run_metadata.last_result = {"failed": "RuntimeError: no", "done": True}
    stage.narrator.on_trial_complete(0, [], stage.trial)
    stage.narrator.tell()
    assert stage.told == []
    assert stage.narrator.why_untested("a") == "the winner of a could not be tested (RuntimeError: no)"

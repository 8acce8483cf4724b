"""What a dry run of a pass leaves alone, and what goes on where one of several tasks fails."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

import jobs.retrain
from pipeline.config import RetrainConfig
from pipeline.config.overrides import read_config
from pipeline.errors import ConfigError, SweepError, fault
from pipeline.reports.console import console
from pipeline.reports.verdicts import PassRow
from pipeline.steps import retrain


def test_a_dry_run_of_a_pass_ends_no_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def note(name: str) -> Any:
        return lambda *_, **__: done.append(name)

    monkeypatch.setattr(
        jobs.retrain, "open_resident", lambda _: SimpleNamespace(wanted=[], settled=lambda config: config)
    )
    monkeypatch.setattr(jobs.retrain, "passes_cut_off", lambda _: nullcontext(["killed"]))
    for name in ("open_store", "check_owners", "end_runs"):
        monkeypatch.setattr(jobs.retrain, name, note(name))
    config = read_config("retrain", RetrainConfig, ["tasks=[ner]", "dryrun=true"])
    jobs.retrain.main(config, console())
    assert done == ["open_store", "check_owners"]


def test_a_task_that_fails_does_not_end_the_ladder_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two tasks one has no winner, and what would be surveyed next of a third is bad; the second goes on."""
    names = ("ner", "intent", "emotion")
    wanted = [(SimpleNamespace(name=name), "default") for name in names]
    trained: list[list[str]] = []

    def found(name: str) -> Any:
        return SimpleNamespace(name=f"{name}/default", job=name, next_line=lambda: "attempt 2 of 2")

    def run_pass(config: Any, surveys: Any, prepared: Any, store: Any, workspace: Any, console: Any, rows: Any) -> None:
        trained.append([one.name for one in surveys])
        first = len(trained) == 1
        for one in surveys:
            goes_on = first and one.job != "ner"
            rows[one.name] = PassRow(job=one.name, champion=1, new=9, replayed=0, decision="rejected", reason="worse",
                                     goes_on=goes_on)  # fmt: skip
        if first:
            raise SweepError("ner has no winner")

    def survey(config: Any, task: Any, domain: str, store: Any, prepared: Any) -> Any:
        if task.name == "emotion":
            raise ConfigError(fault("emotion", "", "is bad now", "Mend it"))
        return found(task.name)

    monkeypatch.setattr(retrain, "run_pass", run_pass)
    monkeypatch.setattr(retrain, "survey", survey)
    monkeypatch.setattr(retrain, "job_name", lambda task, domain: f"{task.name}/{domain}")
    monkeypatch.setattr(retrain, "open_workspace", lambda *_: SimpleNamespace(id="1", log_file="log"))
    monkeypatch.setattr(retrain, "running", lambda *_: nullcontext(console()))
    checkpoint = SimpleNamespace(sha256="", reading="")
    prepared: Any = SimpleNamespace(wanted=wanted, checkpoint=checkpoint)
    nothing: Any = None
    with pytest.raises(SweepError, match="ner has no winner; emotion: is bad now"):
        retrain.run_passes(nothing, [found(name) for name in names], prepared, nothing, console())
    assert trained == [["ner/default", "intent/default", "emotion/default"], ["intent/default"]]

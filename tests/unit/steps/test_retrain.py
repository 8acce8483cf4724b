"""What a dry run of a pass leaves alone."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

import jobs.retrain
from pipeline.config import RetrainConfig
from pipeline.config.overrides import read_config
from pipeline.reports.console import console


def test_a_dry_run_of_a_pass_ends_no_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def note(name: str) -> Any:
        return lambda *_, **__: done.append(name)

    monkeypatch.setattr(jobs.retrain, "open_resident", lambda _: SimpleNamespace(wanted=[]))
    monkeypatch.setattr(jobs.retrain, "passes_cut_off", lambda _: nullcontext(["killed"]))
    for name in ("open_store", "check_owners", "end_runs"):
        monkeypatch.setattr(jobs.retrain, name, note(name))
    config = read_config("retrain", RetrainConfig, ["tasks=[ner]", "dryrun=true"])
    jobs.retrain.main(config, console())
    assert done == ["open_store", "check_owners"]

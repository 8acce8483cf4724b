import dataclasses
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import SweepConfig
from pipeline.config.overrides import read_config
from pipeline.core.data.rows import SPLITS, Row, Split
from pipeline.core.engine.trials import Job
from pipeline.errors import ConfigError, DataError
from pipeline.steps import workspace
from pipeline.steps.workspace import open_workspace, resumed, running
from tests.played import played_job


def config(runs: Path, **given: str) -> SweepConfig:
    words = [f"{name}={value}" for name, value in given.items()]
    return read_config("sweep", SweepConfig, ["tasks=[sentiment]", f"runs={runs}", *words])


def test_a_folder_of_runs_that_cannot_be_written_is_refused_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigError, match=rf"runs: '{file}' cannot be written \(Not a directory\)\. Set runs to "):
        open_workspace(config(file), [], "sha", "read")
    runs = tmp_path / "runs"
    monkeypatch.setattr(workspace, "_CONFIG", "no/such.json")  # the folder can be made, what is in it cannot
    with pytest.raises(ConfigError, match=r"cannot be written \(No such file or directory\)"):
        open_workspace(config(runs), [], "sha", "read")
    assert list(runs.iterdir()) == []


def test_a_sweep_that_is_running_is_not_resumed_beside_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "_ENDING_S", 0.1)
    new = config(tmp_path)
    one = open_workspace(new, [], "sha", "read")
    again = config(tmp_path, resume=one.id)
    refused = pytest.raises(ConfigError, match=rf"RESUME: '{one.id}' is running: another command is at it\. Wait for")
    with running(one, new), refused, running(open_workspace(again, [], "sha", "read"), again):
        pass
    with running(open_workspace(again, [], "sha", "read"), again):
        pass


def job_of(*texts: str) -> Job:
    """Of the same three rows in every split."""
    rows = tuple(Row({"text": text}, "here:1", digest=text, key=text) for text in texts)
    job = played_job("mood/default")
    parts: dict[str, Any] = {name: Split(name, rows, "print", None) for name in SPLITS}
    return dataclasses.replace(job, dataset=dataclasses.replace(job.dataset, **parts))


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_the_same_rows_in_another_order_are_not_gone_on_with(tmp_path: Path, split: str) -> None:
    job, turned = job_of("a", "b", "c"), job_of("c", "b", "a")
    one = open_workspace(config(tmp_path), [job], "sha", "read")
    again = config(tmp_path, resume=one.id)
    moved = dataclasses.replace(job.dataset, **{split: getattr(turned.dataset, split)})
    other = dataclasses.replace(job, dataset=moved)
    assert open_workspace(again, [job], "sha", "read").folder == one.folder
    with pytest.raises(DataError, match=rf"began with the rows of {job.name} in another order.*Restore them"):
        open_workspace(again, [other], "sha", "read")
    file = one.folder / "sweep.json"  # as it was written before orders were kept
    values = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps({key: value for key, value in values.items() if key != "orders"}), "utf-8")
    assert open_workspace(again, [other], "sha", "read").folder == one.folder


def test_a_sweep_is_not_gone_on_with_by_another_tokenizer(tmp_path: Path) -> None:
    one = open_workspace(config(tmp_path), [], "sha", "read")
    again = config(tmp_path, resume=one.id)
    assert open_workspace(again, [], "sha", "read").folder == one.folder
    with pytest.raises(DataError, match=r"began with the same weights and another tokenizer or config\.json\. Restore"):
        open_workspace(again, [], "sha", "read otherwise")
    file = one.folder / "sweep.json"  # as it was written before that was kept
    values = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps({key: value for key, value in values.items() if key != "reading"}), "utf-8")
    assert open_workspace(again, [], "sha", "read otherwise").folder == one.folder


@pytest.mark.parametrize("cluster", ["local", "here"])
def test_what_libraries_print_goes_to_the_log_unless_a_debugger_may_want_the_terminal(
    cluster: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    new = config(tmp_path, cluster=cluster)
    one = open_workspace(new, [], "sha", "read")
    with running(one, new) as shown:
        os.write(1, b"(Pdb) ")
        logging.getLogger("some.library").warning("Trial 3 failed")
        shown.print("the leaderboard")
    out, log = capfd.readouterr().out, one.log_file.read_text("utf-8")
    assert "the leaderboard" in out
    assert ("(Pdb) " in out) == (cluster == "here")
    assert ("(Pdb) " in log) == (cluster == "local")
    assert cluster == "local" or log == "Trial 3 failed\n"


def test_a_sweep_of_before_the_present_layout_is_not_gone_on_with(tmp_path: Path) -> None:
    one = open_workspace(config(tmp_path), [], "sha", "read")
    assert resumed(config(tmp_path, resume=one.id)).resume == one.id
    file = one.folder / "sweep.json"
    values = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps({key: value for key, value in values.items() if key != "layout"}), "utf-8")
    with pytest.raises(ConfigError, match=rf"RESUME: '{one.id}' was begun by an earlier version .* Go on with that v"):
        resumed(config(tmp_path, resume=one.id))


@pytest.mark.parametrize(("epochs", "share"), [(1, 0.25), (2, 0.5), (4, 1 - 1e-6), (9, 1 - 1e-6)])
def test_a_sweep_of_before_rungs_were_shares_goes_on_with_the_epochs_that_it_had(
    epochs: int, share: float, tmp_path: Path
) -> None:
    one = open_workspace(config(tmp_path, **{"engine.epochs": "4"}), [], "sha", "read")
    file = one.folder / "sweep.json"
    values = json.loads(file.read_text("utf-8"))
    values["config"]["search"]["first_rung"] = epochs
    file.write_text(json.dumps(values), "utf-8")
    assert resumed(config(tmp_path, resume=one.id)).search.first_rung == share


@pytest.mark.parametrize(("method", "reads"), [("houlsby", "none"), ("lora", "auto")])
def test_a_sweep_of_before_there_was_a_choice_goes_on_reading_what_it_did(
    method: str, reads: str, tmp_path: Path
) -> None:
    one = open_workspace(config(tmp_path, method=method), [], "sha", "read")
    file = one.folder / "sweep.json"
    values = json.loads(file.read_text("utf-8"))
    assert values["config"]["method"].pop("input_norm") == "auto"
    file.write_text(json.dumps(values), "utf-8")
    assert resumed(config(tmp_path, resume=one.id)).method.input_norm == reads

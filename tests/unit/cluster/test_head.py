"""What is shipped, and how the log of the command is followed; no Ray is started."""

import json
import os
import shlex
import subprocess
import zipfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray._private.ray_constants import DASHBOARD_CLIENT_MAX_SIZE
from ray._private.runtime_env.packaging import GCS_STORAGE_MAX_SIZE

import pipeline.cluster.head as cluster
from pipeline.cluster.head import Ended, Head, contents, entrypoint, environment, pack
from pipeline.config.typed import quoted
from pipeline.errors import ConfigError, PipelineError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Data of a task in a folder whose files git and Ray are told to ignore."""
    folder = tmp_path / "build"
    write(folder / "sentiment" / "train.jsonl", json.dumps({"text": "fine", "label": "positive"}) + "\n")
    for name in (".gitignore", ".rayignore", "sentiment/.gitignore"):
        write(folder / name, "*\n")
    return folder


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")


def test_all_that_a_command_reads_is_shipped_and_nothing_that_python_wrote() -> None:
    names = contents(ROOT, {})
    assert {"conf/sweep.yaml", "jobs/sweep.py", "pipeline/core/data/load.py", "constraints.txt"} <= set(names)
    assert any(name.startswith("pipeline/core/data/starter/") for name in names)
    assert not any("__pycache__" in name or name.startswith(("tests/", "runs/")) for name in names)


def test_data_that_is_ignored_is_in_the_package(tmp_path: Path, data: Path) -> None:
    package = tmp_path / "package.zip"
    size = pack(
        package, ROOT, {"shipped/data/sentiment/train.jsonl": data / "sentiment/train.jsonl"}, {"shipped/data": data}
    )
    assert size == package.stat().st_size
    with zipfile.ZipFile(package) as archive:
        assert archive.read("shipped/data/sentiment/train.jsonl") == (data / "sentiment/train.jsonl").read_bytes()


def test_the_same_contents_make_the_same_package(tmp_path: Path, data: Path) -> None:
    pack(tmp_path / "a.zip", ROOT, {"d": data / "sentiment/train.jsonl"}, {})
    os.utime(data / "sentiment/train.jsonl", (1, 1))
    pack(tmp_path / "b.zip", ROOT, {"d": data / "sentiment/train.jsonl"}, {})
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_a_link_of_the_checkout_that_leaves_it_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "root" / "conf" / "sweep.yaml", "seed: 0\n")
    write(tmp_path / "root" / "conf" / ".env", "SECRET=1\n")
    write(tmp_path / "secret.yaml", "secret\n")
    assert set(contents(tmp_path / "root", {})) == {"conf/sweep.yaml"}
    (tmp_path / "root" / "conf" / "other.yaml").symlink_to(tmp_path / "secret.yaml")
    with pytest.raises(ConfigError, match="is a link that leaves the checkout"):
        contents(tmp_path / "root", {})


def test_more_than_the_dashboard_takes_is_refused_with_sizes_and_a_remedy(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert min(DASHBOARD_CLIENT_MAX_SIZE, GCS_STORAGE_MAX_SIZE) == cluster.LIMIT_BYTES  # which Ray keeps to itself
    monkeypatch.setattr(cluster, "LIMIT_BYTES", 2 * 2**20)
    (data / "noise.bin").write_bytes(os.urandom(3 * 2**20))
    with pytest.raises(ConfigError) as caught:
        pack(tmp_path / "package.zip", ROOT, {"shipped/data/noise.bin": data / "noise.bin"}, {"shipped/data": data})
    assert f"is more than the 2 MiB, zipped, that Ray's dashboard takes ({data} 3 MiB, the code" in str(caught.value)
    assert "DATA=hub" in str(caught.value)


@pytest.mark.parametrize("runs", ["~/my runs", "/srv/$HOME'\"\\x"])
def test_a_shell_hands_the_arguments_on_as_they_are(tmp_path: Path, runs: str) -> None:
    words = ["tasks=[sentiment,ner]", "search.space.method.dropout={choice:[0.0,0.1]}", "x=\"$(id) `id` 'a' *\""]
    line = entrypoint("sweep", words, runs=runs)
    shown = line.replace("exec python -m", f"exec {shlex.quote('/usr/bin/env')} printf '%s\\n'")
    done = subprocess.run(["/bin/sh", "-c", shown], env={"HOME": "/home/x"}, capture_output=True, text=True, check=True)
    home = runs.replace("~", "/home/x")
    assert done.stdout.splitlines() == ["jobs", "sweep", *words, f"runs={quoted(home)}"]


def test_the_environment_is_that_of_the_constraints_and_another_one_where_they_change(tmp_path: Path) -> None:
    first = environment(ROOT, tmp_path / "p.zip", install=True)["pip"]["packages"]
    assert any(line.startswith("torch") for line in first)
    assert any(line.startswith("-c ${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}/constraints.txt") for line in first)
    for name in ("pyproject.toml", "constraints.txt"):
        write(tmp_path / name, (ROOT / name).read_text("utf-8"))
    write(tmp_path / "constraints.txt", (ROOT / "constraints.txt").read_text("utf-8") + "zzz==1\n")
    assert environment(tmp_path, tmp_path / "p.zip", install=True)["pip"]["packages"] != first
    assert "pip" not in environment(ROOT, tmp_path / "p.zip", install=False)
    assert cluster.pinned_ray(ROOT)[0].isdigit()


class Server:
    """Ray's client, whose connections break off as planned."""

    def __init__(self, log: str, breaks: list[int], ends: Mapping[str, Any]) -> None:
        self._log, self._breaks, self._ends = log, breaks, ends

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        until = self._breaks.pop(0) if self._breaks else len(self._log)
        for start in range(0, until, 7):
            yield self._log[start : min(start + 7, until)]
        if until < len(self._log):
            raise RuntimeError("WebSocket connection closed unexpectedly with close code 1006")

    def get_job_info(self, job: str) -> Any:
        return SimpleNamespace(**self._ends)


def followed(server: Server, monkeypatch: pytest.MonkeyPatch) -> tuple[Ended, str, list[str]]:
    """Follow the job of a server; how it ended, what was shown and what was said."""
    monkeypatch.setattr(cluster, "JobSubmissionClient", lambda address: server)
    monkeypatch.setattr(Head, "_silent", lambda self: None)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")
    shown: list[str] = []
    notes: list[str] = []
    ended = Head("http://head:8265/", "sweep-1", shown.append, notes.append).follow()
    return ended, "".join(shown), notes


def details(status: str, code: int | None, message: str = "") -> dict[str, Any]:
    state = SimpleNamespace(value=status, is_terminal=lambda: True)
    return {"status": state, "driver_exit_code": code, "message": message}


def test_a_log_whose_connection_breaks_is_shown_once(monkeypatch: pytest.MonkeyPatch) -> None:
    log = "".join(f"line {number}\n" for number in range(50))
    ended, shown, notes = followed(Server(log, [10, 3, 200], details("SUCCEEDED", 0)), monkeypatch)
    assert shown == log
    assert len(notes) == 1
    assert notes[0].startswith("Connection lost (WebSocket connection closed")
    assert ended.exit_code == 0


@pytest.mark.parametrize(
    ("status", "code", "exit_code"), [("FAILED", 2, 2), ("FAILED", -9, 137), ("STOPPED", None, 130)]
)
def test_the_exit_code_is_that_of_the_command(
    status: str, code: int | None, exit_code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert followed(Server("", [], details(status, code)), monkeypatch)[0].exit_code == exit_code


def test_a_command_that_could_not_be_run_shows_what_the_cluster_says(monkeypatch: pytest.MonkeyPatch) -> None:
    ended, _, _ = followed(Server("", [], details("FAILED", None, "No matching distribution for x")), monkeypatch)
    with pytest.raises(PipelineError, match=r"could not run the command. It says:\nNo matching distribution for x"):
        _ = ended.exit_code

"""What the fault tests break: commands on a cluster of real Ray nodes."""

import contextlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run
from ray._private.authentication_test_utils import (
    authentication_env_guard,
    reset_auth_token_state,
    set_auth_mode,
    set_env_auth_token,
)
from ray.cluster_utils import Cluster

from pipeline.core.engine.session import read_snapshot
from tests.commands.workplace import Done, Workplace

TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "token-of-the-fault-tests-0123456789abcdef"}
"""Ray's authentication, on; of the nodes and of all who join them."""
QUICK = {"RAY_worker_niceness": "0"}
"""Trials that are not nice to whatever runs beside the tests: these wait for them."""


@contextmanager
def ray_nodes(*cpus: int) -> Iterator[Cluster]:
    """Run a head and more nodes, each with so many cores, until the block ends."""
    try:
        with authentication_env_guard():
            set_auth_mode(TOKEN["RAY_AUTH_MODE"])
            set_env_auth_token(TOKEN["RAY_AUTH_TOKEN"])
            os.environ.update(QUICK)
            reset_auth_token_state()
            store = 100 * 2**20
            cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus[0], "object_store_memory": store})
            try:
                for number in cpus[1:]:
                    cluster.add_node(num_cpus=number, object_store_memory=store)
                yield cluster
            finally:
                cluster.shutdown()
                os.environ.pop(*QUICK)
    finally:
        reset_auth_token_state()  # Ray keeps the token that it has read


def until(holds: Callable[[], Any], seconds: float, why: Callable[[], str] = str) -> Any:
    """Wait until something holds, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {why()}")


class Running:
    """A command that was started, and what it has printed so far."""

    def __init__(self, place: Workplace, *command: str, environment: Mapping[str, str] | None = None) -> None:
        self._mark = f"FAULT_TEST={secrets.token_hex(8)}"
        marked = dict([self._mark.split("=")])
        self.place = place
        self.process = place.start(*command, environment={**TOKEN, **QUICK, **marked, **(environment or {})})
        self.lines: list[str] = []

    def read_until(self, pattern: str, times: int = 1) -> None:
        """Read its output until so many lines matched."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            times -= re.search(pattern, line) is not None
            if times == 0:
                return
        assert self.process.stderr is not None
        raise AssertionError(f"ended before {pattern!r}: {''.join(self.lines)}{self.process.stderr.read()}")

    def end(self, timeout: float = 300) -> Done:
        """Wait for its end; nothing that it started may outlive it by much.

        Agents of a Ray whose command was killed look for it for a minute.
        """
        out, err = self.process.communicate(timeout=timeout)
        until(lambda: not self.survivors(), 100, lambda: f"still there: {self.survivors()}")
        return Done(code=self.process.returncode, out="".join(self.lines) + out, err=err)

    def survivors(self) -> list[str]:
        """Its processes, and theirs, that run."""
        return [words for number, words in processes() if self._mark in environment_of(number)]

    @property
    def sweep_id(self) -> str:
        """The id of the only sweep in its working directory."""
        (file,) = self.place.cwd.glob("runs/*/sweep.json")
        return file.parent.name


def processes() -> Iterator[tuple[int, str]]:
    """Id and command line of everything that runs on this machine."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                if words:  # not a zombie
                    yield int(entry.name), words


def environment_of(process: int) -> list[str]:
    """What a process was started with; nothing if it has ended."""
    try:
        return Path(f"/proc/{process}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def trainees() -> list[int]:
    """The processes in which trials run, on this machine."""
    return [number for number, words in processes() if words.startswith("ray::") and "Trainable" in words]


def runs(uri: str, sweep_id: str) -> dict[str, list[Run]]:
    """Kind -> recorded runs, of one sweep."""
    client = MlflowClient(uri)
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    found: dict[str, list[Run]] = {"sweep": [], "job": [], "trial": []}
    for run in client.search_runs(ids, f"tags.sweep_id = '{sweep_id}'", max_results=1000):
        found[run.data.tags["kind"]].append(run)
    return found


def assert_recorded_once(uri: str, sweep_id: str, *, jobs: int, trials: int) -> None:
    """Every run is there once, and has ended."""
    found = runs(uri, sweep_id)
    assert {kind: len(some) for kind, some in found.items()} == {"sweep": 1, "job": jobs, "trial": trials}
    assert {run.info.status for some in found.values() for run in some} == {"FINISHED"}
    assert len({run.data.tags["trial"] for run in found["trial"]}) == trials
    client = MlflowClient(uri)
    for run in found["trial"]:
        for name in run.data.metrics:
            steps = [point.step for point in client.get_metric_history(run.info.run_id, name)]
            assert len(steps) == len(set(steps)), (run.data.tags["trial"], name, steps)


def leaderboard(uri: str, sweep_id: str, folder: Path) -> list[dict[str, Any]]:
    """A sweep's leaderboard as it is recorded, without times and what hangs on a champion of before, as the note on the
    test rows of a first one does."""
    (sweep,) = runs(uri, sweep_id)["sweep"]
    folder.mkdir(parents=True, exist_ok=True)
    file = MlflowClient(uri).download_artifacts(sweep.info.run_id, "leaderboard.json", str(folder))
    table = json.loads(Path(file).read_text("utf-8"))
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    left_out = {"seconds", "epoch_s", "alias", "version", "reason", "note"}
    return [{key: value for key, value in row.items() if key not in left_out} for row in rows]


def trained(place: Workplace) -> dict[str, list[float]]:
    """Trial -> seconds of each epoch that its last whole snapshot has: another training would take others."""
    found = {}
    for trial in place.cwd.glob("runs/*/trials/*"):
        states = []
        for file in sorted(trial.glob("snapshot-*.pt"), key=lambda file: int(file.stem[9:])):
            with contextlib.suppress(FileNotFoundError):  # of a trial that runs, and has a newer one
                states += [state] if (state := read_snapshot(file)) is not None else []
        found[trial.name] = [evaluated["train_s"] for evaluated, _ in states[-1]["reports"]] if states else []
    return found


def assert_went_on(before: dict[str, list[float]], place: Workplace) -> None:
    """No epoch that a trial had when it was disturbed was trained again."""
    after = trained(place)
    for trial, seconds in before.items():
        assert after[trial][: len(seconds)] == seconds, trial


def weights(place: Workplace) -> dict[str, str]:
    """Trial -> sha256 of the weights of its best bundle, of the only sweep in a working directory."""
    found = {}
    for trial in place.cwd.glob("runs/*/trials/*"):
        newest = max(trial.glob("bundle-*"), key=lambda folder: int(folder.name.partition("-")[2]))
        found[trial.name] = str(json.loads((newest / "bundle.json").read_text("utf-8"))["weights_sha256"])
    return found

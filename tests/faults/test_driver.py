"""The command itself is killed, interrupted, or cannot write: a sweep that is resumed ends as an undisturbed one."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.commands.workplace import Workplace
from tests.faults import stage

pytestmark = pytest.mark.faults

SWEEP = ["tasks=[intent,ner,medqa]", "search.trials=4", "engine.epochs=16", "engine.batch_size=2", "seed=7"]
NAMES = ["intent", "ner", "medqa"]
Ended = tuple[list[dict[str, Any]], dict[str, str]]


@pytest.fixture(scope="module")
def words(checkpoints: dict[str, str], formats: Path) -> list[str]:
    width = "search.space.method.width={choice:[2,4]}"
    return [*SWEEP, f"data.source={formats}", f"checkpoint={checkpoints['bert']}", width]


def uri(place: Workplace) -> str:
    return f"sqlite:///{place.cwd}/mlflow.db"


def ended(sweep: stage.Running) -> Ended:
    """What a sweep ended with, to the bit; and that its runs are there once, and each winner was registered once."""
    done = sweep.end()
    assert done.code == 0, done.out + done.err
    stage.assert_recorded_once(uri(sweep.place), sweep.sweep_id, jobs=3, trials=12)
    client = MlflowClient(uri(sweep.place))
    for name in NAMES:
        (version,) = client.search_model_versions(f"name = '{name}'")
        assert client.get_model_version_by_alias(name, "champion").version == version.version
    return stage.leaderboard(uri(sweep.place), sweep.sweep_id, sweep.place.data), stage.weights(sweep.place)


def resume(sweep: stage.Running) -> stage.Running:
    return stage.Running(sweep.place, "sweep", f"resume={sweep.sweep_id}")


def snapshots_written(place: Workplace) -> int:
    """How often its trials were saved: they count."""
    trials = place.cwd.glob("runs/*/trials/*")
    # One that has just begun has none.
    return sum(max((int(file.stem[9:]) for file in trial.glob("*.pt")), default=0) for trial in trials)


@pytest.fixture(scope="module")
def undisturbed(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Ended:
    return ended(stage.Running(Workplace(tmp_path_factory.mktemp("undisturbed") / "place"), "sweep", *words))


@pytest.mark.parametrize(
    ("line", "times"),
    [("12 trials, 2 at once", 1), ("  trial ./4", 4), ("  trial ./4", 12)],
    ids=["before the first report", "in the middle", "before registration"],
)
def test_a_killed_command_is_resumed(
    line: str, times: int, undisturbed: Ended, words: list[str], workplace: Workplace
) -> None:
    sweep = stage.Running(workplace, "sweep", *words)
    sweep.read_until(line, times)
    os.kill(sweep.process.pid, signal.SIGKILL)
    assert sweep.end().code == -signal.SIGKILL
    assert not MlflowClient(uri(workplace)).search_registered_models()
    trained, before = snapshots_written(workplace), stage.trained(workplace)
    assert any(before.values()) == (times > 1)
    again = resume(sweep)
    assert ended(again) == undisturbed
    stage.assert_went_on(before, workplace)
    if times == 12:
        assert snapshots_written(workplace) == trained  # nothing was trained again


def test_ctrl_c_once_finishes_cleanly_and_twice_stops_now(
    undisturbed: Ended, words: list[str], workplace: Workplace
) -> None:
    sweep = stage.Running(workplace, "sweep", *words)
    sweep.read_until("  trial ./4", 2)
    os.killpg(sweep.process.pid, signal.SIGINT)
    done = sweep.end(60)
    assert done.code == 130, done.out + done.err
    assert f"Interrupted. Go on with: python -m jobs sweep RESUME={sweep.sweep_id}" in done.out
    assert "RUNNING" not in {
        run.info.status for some in stage.runs(uri(workplace), sweep.sweep_id).values() for run in some
    }
    before = stage.trained(workplace)
    assert any(before.values())
    second = resume(sweep)
    second.read_until("  trial ./4", 6)
    os.killpg(second.process.pid, signal.SIGINT)
    time.sleep(0.05)
    os.killpg(second.process.pid, signal.SIGINT)
    assert second.end(30).code == 130
    assert ended(resume(sweep)) == undisturbed
    stage.assert_went_on(before, workplace)


def test_a_stopped_job_ends_like_ctrl_c(undisturbed: Ended, words: list[str], workplace: Workplace) -> None:
    sweep = stage.Running(workplace, "sweep", *words)
    sweep.read_until("  trial ./4", 2)
    os.kill(sweep.process.pid, signal.SIGTERM)
    assert sweep.end(60).code == 130
    assert ended(resume(sweep)) == undisturbed


def test_a_damaged_snapshot_falls_back_to_the_one_before(
    undisturbed: Ended, words: list[str], workplace: Workplace
) -> None:
    sweep = stage.Running(workplace, "sweep", *words)
    sweep.read_until("  trial ./4", 9)  # only the three winners train on
    os.kill(sweep.process.pid, signal.SIGKILL)
    sweep.end()
    damaged = 0
    for trial in workplace.cwd.glob("runs/*/trials/*"):
        *_, older, last = [None, *sorted(trial.glob("snapshot-*.pt"), key=lambda file: int(file.stem[9:]))]
        assert last is not None
        content = bytearray(last.read_bytes())
        content[len(content) // 2] ^= 1
        last.write_bytes(content)
        damaged += older is not None
    assert damaged >= 3
    before = stage.trained(workplace)
    assert sum(map(bool, before.values())) >= 3
    assert ended(resume(sweep)) == undisturbed
    stage.assert_went_on(before, workplace)


@pytest.fixture
def small_disk(workplace: Workplace) -> Iterator[Path]:
    """A file system of its own below the working directory, which can be filled and write-protected."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a file system")
    folder = workplace.cwd / "runs"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_a_disk_that_cannot_be_written_stops_the_sweep_and_blames_no_trial(
    trouble: str, undisturbed: Ended, words: list[str], workplace: Workplace, small_disk: Path
) -> None:
    sweep = stage.Running(workplace, "sweep", *words)
    sweep.read_until("  trial ./4", 4)
    ballast = small_disk / "ballast"
    if trouble == "full":
        with ballast.open("wb", buffering=0) as stream, pytest.raises(OSError, match="No space left"):
            while True:
                stream.write(bytes(2**12))
    else:
        (trials,) = small_disk.glob("*/trials")
        subprocess.run(["mount", "--bind", str(trials), str(trials)], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", str(trials)], check=True)
    done = sweep.end(120)
    assert done.code == 1
    # Whoever meets it first: a trial, or what keeps the records.
    assert re.search(r"Failed: Nothing can be (written any more|kept in )", done.err), done.err
    assert ("No space left on device" if trouble == "full" else "Read-only file system") in done.err
    assert f"Go on with: python -m jobs sweep RESUME={sweep.sweep_id}" in done.out
    assert "  failed  " not in done.out
    if trouble == "full":
        ballast.unlink()
    else:
        subprocess.run(["umount", "--lazy", str(trials)], check=True)
    assert ended(resume(sweep)) == undisturbed

"""Commands on a real cluster of one node, started for these tests on loopback, by Ray's Jobs API."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
from mlflow import MlflowClient

from tests.commands.conftest import TRIAGE
from tests.commands.workplace import Done, Workplace
from tests.unit.tracking.server import Server

pytestmark = [pytest.mark.commands, pytest.mark.ray]
cluster_starts = pytest.mark.faults  # a minute: a cluster that takes jobs is two dozen processes

RAY = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """A cluster that wants a token."""

    address: str
    token: str
    home: Path
    """Of the user that Ray runs as."""
    process: psutil.Process

    def commands(self) -> list[psutil.Process]:
        """The commands of ours that run on it."""
        found = []
        for process in self.process.children(recursive=True):
            with suppress(psutil.Error):
                if "-m jobs " in " ".join(process.cmdline()):
                    found.append(process)
        return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    root = tempfile.gettempdir()
    temp = Path(tempfile.mkdtemp(prefix="ray-", dir=root if len(root) <= 40 else "/tmp"))  # sockets' paths are short
    gcs, dashboard, agent, client = free_ports(4)
    token = secrets.token_hex(32)
    # The nodes have the packages.
    environment = {name: value for name, value in os.environ.items() if name not in (*RAY, "PYTHONPATH")}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "RAY_USAGE_STATS_ENABLED": "0"}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(temp / "home")}
    options = ["--dashboard-host", "127.0.0.1", "--port", gcs, "--dashboard-port", dashboard, "--num-cpus", "1"]
    options += ["--dashboard-agent-listen-port", agent, "--ray-client-server-port", client, "--temp-dir", str(temp)]
    options += ["--object-store-memory", "100000000", "--include-dashboard", "true"]
    with (temp / "out.txt").open("wb") as out:
        started = psutil.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", *options],
            cwd=temp,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        address = f"http://127.0.0.1:{dashboard}"
        wait_for(address, started, temp / "out.txt")
        yield Cluster(address=address, token=token, home=temp / "home", process=started)
    finally:
        everything = [started, *started.children(recursive=True)]
        for process in everything:
            if process.is_running():
                process.kill()
        psutil.wait_procs(everything, timeout=10)
        shutil.rmtree(temp, ignore_errors=True)


def free_ports(count: int) -> list[str]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [str(one.getsockname()[1]) for one in sockets]


def wait_for(address: str, process: psutil.Popen, out: Path) -> None:
    """Wait until the dashboard answers."""
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(out.read_text("utf-8", errors="replace"))


@pytest.fixture
def place(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """A place to submit from, in which git and Ray are told to ignore the data; and a Ray that is not meant."""
    for name in RAY:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    row = '{"message": "%s film", "queue": "%s"}\n'
    rows = "".join(row % (f"{word} {number}", label) for number in range(9) for word, label in WORDS.items())
    workplace.write({f"triage/{split}.jsonl": rows for split in ("train", "validation", "test")})
    workplace.write({".gitignore": "*\n", ".rayignore": "*\n", "own/triage.yaml": TRIAGE})
    return workplace


WORDS = {"good": "positive", "bad": "negative"}


def words(cluster: Cluster, place: Workplace, checkpoint: str) -> list[str]:
    given = ["COMMAND=sweep", f"ADDRESS={cluster.address}", "TASKS=triage", f"DATA={place.data}", "DRYRUN=1"]
    return [*given, f"CONF={place.data / 'own'}", f"CHECKPOINT={checkpoint}", "ARGS=submit.environment=image"]


def submit(cluster: Cluster, place: Workplace, checkpoint: str, token: str) -> Done:
    return place.make("submit", *words(cluster, place, checkpoint), environment={"RAY_AUTH_TOKEN": token})


@cluster_starts
@pytest.mark.server
def test_a_sweep_trains_on_the_cluster_shows_its_log_and_has_its_files_in_the_home_there(
    cluster: Cluster, place: Workplace, checkpoints: dict[str, str], mlflow_server: Server
) -> None:
    own = [word for word in words(cluster, place, checkpoints["bert"]) if not word.startswith(("DRYRUN", "ARGS"))]
    row = '{"message": "a %s book %s", "queue": "%s"}\n'
    unseen = "".join(row % (word, number, label) for number in range(9) for word, label in WORDS.items())
    place.write({"triage/test.jsonl": unseen})
    own += ["TRIALS=1", "EPOCHS=1", f"ARGS=submit.environment=image tracking.uri={mlflow_server.uri}"]
    # By make, in another process: where a test has had a Ray of its own, this one knows no other token any more.
    done = place.make("submit", *own, environment={"RAY_AUTH_TOKEN": cluster.token})
    assert done.code == 0, done.out + done.err
    assert done.out.count("  trial 1/1") == done.out.count("Leaderboard") == 1
    assert "triage/mail" in done.out
    assert f"to {cluster.address}; Ctrl-C stops it" in done.err
    assert "Connection lost" not in done.err
    assert place.left() == ["constraints.txt", "installed", "pyproject.toml"], "which make needs"
    assert int(MlflowClient(mlflow_server.uri).get_model_version_by_alias("triage", "champion").version) == 1
    assert list(cluster.home.glob("adapter-runs/*/trials/*/bundle-1/bundle.json"))


@cluster_starts
def test_a_command_that_fails_shows_why_and_ends_with_its_exit_code(
    cluster: Cluster, place: Workplace, checkpoints: dict[str, str]
) -> None:
    place.write({"triage/train.jsonl": ['{"message": "good film"}']})
    done = submit(cluster, place, checkpoints["bert"], cluster.token)  # make has a 2 for whatever fails
    assert "shipped/data/triage/train.jsonl:1: has no field `queue`" in done.out, done.out + done.err
    assert "failed, exit code 2." in done.err
    assert "Error 2" in done.err, "as make tells of the command's exit code"
    assert done.code == 2


@cluster_starts
def test_ctrl_c_stops_the_command(cluster: Cluster, place: Workplace, checkpoints: dict[str, str]) -> None:
    given = words(cluster, place, checkpoints["bert"])
    for name in ("pyproject.toml", "constraints.txt", "installed"):
        (place.cwd / name).touch()
    makefile = str(Path(__file__).parents[2] / "Makefile")
    command = ["make", "-f", makefile, f"RUN={sys.executable} -m", "STAMP=installed", "submit", *given]
    process = place.start(*command, environment={"RAY_AUTH_TOKEN": cluster.token})
    assert process.stdout is not None
    assert any("Running entrypoint" in line for line in process.stdout)
    (running,) = cluster.commands()
    running.suspend()  # so that it does not end by itself meanwhile
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    time.sleep(2)
    running.resume()
    _, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT, "make ends like the command, which a shell calls 130"
    assert "Stopped." in err
    assert "Traceback" not in err
    assert cluster.commands() == []


@cluster_starts
@pytest.mark.parametrize(
    ("token", "message"), [("", "wants a token. Set RAY_AUTH_MODE=token and"), ("0" * 64, "refuses the token. Set")]
)
def test_a_token_that_is_missing_or_wrong_is_one_clear_error(
    token: str, message: str, cluster: Cluster, place: Workplace, checkpoints: dict[str, str]
) -> None:
    done = submit(cluster, place, checkpoints["bert"], token)
    assert done.code == 2
    assert f"ADDRESS: '{cluster.address}' {message}" in done.err
    assert "Traceback" not in done.err


def test_an_address_where_nobody_answers_is_one_clear_error(place: Workplace) -> None:
    given = ["tasks=[ner]", "dryrun=true", "submit.address=http://127.0.0.1:1"]
    began = time.monotonic()
    done = place.call("submit", *given)
    assert time.monotonic() - began < 20
    assert (done.code, done.out) == (2, "")
    assert "ADDRESS: 'http://127.0.0.1:1' does not answer" in done.err
    assert "Traceback" not in done.err

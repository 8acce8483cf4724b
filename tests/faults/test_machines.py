"""Three machines, as far as the kernel can make them here: a network and a file system of its own for each Ray node.

Each node is a `ray start` in a network namespace and a mount namespace. Its home is its own, and the second and the
third see neither the data nor the checkpoint nor the sweep's folder: empty file systems are mounted over them. It needs
root and iproute2, and is skipped where they are not there.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands.workplace import Workplace
from tests.faults import stage
from tests.faults.test_nodes import SWEEP
from tests.unit.tracking.server import serving

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="needs root and iproute2"),
]
BRIDGE, HOST = "fault-tests", "10.77.0.1"


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


class Machine:
    """One node: `name` is that of its network namespace."""

    def __init__(self, number: int, hidden: Path, head: str | None) -> None:
        self.name, self.address, self._number = f"{BRIDGE}-{number}", f"10.77.0.{10 + number}", number
        inner, outer = f"ft{number}in", f"ft{number}out"
        ip("netns", "add", self.name)
        ip("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", self.name)
        ip("link", "set", outer, "master", BRIDGE, "up")
        ip("-n", self.name, "addr", "add", f"{self.address}/24", "dev", inner)
        for device in (inner, "lo"):
            ip("-n", self.name, "link", "set", device, "up")
        home = Path(f"/tmp/{self.name}-home")
        home.mkdir(exist_ok=True)
        mounts = f"mount -t tmpfs tmpfs {home}; mkdir {home}/elsewhere; cd {home}/elsewhere; "
        if head is not None:
            mounts += f"mount -t tmpfs tmpfs {hidden}; "
        role = f"--address={head}" if head else "--head --port=6379 --include-dashboard=false"
        start = f"{sys.executable} -m ray.scripts.scripts start {role} --node-ip-address={self.address} --num-cpus=1 "
        start += f"--object-store-memory={100 * 2**20} --temp-dir=/tmp/ray-ft{number} --disable-usage-stats --block"
        script = f"set -e; {mounts} exec {start}"
        self._log = Path(f"/tmp/{self.name}.log")
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", self.name, "unshare", "--mount", "--propagation", "private", "bash", "-c", script],
            # By itself gloo would take the address of the host's name, which is that of all of them.
            env={
                **os.environ,
                **stage.TOKEN,
                **stage.QUICK,
                "HOME": str(home),
                "RAY_ADDRESS": "",
                "GLOO_SOCKET_IFNAME": inner,
            },
            stdout=self._log.open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        stage.until(lambda: "--block" in self.log and "started" in self.log, 60, lambda: self.log)

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def inside(self) -> tuple[str, ...]:
        """What a command begins with that is to run on this machine."""
        return ("nsenter", "--target", str(self._process.pid), "--mount", "--net")

    @property
    def processes(self) -> list[int]:
        return [int(line) for line in ip("netns", "pids", self.name).split()]

    def kill(self) -> None:
        """Pull the plug."""
        for number in self.processes:
            os.kill(number, signal.SIGKILL)
        self._process.wait(30)

    def remove(self) -> None:
        if self._process.poll() is None:
            self.kill()
        ip("netns", "delete", self.name)
        for path in (f"/tmp/ray-ft{self._number}", f"/tmp/{self.name}-home"):
            shutil.rmtree(path, ignore_errors=True)
        self._log.unlink()


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[list[Machine]]:
    ip("link", "add", BRIDGE, "type", "bridge")
    made: list[Machine] = []
    try:
        ip("addr", "add", f"{HOST}/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        made.append(Machine(1, tmp_path, None))
        made += [Machine(number, tmp_path, f"{made[0].address}:6379") for number in (2, 3)]
        yield made
    finally:
        for machine in made:
            machine.remove()
        ip("link", "delete", BRIDGE)


@pytest.fixture
def here(checkpoints: dict[str, str], formats: Path, tmp_path: Path) -> Path:
    """What the first machine alone sees: data and checkpoint."""
    shutil.copytree(formats, tmp_path / "first" / "data")
    shutil.copytree(checkpoints["bert"], tmp_path / "first" / "bert")
    return tmp_path / "first"


@pytest.fixture
def server(machines: list[Machine], tmp_path: Path) -> Iterator[str]:
    (tmp_path / "server").mkdir()
    with serving(tmp_path / "server", host=HOST) as running:
        yield running.uri


def settings(here: Path, server: str) -> list[str]:
    where = [f"data.source={here}/data", f"checkpoint={here}/bert", f"tracking.uri={server}"]
    return [*SWEEP, *where, "search.space.method.width={choice:[2,4]}"]


def start(machine: Machine, place: Workplace, *words: str) -> stage.Running:
    """Start a sweep on a machine, on the Ray of all of them."""
    # nsenter changes the directory to that of the machine.
    python = ["bash", "-c", f'cd {place.cwd} && exec "$@"', "-", sys.executable, "-m", "jobs", "sweep"]
    joined = ["cluster=existing", f"cluster.address={machine.address}:6379"]
    return stage.Running(place, *machine.inside, *python, *words, *joined)


def test_trials_of_two_workers_on_different_machines_end_as_on_one(
    machines: list[Machine], here: Path, server: str
) -> None:
    words = [*settings(here, server), "tasks=[intent]", "search.trials=2", "engine.epochs=4", "cluster.num_workers=2"]
    spread = start(machines[0], Workplace(here / "spread"), *words)
    spread.read_until(r"1 job, 2 trials, 1 at once")
    alone = [*words, "cluster.num_cpus=2"]
    ends = []
    for sweep in (spread, stage.Running(Workplace(here / "alone"), "sweep", *alone)):
        done = sweep.end()
        assert done.code == 0, done.out + done.err
        stage.assert_recorded_once(server, sweep.sweep_id, jobs=1, trials=2)
        ends.append((stage.leaderboard(server, sweep.sweep_id, sweep.place.data), stage.weights(sweep.place)))
    assert ends[0] == ends[1]


def test_machines_that_share_nothing_end_a_disturbed_sweep_as_an_undisturbed_one(
    machines: list[Machine], here: Path, server: str
) -> None:
    ends = []
    before: dict[str, list[float]] = {}
    for name in ("undisturbed", "disturbed"):
        place = Workplace(here / name)
        sweep = start(machines[0], place, *settings(here, server))
        sweep.read_until(r"3 jobs, 12 trials, 3 at once")
        if name == "disturbed":
            sweep.read_until(r"  trial \d/4")
            before = stage.trained(place)
            on_second = stage.until(lambda: set(stage.trainees()) & set(machines[1].processes), 60)
            os.kill(on_second.pop(), signal.SIGKILL)
            sweep.read_until(r"  trial \d/4")
            machines[2].kill()
        done = sweep.end()
        assert done.code == 0, done.out + done.err
        stage.assert_went_on(before, place)
        stage.assert_recorded_once(server, sweep.sweep_id, jobs=3, trials=12)
        ends.append((stage.leaderboard(server, sweep.sweep_id, place.data), stage.weights(place)))
    assert ends[0] == ends[1]
    assert any(before.values())

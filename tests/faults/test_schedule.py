"""The clock really strikes: cron, and the foreground; two at once, a killed pass, a boot that comes too late."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.commands.workplace import Workplace
from tests.faults.test_passes import splits

pytestmark = pytest.mark.faults

EVERY_MINUTE = 'schedule.cron="* * * * *"'
NEW_YEAR = 'schedule.cron="0 3 1 1 *"'
# Ends well the first time, and badly afterwards, since the folder is there; takes a second.
HARMLESS = ["schedule.id=probe", "schedule.command=manifests", 'target="50% \\% it\'s $HOME"']
OTHERS = "# mine\n0 1 1 1 * true 100\\%\n"


def until(true: Callable[[], Any], seconds: float) -> Any:
    """Wait for something, and return it."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"nothing for {seconds} s"
        time.sleep(0.05)
    return found


def stamp(place: Workplace) -> dict[str, Any]:
    file = place.cwd / "runs" / "schedule" / "probe" / "stamp.json"
    return dict(json.loads(file.read_text("utf-8"))) if file.exists() else {}


def ended(place: Workplace) -> dict[str, Any]:
    return found if (found := stamp(place)) and found["code"] is not None else {}


def backdate(place: Workplace) -> None:
    """Let the schedule be two years old, so that a pass was missed."""
    file = place.cwd / "runs" / "schedule" / "probe" / "schedule.json"
    made = (datetime.now().astimezone() - timedelta(days=730)).isoformat()
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | {"created": made}), "utf-8")


def listed(place: Workplace) -> str:
    done = place.run("schedule", "schedule.action=list")
    assert done.code == 0, done.err
    return done.out


@pytest.fixture
def spot(tmp_path: Path) -> Workplace:
    """A folder with a name that a shell, cron and systemd would each take apart."""
    return Workplace(tmp_path / "50% it's $HOME")


class Cron:
    """The daemon, started and stopped here."""

    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        self.process = subprocess.Popen(["cron", "-f"])

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def boot(self) -> None:
        """Start as after a boot, of which this file tells cron that it was long ago."""
        self.stop()
        Path("/var/run/crond.reboot").unlink(missing_ok=True)
        self.start()


@pytest.fixture
def cron() -> Iterator[Cron]:
    """cron for root, whose crontab is put back afterwards."""
    if shutil.which("cron") is None or shutil.which("crontab") is None or os.geteuid() != 0:
        pytest.skip("needs cron (apt-get install cron), and root to start it")
    if any(_command(file) == "cron" for file in Path("/proc").glob("[0-9]*/comm")):
        pytest.skip("a cron runs here already, which is not to be stopped")
    before = subprocess.run(["crontab", "-l"], capture_output=True, check=False)
    subprocess.run(["crontab", "-"], input=OTHERS.encode(), check=True)
    time.sleep(1)  # cron compares times in whole seconds: a second change within one would never be read
    daemon = Cron()
    try:
        yield daemon
    finally:
        daemon.stop()
        words, table = (["crontab", "-r"], b"") if before.returncode else (["crontab", "-"], before.stdout)
        subprocess.run(words, input=table, check=True)


def _command(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def crontab() -> str:
    return subprocess.run(["crontab", "-l"], capture_output=True, text=True, check=False).stdout


def test_the_crontab_entry_fires_and_list_tells_how_each_pass_ended(spot: Workplace, cron: Cron) -> None:
    cron.start()
    for _ in range(2):
        done = spot.run("schedule", EVERY_MINUTE, *HARMLESS)
        assert done.code == 0, done.err
        assert "No cron runs" not in done.out
    assert crontab().startswith(OTHERS)
    assert crontab().count("schedule.action=run") == 1
    first = until(lambda: ended(spot), 90)
    assert first["code"] == 0, Path(first["log"]).read_text()
    assert (spot.cwd / "50% \\% it's $HOME" / "mlflow.yaml").exists()  # every character arrived
    assert re.search(r"probe +cron +\* \* \* \* \* +manifests +[-\d]+ [:\d]+ +done", listed(spot))
    second = until(lambda: (now := ended(spot)) != first and now, 90)
    assert second["code"] == 2
    assert "is there already" in Path(second["log"]).read_text()
    assert "  FAILED, exit code 2  " in listed(spot)
    assert f"\nprobe: {second['log']}\n" in listed(spot)
    removed = spot.run("schedule", "schedule.action=remove", "schedule.id=probe")
    assert removed.code == 0, removed.err
    assert crontab() == OTHERS
    assert Path(second["log"]).exists()


def test_after_a_boot_what_was_missed_is_caught_up_once(spot: Workplace, cron: Cron) -> None:
    assert spot.run("schedule", NEW_YEAR, *HARMLESS).code == 0
    cron.boot()
    time.sleep(8)
    assert stamp(spot) == {}  # nothing was missed since it was made
    backdate(spot)
    cron.boot()
    first = until(lambda: ended(spot), 30)
    assert first["code"] == 0
    cron.boot()
    time.sleep(8)
    assert stamp(spot) == first


def test_a_scheduled_retrain_promotes_and_one_that_fails_says_so_and_leaves_the_champion(
    tmp_path: Path, checkpoints: dict[str, str]
) -> None:
    place = Workplace(tmp_path)
    words = ["tasks=[intent]", f"data.source={place.data}", f"checkpoint={checkpoints['bert']}"]
    words += ["engine.batch_size=8", "gate.min_rows=20", "gate.margin=0.2"]
    fixed = ["engine.learning_rate=0.01", "search.space.method.width=null"]
    scheduled = ["schedule", "schedule.id=weekly", *words, "drift.min_new_rows=10", "engine.epochs=4"]

    def champion() -> int:
        client = MlflowClient(f"sqlite:///{place.cwd}/mlflow.db")
        return int(client.get_registered_model("intent").aliases["champion"])

    place.write(splits(0, 160))
    swept = place.run("sweep", *words, *fixed, "search.trials=1", "engine.epochs=8")
    assert swept.code == 0, swept.out + swept.err
    place.write(splits(160, 120))
    units = f'schedule.target="{tmp_path / "units"}"'
    assert place.run(*scheduled, "schedule.on=systemd", units).code == 0
    done = place.run(*scheduled, "schedule.action=run")
    assert (done.code, champion()) == (0, 2), done.out + done.err

    place.write({"intent/train.jsonl": [{"body": "a good film", "label": "positive"}]})
    failed = place.run(*scheduled, "schedule.action=run")
    assert (failed.code, champion()) == (2, 2), failed.out + failed.err
    told = listed(place)
    assert "FAILED, exit code 2" in told
    (log,) = re.findall(r"^weekly: (.*)$", told, re.M)
    assert "train.jsonl:1" in Path(log).read_text("utf-8")


def held(place: Workplace) -> int:
    """Stop the clock of the command that runs, so that it does not end; return its process id."""
    process = int(until(lambda: (found := stamp(place)) and found["code"] is None and found["pid"], 60))
    until(lambda: "/_yaml." in Path(f"/proc/{process}/maps").read_text(), 30)  # Python is up, and imports
    os.kill(process, signal.SIGSTOP)
    return process


def test_two_at_once_one_runs_and_the_other_says_why_not(spot: Workplace) -> None:
    words = ["schedule", "schedule.action=run", *HARMLESS]
    first = spot.start(*words)
    process = held(spot)
    second = spot.run(*words)
    assert second.code == 75
    said = r"probe: not started, because the pass that began at [-\d]+ [:\d]+ \(process (\d+)\) still runs\.\n"
    assert (found := re.fullmatch(said, second.err)) and int(found[1]) == process
    os.kill(process, signal.SIGCONT)
    first.communicate(timeout=60)
    assert first.returncode == 0
    assert spot.run(*words).code == 2  # the lock is free, and the folder there


def test_a_command_whose_schedule_was_killed_keeps_the_others_out(spot: Workplace) -> None:
    words = ["schedule.action=run", *HARMLESS]
    first = spot.start("schedule", *words)
    process = held(spot)
    first.kill()
    first.communicate()
    assert spot.run("schedule", *words).code == 75
    os.kill(process, signal.SIGCONT)
    until(lambda: not Path(f"/proc/{process}").exists() or _state(process) == "Z", 60)
    shutil.rmtree(spot.cwd / "50% \\% it's $HOME")
    again = spot.run("schedule", "schedule.action=catch_up", NEW_YEAR, *HARMLESS)  # a pass that was cut off
    assert again.code == 0, again.err
    assert ended(spot)["code"] == 0


def _state(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture
def running() -> Iterator[list["subprocess.Popen[str]"]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def test_the_foreground_fires_and_ends_between_passes(spot: Workplace, running: list["subprocess.Popen[str]"]) -> None:
    process = spot.start("schedule", EVERY_MINUTE, "schedule.on=foreground", *HARMLESS)
    running.append(process)
    assert until(lambda: ended(spot), 90)["code"] == 0
    assert "foreground" in listed(spot)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert "probe: * * * * *, next " in said
    assert "probe: the pass is done. Next: " in said


def test_the_foreground_is_stopped_with_the_pass_that_runs(
    spot: Workplace, running: list["subprocess.Popen[str]"]
) -> None:
    words = ["schedule", "schedule.on=foreground", *HARMLESS]
    running.append(spot.start(*words, NEW_YEAR))
    until(lambda: (spot.cwd / "runs" / "schedule" / "probe" / "schedule.json").exists(), 30)
    running[0].send_signal(signal.SIGINT)
    running[0].communicate(timeout=30)
    backdate(spot)
    process = spot.start(*words, NEW_YEAR)
    running.append(process)
    command = held(spot)  # it was missed, so that it runs at once
    process.send_signal(signal.SIGTERM)
    time.sleep(1)
    assert process.poll() is None  # it waits for the command
    os.kill(command, signal.SIGCONT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert "one was missed, so now" in said
    assert "the pass was stopped; the champion stays" in said
    assert ended(spot)["code"] == 130


def test_what_comes_due_while_a_pass_runs_is_caught_up_once_in_the_foreground(
    spot: Workplace, running: list["subprocess.Popen[str]"]
) -> None:
    process = spot.start("schedule", EVERY_MINUTE, "schedule.on=foreground", *HARMLESS)
    running.append(process)
    until(lambda: stamp(spot), 90)
    first = held(spot)
    time.sleep(62)  # the next one comes due
    os.kill(first, signal.SIGCONT)
    until(lambda: (found := ended(spot)) and found["code"] == 2, 20)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert said.count("probe: due, but the last pass still runs; it is caught up once afterwards.") == 1
    assert process.returncode == 1, said  # the last pass had failed


def test_units_pass_systemds_own_check(spot: Workplace, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze (apt-get install systemd)")
    target = tmp_path / "units"
    for cron, name in [("0 3 * * 0", "weekly"), ("*/20 0-6/2 1,15 jan-mar *", "often"), ("0 3 1 * mon", "either")]:
        words = [*HARMLESS, f"schedule.id={name}", "schedule.on=systemd", f'schedule.target="{target}"']
        done = spot.run("schedule", f'schedule.cron="{cron}"', *words)
        assert done.code == 0, done.err
    names = sorted(path.name for path in target.iterdir())
    assert len(names) == 6
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(target / name) for name in names)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    (target / names[1]).write_text((target / names[1]).read_text().replace("OnCalendar=", "OnCalendar=Someday "))
    spoilt = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(target / names[1])], capture_output=True, text=True, check=False
    )
    assert "Someday" in spoilt.stderr  # it does read them


def test_make_hands_the_variables_on(spot: Workplace) -> None:
    done = spot.make(
        "schedule",
        "CRON=0 3 * * 0",
        "ON=systemd",
        "TASKS=sentiment",
        "ARGS=schedule.command=sweep schedule.target=units",
    )
    assert done.code == 0, done.err
    units = spot.cwd / "units"
    assert "OnCalendar=Sun *-*-* 03:00:00" in (units / "adapters-sentiment.timer").read_text()
    assert "tasks=[sentiment]" in (units / "adapters-sentiment.service").read_text()
    listing = spot.make("schedule", "ACTION=list")
    assert "systemd, not installed" in listing.out
    removed = spot.make("schedule", "ACTION=remove", "ID=sentiment")
    assert removed.code == 0, removed.err

"""`make schedule` with a crontab that is a file."""

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import jobs.schedule
from pipeline.clock.passes import Folder
from pipeline.config.overrides import CONF, read_command
from pipeline.config.schedule import ScheduleConfig
from pipeline.errors import ConfigError
from pipeline.reports.console import console
from pipeline.steps.schedule import absolute, id_of

OTHERS = "# mine\n0 1 * * * backup 100\\%\n"
CRONTAB = """#!/bin/sh
file="$(dirname "$0")/table"
case "$1" in
    -l) cat "$file" 2>/dev/null || { echo "no crontab for me" >&2; exit 1; } ;;
    -r) rm "$file" ;;
    -) cat > "$file" ;;
esac
"""


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The crontab; the working directory is beside it."""
    program = tmp_path / "bin" / "crontab"
    program.parent.mkdir()
    program.write_text(CRONTAB)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return program.parent / "table"


def schedule(*words: str) -> None:
    own, given = read_command("schedule", words)
    jobs.schedule.main(own, given, console())


def install(*arguments: str) -> None:
    schedule("schedule.command=sweep", 'schedule.cron="0 3 * * sun"', "tasks=[sentiment,ner]", *arguments)


def test_install_list_and_remove(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schedule("schedule.action=list")
    assert "No schedule is installed" in capsys.readouterr().out
    table.write_text(OTHERS)
    install()
    install("engine.epochs=2")
    written = table.read_text()
    assert written.startswith(OTHERS)
    assert written.count("\n0 3 * * 0 cd ") == written.count("\n@reboot cd ") == 1
    assert "engine.epochs=2" in written
    assert f"sqlite:///{table.parents[1]}/work/mlflow.db" in written
    assert "sentiment-ner: 0 3 * * 0, next Sunday" in capsys.readouterr().out
    schedule("schedule.action=list")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("sentiment-ner")]
    assert re.search(r"cron +0 3 \* \* 0 +sweep +never +\d{4}-\d\d-\d\d 03:00$", line.rstrip())
    schedule("schedule.action=remove", "tasks=[sentiment,ner]")
    assert table.read_text() == OTHERS
    schedule("schedule.action=list")
    assert "No schedule is installed" in capsys.readouterr().out.splitlines()[-1]
    with pytest.raises(ConfigError, match=r"ID: 'weekly' is no schedule that is installed\. Known: none"):
        schedule("schedule.action=remove", "schedule.id=weekly")


def test_a_crontab_that_was_not_there_is_gone_after_the_last_schedule(table: Path) -> None:
    install("schedule.id=weekly")
    assert table.exists()
    schedule("schedule.action=remove", "schedule.id=weekly")
    assert not table.exists()


def test_another_folder_has_a_schedule_of_its_own(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install()
    first = table.read_text()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    install()
    install("engine.epochs=2")
    both = table.read_text()
    assert both.startswith(first)
    assert len(re.findall("^# adapters: schedule sentiment-ner(?:-[0-9a-f]{4})?, by", both, re.M)) == 2
    schedule("schedule.action=remove", "tasks=[sentiment,ner]")
    assert table.read_text() == first
    monkeypatch.chdir(tmp_path / "work")
    schedule("schedule.action=remove", "tasks=[sentiment,ner]")
    assert not table.exists()


def test_an_id_that_another_folder_has_is_refused(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install("schedule.id=weekly")
    install("schedule.id=weekly", "engine.epochs=2")  # the same schedule, changed
    before = table.read_text()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    refused = (
        r"ID: 'weekly' is installed for cron already, from \S+/weekly\. Run: make schedule ACTION=remove ID=weekly"
    )
    with pytest.raises(ConfigError, match=refused):
        install("schedule.id=weekly")
    assert table.read_text() == before


def test_one_schedule_is_not_installed_in_two_places(table: Path, tmp_path: Path) -> None:
    units = tmp_path / "config" / "systemd" / "user"
    install("schedule.on=systemd", f'schedule.target="{units}"')  # where systemd looks for a user's units
    assert sorted(path.name for path in units.iterdir()) == [
        "adapters-sentiment-ner.service", "adapters-sentiment-ner.timer",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"is installed for systemd already\. Run: make schedule ACTION=remove ID="):
        install()
    assert not table.exists()


def test_nothing_is_installed_where_the_command_would_refuse(table: Path) -> None:
    for argument, message in [
        ("engine.epoch=2", "engine.epoch: is no config key"),
        ("schedule.command=nope", "COMMAND: 'nope' is no command that `schedule` runs"),
        ("schedule.command=schedule", "COMMAND: 'schedule' is no command that `schedule` runs"),
        ("COMMAND=submit", "COMMAND: 'submit' is no command that `schedule` runs"),
        ("manifests.name=lab", "manifests: is no config key"),
        ("schedule.target=here", "schedule.target: 'here' is not used"),
        ("schedule.keep=0", "schedule.keep: '0' must be between 1 and 10000. Set schedule.keep to a number"),
        ('schedule.cron="61 * * * *"', r"CRON: '61 \* \* \* \*' is no schedule of cron"),
        ("schedule.on=at", "ON: 'at' must be one of cron, systemd, kubernetes, foreground. Set ON=cron"),
        ("schedule.id=Weekly", "ID: 'Weekly' must be lower-case letters.*Set ID=weekly"),
        ("schedule.timezone=Mars/Olympus", "schedule.timezone: 'Mars/Olympus' is no time zone"),
    ]:
        with pytest.raises(ConfigError, match=message):
            install(argument)
    assert not table.exists()
    assert list(Path.cwd().iterdir()) == []


def test_without_cron_the_remedy_names_the_other_ways(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match=r"crontab: is not there\. Install cron .* say ON=systemd, or say ON=foregr"):
        install()


def test_places_are_absolute_and_come_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    given = ["tasks=[sentiment]", "data.source=data", "conf=own", "tracking.uri=sqlite:///m.db"]
    words = absolute(read_command("sweep", given)[0], given)
    assert f'conf="{tmp_path}/own"' in words
    (config,) = read_command("sweep", words)
    assert config.data.source == f"{tmp_path}/data"
    assert config.tracking.uri == f"sqlite:///{tmp_path}/m.db"
    assert config.tracking.artifacts == f"{tmp_path}/mlartifacts"
    assert config.runs == f"{tmp_path}/runs"
    away = ["tasks=[sentiment]", "data=hub", "tracking.uri=http://lab:5000"]
    assert absolute(read_command("sweep", away)[0], away)[2:] == [
        'tracking.uri="http://lab:5000"', f'runs="{tmp_path}/runs"',
    ]  # fmt: skip


def test_a_retraining_is_what_is_scheduled_where_nothing_else_is_said(table: Path) -> None:
    schedule('schedule.cron="0 3 * * 0"', "tasks=[ner]", "challenger.replay=0.5", "gate.margin=0.01")
    (line,) = [line for line in table.read_text().splitlines() if line.startswith("0 3 * * 0 ")]
    words = shlex.split(line)
    assert "challenger.replay=0.5" in words and "gate.margin=0.01" in words
    with pytest.raises(ConfigError, match=r"challenger\.replay: '2\.0' must"):
        schedule('schedule.cron="0 3 * * 0"', "tasks=[ner]", "challenger.replay=2")


def test_every_variable_reaches_the_command_or_is_refused_by_name(table: Path, tmp_path: Path) -> None:
    (tmp_path / "ck").mkdir()
    schedule("CRON=0 3 * * 0", f"DATA={tmp_path}/data", f"CHECKPOINT={tmp_path}/ck", "ID=weekly")
    words = shlex.split(table.read_text().splitlines()[2])
    assert f'data.source="{tmp_path}/data"' in words and f'checkpoint="{tmp_path}/ck"' in words
    with pytest.raises(ConfigError, match="METHOD: 'lora' is not used"):
        schedule("CRON=0 3 * * 0", "METHOD=lora", "ID=weekly")
    with pytest.raises(ConfigError, match=r"seed: '3' is not used by ACTION=list"):
        schedule("ACTION=list", "seed=3")
    with pytest.raises(ConfigError, match=r"seed: '3' is not used by ACTION=remove"):
        schedule("ACTION=remove", "tasks=[ner]", "seed=3")
    with pytest.raises(ConfigError, match="DATA: '/data' is not used by `schedule`"):
        schedule("ACTION=list", "DATA=/data")


@pytest.mark.commands
def test_a_crontab_line_that_was_written_before_the_one_door_still_runs(tmp_path: Path) -> None:
    place = tmp_path / "50% it's $HOME"
    place.mkdir()
    keys = {"id": "probe", "cron": "0 3 * * 0", "command": "manifests", "files": f"{place}/runs/schedule"}
    words = [sys.executable, "-m", "jobs.schedule", "schedule.action=run"]
    words += [f'schedule.{key}="{value}"' for key, value in keys.items()]
    line = shlex.join([*words, "schedule.keep=20", 'target="k8s"'])
    command = f"cd {shlex.quote(str(place))} && PYTHONPATH={shlex.quote(str(CONF.parent))} {line}"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (place / "k8s" / "mlflow.yaml").exists()
    stamp = Folder(path=place / "runs" / "schedule" / "probe").stamp
    assert stamp is not None and stamp.code == 0


@pytest.mark.parametrize("command", ["sweep", "compare", "retrain", "submit"])
def test_a_manifest_that_was_written_before_the_one_door_still_goes_in_by_it(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [f"jobs/{command}.py", "tasks=[ner]", "seeed=1"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"jobs.{command}", run_name="__main__", alter_sys=True)
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert "seeed: is no config key" in err


def test_a_name_is_made_of_the_tasks() -> None:
    own = ScheduleConfig()
    assert id_of(own, ["tasks=[sentiment/*,ner]"]) == "sentiment-ner"
    assert id_of(own, []) == "retrain"
    with pytest.raises(ConfigError, match="Give it one: ID=weekly"):
        id_of(own, ["tasks=[sentiment/movies,sentiment/books,ner]"])

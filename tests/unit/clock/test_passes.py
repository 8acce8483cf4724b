"""`make schedule` with a crontab that is a file, and passes that end well, badly, or not at all."""

import json
import os
import re
import shlex
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Timer

import pytest

from jobs.schedule import absolute, id_of, main
from pipeline.clock.passes import LOCKED, STOPPED, Folder, Pass, foreground
from pipeline.config import SweepConfig
from pipeline.config.cron import parse
from pipeline.config.overrides import read_command, read_config
from pipeline.errors import ConfigError
from pipeline.reports.console import console

OTHERS = "# mine\n0 1 * * * backup 100\\%\n"
WEEKLY = parse("0 3 * * 0")
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


def schedule(arguments: list[str]) -> None:
    own, given = read_command("schedule", arguments)
    main(own, given, console())


def install(*arguments: str) -> None:
    schedule(["schedule.command=sweep", 'schedule.cron="0 3 * * sun"', "tasks=[sentiment,ner]", *arguments])


def test_install_list_and_remove(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schedule(["schedule.action=list"])
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
    schedule(["schedule.action=list"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("sentiment-ner")]
    assert re.search(r"cron +0 3 \* \* 0 +sweep +never +\d{4}-\d\d-\d\d 03:00$", line.rstrip())
    schedule(["schedule.action=remove", "tasks=[sentiment,ner]"])
    assert table.read_text() == OTHERS
    schedule(["schedule.action=list"])
    assert "No schedule is installed" in capsys.readouterr().out.splitlines()[-1]
    with pytest.raises(ConfigError, match=r"ID: 'weekly' is no schedule that is installed\. Known: none"):
        schedule(["schedule.action=remove", "schedule.id=weekly"])


def test_a_crontab_that_was_not_there_is_gone_after_the_last_schedule(table: Path) -> None:
    install("schedule.id=weekly")
    assert table.exists()
    schedule(["schedule.action=remove", "schedule.id=weekly"])
    assert not table.exists()


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
        ("schedule.command=nope", "COMMAND: 'nope' is no command that can be scheduled"),
        ("schedule.command=schedule", "COMMAND: 'schedule' is no command that can be scheduled"),
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
    words = absolute(read_config("sweep", SweepConfig, given), given)
    assert f'conf="{tmp_path}/own"' in words
    config = read_config("sweep", SweepConfig, words)
    assert config.data.source == f"{tmp_path}/data"
    assert config.tracking.uri == f"sqlite:///{tmp_path}/m.db"
    assert config.tracking.artifacts == f"{tmp_path}/mlartifacts"
    assert config.runs == f"{tmp_path}/runs"
    away = ["tasks=[sentiment]", "data=hub", "tracking.uri=http://lab:5000"]
    assert absolute(read_config("sweep", SweepConfig, away), away)[2:] == [
        'tracking.uri="http://lab:5000"', f'runs="{tmp_path}/runs"',
    ]  # fmt: skip


def test_a_retraining_is_what_is_scheduled_where_nothing_else_is_said(table: Path) -> None:
    schedule(['schedule.cron="0 3 * * 0"', "tasks=[ner]", "challenger.replay=0.5", "gate.margin=0.01"])
    (line,) = [line for line in table.read_text().splitlines() if line.startswith("0 3 * * 0 ")]
    words = shlex.split(line)
    assert "challenger.replay=0.5" in words and "gate.margin=0.01" in words
    with pytest.raises(ConfigError, match=r"challenger\.replay: '2\.0' must"):
        schedule(['schedule.cron="0 3 * * 0"', "tasks=[ner]", "challenger.replay=2"])


def test_a_name_is_made_of_the_tasks() -> None:
    own = read_command("schedule", [])[0]
    assert id_of(own, ["tasks=[sentiment/*,ner]"]) == "sentiment-ner"
    assert id_of(own, []) == "retrain"
    with pytest.raises(ConfigError, match="Give it one: ID=weekly"):
        id_of(own, ["tasks=[sentiment/movies,sentiment/books,ner]"])


def one(folder: Path, code: str, keep: int = 20) -> Pass:
    return Pass("weekly", Folder(path=folder), [sys.executable, "-c", code], keep)


def test_a_pass_leaves_its_log_and_how_it_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert one(tmp_path, "print('fine')").run() == 0
    stamp = Folder(path=tmp_path).stamp
    assert stamp is not None and stamp.code == 0 and stamp.ended is not None and stamp.ended >= stamp.began
    assert Path(stamp.log).read_text().startswith("fine\n")
    assert capsys.readouterr().err == ""  # cron would mail it
    assert one(tmp_path, "import sys; sys.exit('no such data')").run() == 1
    said = capsys.readouterr().err
    assert "weekly: the pass failed, exit code 1; the champion stays." in said
    assert "no such data" in said
    assert one(tmp_path, "import os; os.kill(os.getpid(), 9)").run() == 137


def test_only_the_newest_logs_stay(tmp_path: Path) -> None:
    for day in range(4):
        (tmp_path / f"2026010{day}T000000Z.log").touch()
    one(tmp_path, "", keep=2).run()
    names = sorted(path.name for path in tmp_path.glob("*.log"))
    assert len(names) == 2 and names[0] == "20260103T000000Z.log"


def test_a_second_pass_is_not_started_and_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Folder(path=tmp_path).locked() as lock:
        assert lock is not None
        assert one(tmp_path, "open('ran', 'w')").run() == LOCKED
        assert Folder(path=tmp_path).busy
    assert "weekly: not started, because another pass still runs." in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_missed_pass_is_caught_up_once(tmp_path: Path) -> None:
    folder, missed = Folder(path=tmp_path), (WEEKLY, UTC)
    now = datetime.now(UTC)
    folder.describe({"created": now.isoformat()})
    assert one(tmp_path, "").run(missed) == 0
    assert folder.stamp is None  # it was not due
    folder.describe({"created": (now - timedelta(weeks=5)).isoformat()})
    assert one(tmp_path, "").run(missed) == 0
    first = folder.stamp
    assert first is not None
    assert one(tmp_path, "").run(missed) == 0
    assert folder.stamp == first  # five were missed, one was run
    cut_off = json.loads((tmp_path / "stamp.json").read_text()) | {"code": None, "ended": None}
    (tmp_path / "stamp.json").write_text(json.dumps(cut_off))
    assert one(tmp_path, "").run(missed) == 0
    assert folder.stamp != first and folder.stamp is not None and folder.stamp.code == 0


def test_a_pass_is_stopped_as_by_ctrl_c(tmp_path: Path) -> None:
    lines = ["import time", "try:", "    print('up')", "    time.sleep(60)", "except KeyboardInterrupt:"]
    waiting = one(tmp_path, "\n".join([*lines, "    print('saved')", "    raise"]))

    def stop() -> None:
        while not any("up" in log.read_text() for log in tmp_path.glob("*.log")):
            time.sleep(0.05)
        waiting.stop()

    Timer(0, stop).start()
    assert waiting.run() == STOPPED
    stamp = Folder(path=tmp_path).stamp
    assert stamp is not None and "saved" in Path(stamp.log).read_text()
    assert waiting.run() == STOPPED  # nothing more is begun


def test_the_foreground_runs_what_was_missed_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Folder(path=tmp_path).describe({"created": (datetime.now(UTC) - timedelta(weeks=5)).isoformat()})
    runs = one(tmp_path, "open('count', 'a').write('x')")

    def stop() -> None:
        while (stamp := runs.folder.stamp) is None or stamp.code is None:
            time.sleep(0.05)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGTERM)

    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        Timer(0, stop).start()
        assert foreground(runs, WEEKLY, UTC) == 0
    finally:
        os.chdir(before)
    assert (tmp_path / "count").read_text() == "x"
    said = capsys.readouterr().err
    assert "one was missed, so now" in said and "the pass is done. Next: " in said

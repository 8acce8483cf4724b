"""`make schedule`: a command at the times of CRON, by cron, systemd, Kubernetes, or a process that stays.

What is installed calls this command again with `schedule.action=run`, which holds the schedule's lock, keeps the log
below `runs/schedule/<id>/`, and ends as the command does. Exit codes of a pass: those of the command; 75 not started,
because the last pass still runs; 130 stopped. In the foreground: 0 ended between passes, 1 the last one had failed.
"""

import re
import signal
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from runpy import run_module
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.clock import crontab as timers
from pipeline.clock.passes import Folder, Pass, foreground, zone_of
from pipeline.clock.schedule import Schedule, outcome
from pipeline.config.commands import ManifestsConfig, commands_from, quoted
from pipeline.config.cron import Cron, parse
from pipeline.config.overrides import CONF, read_command, read_config
from pipeline.config.schedule import LONGEST_ID, ScheduleConfig
from pipeline.config.strict import nearest
from pipeline.errors import BundleError, ConfigError, Fault, Faults
from pipeline.files import new_folder

_OURS, _CLUSTER = "schedule.", "manifests."


def main(own: ScheduleConfig, words: Sequence[str], console: Console) -> None:
    """Do what is asked for; leave with the exit code of a pass."""
    cluster = [word.removeprefix(_CLUSTER) for word in words if word.startswith(_CLUSTER)]
    given = [word for word in words if not word.startswith(_CLUSTER)]
    if own.action == "list":
        show(own)
    elif own.action == "remove":
        remove(own, own.id or id_of(own, given))
    elif own.action == "install":
        install(own, given, cluster)
    else:
        cron, one = parse(own.cron), pass_of(own, own.id or id_of(own, given), given)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, frame: one.stop())
        missed = (cron, zone_of(own.timezone)) if own.action == "catch_up" else None
        sys.exit(one.run(missed))


def id_of(own: ScheduleConfig, given: Sequence[str]) -> str:
    """The name of a schedule that was given none: its tasks, or its command."""
    tasks = [argument.partition("=")[2] for argument in given if argument.startswith("tasks=")]
    name = re.sub("[^a-z0-9]+", "-", (tasks or [own.command])[-1].lower()).strip("-") or own.command
    if len(name) > LONGEST_ID or not name[0].isalpha():
        rule = "makes no name of a schedule"
        raise ConfigError(Fault(where="TASKS", value=name, rule=rule, remedy="Give it one: ID=weekly"))
    return name


def install(own: ScheduleConfig, given: Sequence[str], cluster: Sequence[str]) -> None:
    """Check what the command is given as it would itself, and hand it to what watches the clock."""
    cron = parse(own.cron)
    if own.on == "kubernetes":
        write_manifests(own, own.id or id_of(own, given), cron, given, cluster)
        return
    config = checked(own, given)
    name, words = own.id or id_of(own, given), absolute(config, given)
    folder = Folder(path=Path(own.files).absolute() / name)
    found = timers.all_installed()
    for other in {"cron", "systemd"} - {own.on}:
        if name in found[other]:
            rule, remedy = f"is installed for {other} already", f"Run: make schedule ACTION=remove ID={name}"
            raise ConfigError(Fault(where="ID", value=name, rule=rule, remedy=remedy))
    made = described(own, name, cron, words, folder)
    if own.on == "systemd" and own.target is not None:
        timers.write_units(made, Path(own.target))
        said = [f"Units are in {own.target}; they are not installed."]
    elif own.on == "systemd":
        said = timers.add_units(made, timers.scope_of(own.systemd))
    elif own.on == "cron":
        said = timers.add_to_crontab(made)
    created = folder.description.get("created") if own.on == "foreground" else None  # what it missed while it was off
    folder.describe(
        {
            "on": own.on,
            "cron": str(cron),
            "timezone": own.timezone,
            "command": own.command,
            "arguments": words,
            "created": created or datetime.now().astimezone().isoformat(),
        }
    )
    if own.on == "foreground":
        sys.exit(foreground(pass_of(own, name, words), cron, zone_of(own.timezone)))
    console = _console()
    console.print(f"{name}: {cron}, next {cron.next(datetime.now(zone_of(own.timezone))):%A, %Y-%m-%d %H:%M %Z}")
    for line in [*said, f"Logs: {folder.path}", "make schedule ACTION=list shows how the last pass ended."]:
        console.print(line, markup=False)


def checked(own: ScheduleConfig, given: Sequence[str]) -> Any:
    """Read the command's own config.

    Raises:
        ConfigError: What the command would refuse; or it is none that can be scheduled.
    """
    if own.command not in (known := commands_from("schedule")):
        rule, remedy = "is no command that can be scheduled", nearest(own.command, known)
        raise ConfigError(Fault(where="COMMAND", value=own.command, rule=rule, remedy=remedy))
    (config,) = read_command(own.command, given)
    return config


def absolute(config: Any, given: Sequence[str]) -> list[str]:
    """The overrides, and after them the places that these and the config name, as absolute paths."""
    words = []
    for argument in given:
        key, _, value = argument.partition("=")
        folder = Path(value.strip("\"'")).expanduser()
        words.append(
            f"{key}={quoted(str(folder.resolve()))}" if key in ("conf", "checkpoint") and folder.is_dir() else argument
        )
    places = {}
    if hasattr(config, "tracking"):
        kind, local, file = config.tracking.uri.partition("sqlite:///")
        places["tracking.uri"] = f"{local}{_placed(file)}" if local else kind
        places |= {"tracking.artifacts": _placed(config.tracking.artifacts)} if local else {}
    if hasattr(config, "data") and config.data.source not in ("starter", "hub"):
        places["data.source"] = _placed(config.data.source)
    if hasattr(config, "runs"):
        places["runs"] = _placed(config.runs)
    kept = [word for word in words if word.partition("=")[0].lstrip("+") not in places]
    return [*kept, *(f"{key}={quoted(place)}" for key, place in places.items())]


def _placed(path: str) -> str:
    return str(Path(path).expanduser().absolute())


def described(own: ScheduleConfig, name: str, cron: Cron, words: Sequence[str], folder: Folder) -> Schedule:
    """The schedule, with the command lines that are to be installed."""
    settings = {"id": name, "cron": str(cron), "command": own.command, "files": str(folder.path.parent)}
    settings |= {"timezone": own.timezone} if own.timezone else {}
    keys = [f"{_OURS}{key}={quoted(value)}" for key, value in settings.items()]
    start = [sys.executable, "-m", "jobs", "schedule"]
    rest = [*keys, f"{_OURS}keep={own.keep}", *words]
    return Schedule(
        id=name,
        on=own.on,
        cron=cron,
        timezone=own.timezone,
        words=[*start, f"{_OURS}action=run", *rest],
        missed=[*start, f"{_OURS}action=catch_up", *rest],
        path=str(CONF.parent),
        cwd=str(Path.cwd()),
        files=str(folder.path),
    )


def pass_of(own: ScheduleConfig, name: str, words: Sequence[str]) -> Pass:
    """A pass of the schedule in this process."""
    folder = Folder(path=Path(own.files).absolute() / name)
    return Pass(name, folder, [sys.executable, "-m", "jobs", own.command, *words], own.keep)


def remove(own: ScheduleConfig, name: str) -> None:
    """Take a schedule out of the crontab and of systemd; its logs stay."""
    places = {on: found[name] for on, found in timers.all_installed().items() if name in found}
    folder = Folder(path=Path(next(iter(places.values()), Path(own.files).absolute() / name)))
    if not places and not folder.description:
        known = sorted({one for found in timers.all_installed().values() for one in found})
        rule = "is no schedule that is installed"
        raise ConfigError(Fault(where="ID", value=name, rule=rule, remedy=nearest(name, known)))
    timers.remove_from_crontab(name)
    timers.remove_units(name)
    folder.describe(None)
    busy = " A pass still runs." if folder.busy else ""
    _console().print(f"{name}: removed; its logs stay in {folder.path}.{busy}", markup=False)


def show(own: ScheduleConfig) -> None:
    """List the schedules: what is installed for this user, and what runs in the foreground from this folder."""
    folders: dict[str, tuple[str, Folder]] = {}
    for file in sorted(Path(own.files).absolute().glob("*/schedule.json")):
        on = str(Folder(path=file.parent).description["on"])
        folders[file.parent.name] = (on if on == "foreground" else f"{on}, not installed", Folder(path=file.parent))
    for on, found in timers.all_installed().items():
        folders |= {name: (on, Folder(path=Path(path))) for name, path in found.items()}
    console = _console()
    if not folders:
        console.print("No schedule is installed. Begin with: make schedule CRON='0 3 * * 0' TASKS=...", markup=False)
        return
    table = Table(box=None, pad_edge=False)
    for column in ("id", "on", "cron", "command", "last pass", "outcome", "next"):
        table.add_column(column, overflow="fold")
    for name, (on, folder) in sorted(folders.items()):
        table.add_row(*_row(name, on, folder))
    console.print(table)
    for name, (_, folder) in sorted(folders.items()):
        if (stamp := folder.stamp) is not None:
            console.print(f"{name}: {stamp.log}", markup=False)


def _row(name: str, on: str, folder: Folder) -> list[str]:
    description, stamp = folder.description, folder.stamp
    cron = str(description.get("cron", ""))
    following = ""
    if cron and "not installed" not in on:
        following = f"{parse(cron).next(datetime.now(zone_of(description.get('timezone')))):%Y-%m-%d %H:%M}"
    last = f"{stamp.began:%Y-%m-%d %H:%M:%S}" if stamp else "never"
    how = outcome(stamp, running=folder.busy)
    return [name, on, cron, str(description.get("command", "")), last, how, following]


def write_manifests(own: ScheduleConfig, name: str, cron: Cron, given: Sequence[str], settings: Sequence[str]) -> None:
    """Write the files for kubectl, of which one is to be applied."""
    from jobs import submit  # here: it reads data, and loads torch for that
    from jobs.manifests import text
    from pipeline.kubernetes.cronjobs import cron_job, ray_cron_job, submission

    config = read_config("manifests", ManifestsConfig, list(settings))
    faults = Faults()
    with faults.gathered():
        words = submission(config, own.command, given)
        submit.prepare(*read_command("submit", words))
    faults.raise_any()
    files: Mapping[str, Any] = {
        "cronjob.yaml": cron_job(config, own, name, cron, given),
        "raycronjob.yaml": ray_cron_job(config, own, name, cron, given, version("ray")),
    }
    target = Path(own.target or f"schedule-{name}")
    try:
        with new_folder(target) as folder:
            for file, manifest in files.items():
                (folder / file).write_text(text([manifest]), "utf-8")
    except (BundleError, OSError) as error:
        rule = f"cannot be written ({error})" if isinstance(error, OSError) else error.faults[0].rule
        remedy = "Give another folder: ARGS=schedule.target=<folder>"
        raise ConfigError(Fault(where="schedule.target", value=str(target), rule=rule, remedy=remedy)) from error
    console = _console()
    console.print("One of the two, after `make manifests` and what it says:", markup=False)
    console.print(
        f"  kubectl apply -f {target}/cronjob.yaml      # on the cluster that stays (cluster.yaml)", markup=False
    )
    console.print(
        f"  kubectl apply -f {target}/raycronjob.yaml   # a cluster a pass; KubeRay's gate RayCronJob, alpha,"
    )
    console.print(
        "                                              # which lets passes overlap: the registry's lock decides"
    )


def _console() -> Console:
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 200
    return console


if __name__ == "__main__":  # a crontab of before the one door calls this file: one release
    sys.argv.insert(1, "schedule")
    run_module("jobs", run_name="__main__", alter_sys=True)

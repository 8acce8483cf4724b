"""A schedule is installed, listed, removed, or run: by cron, systemd, Kubernetes, or a process that stays."""

import hashlib
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.clock.crontab import add_to_crontab, read_crontab, remove_from_crontab
from pipeline.clock.passes import Folder, Pass, foreground, zone_of
from pipeline.clock.schedule import Schedule, installed, outcome
from pipeline.clock.systemd import add_units, installed_units, remove_units, scope_of, write_units
from pipeline.config.commands import ManifestsConfig
from pipeline.config.cron import Cron, parse
from pipeline.config.overrides import CONF, pairs, read_command, read_config
from pipeline.config.schedule import LONGEST_CRONJOB, LONGEST_ID, ScheduleConfig
from pipeline.config.strict import nearest
from pipeline.config.typed import quoted
from pipeline.errors import ConfigError, Faults, fault

_CLUSTER = "manifests."


def id_of(own: ScheduleConfig, given: Sequence[str]) -> str:
    """The name of a schedule: the one that it was given, or else its tasks, or its command."""
    if own.id:
        return own.id
    tasks = [argument.partition("=")[2] for argument in given if argument.startswith("tasks=")]
    name = re.sub("[^a-z0-9]+", "-", (tasks or [own.command])[-1].lower()).strip("-") or own.command
    if len(name) > LONGEST_ID or not name[0].isalpha():
        raise ConfigError(fault("TASKS", name, "makes no name of a schedule", "Give it one: ID=weekly"))
    return name


def named(own: ScheduleConfig, given: Sequence[str]) -> str:
    """The id of a schedule of this folder: one that another folder has installed already gets a number behind it."""
    name = id_of(own, given)
    if own.id:
        return name
    here = str(Path(own.files).absolute())
    found = {id: place for places in all_installed().values() for id, place in places.items()}
    mine = f"{name[: LONGEST_ID - 5]}-{hashlib.sha256(here.encode()).hexdigest()[:4]}"
    if mine in found:
        return mine
    return name if str(Path(found.get(name, f"{here}/{name}")).parent) == here else mine


def install(own: ScheduleConfig, given: Sequence[str], console: Console) -> None:
    """Check what the command is given as it would itself, and hand it to what watches the clock."""
    cron, name = parse(own.cron), id_of(own, given) if own.on == "kubernetes" else named(own, given)
    if own.on == "kubernetes":
        write_manifests(own, name, cron, given, console)
        return
    words = absolute(read_command(own.command, given)[0], given)
    folder = folder_of(own, name)
    for on, found in all_installed().items():
        place = found.get(name, folder.path)
        if Path(place) != folder.path or (on != own.on and name in found):
            rule = f"is installed for {on} already" + ("" if Path(place) == folder.path else f", from {place}")
            raise ConfigError(fault("ID", name, rule, f"Run: make schedule ACTION=remove ID={name}"))
    made = described(own, name, cron, words, folder)
    if own.on == "systemd" and own.target is not None:
        write_units(made, Path(own.target))
        said = [f"Units are in {own.target}; they are not installed."]
    elif own.on == "systemd":
        said = add_units(made, scope_of(own.systemd))
    elif own.on == "cron":
        said = add_to_crontab(made)
    created = folder.description.get("created") if own.on == "foreground" else None  # what it missed while it was off
    created = created or datetime.now().astimezone().isoformat()
    description = {"on": own.on, "cron": str(cron), "timezone": own.timezone, "command": own.command}
    folder.describe({**description, "arguments": words, "created": created})
    if own.on == "foreground":
        sys.exit(foreground(pass_of(own, name, words), cron, zone_of(own.timezone)))
    next_time = f"{cron.next(datetime.now(zone_of(own.timezone))):%A, %Y-%m-%d %H:%M %Z}"
    for line in [f"{name}: {cron}, next {next_time}", *said, f"Logs: {folder.path}"]:
        console.print(line, soft_wrap=True)
    console.print("make schedule ACTION=list shows how the last pass ended.")


def all_installed() -> dict[str, Mapping[str, str]]:
    """`cron` and `systemd` -> id -> folder, of what is installed."""
    return {"cron": installed(read_crontab()), "systemd": installed_units()}


def absolute(config: Any, given: Sequence[str]) -> list[str]:
    """The overrides, and after them the places that these and the config name, as absolute paths."""
    words = []
    for argument, (key, value) in zip(given, pairs(given), strict=True):
        folder = Path(value).expanduser()
        placed = key in ("conf", "checkpoint") and folder.is_dir()
        words.append(f"{key}={quoted(str(folder.resolve()))}" if placed else argument)
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


def folder_of(own: ScheduleConfig, name: str) -> Folder:
    """What a schedule of this working directory keeps on disk."""
    return Folder(path=Path(own.files).absolute() / name)


def described(own: ScheduleConfig, name: str, cron: Cron, words: Sequence[str], folder: Folder) -> Schedule:
    """The schedule, with the command lines that are to be installed."""
    settings = {"id": name, "cron": str(cron), "command": own.command, "files": str(folder.path.parent)}
    settings |= {"timezone": own.timezone} if own.timezone else {}
    keys = [f"schedule.{key}={quoted(value)}" for key, value in settings.items()]
    start = [sys.executable, "-m", "jobs", "schedule"]
    rest = [*keys, f"schedule.keep={own.keep}", *words]
    return Schedule(
        id=name,
        cron=cron,
        timezone=own.timezone,
        words=[*start, "schedule.action=run", *rest],
        missed=[*start, "schedule.action=catch_up", *rest],
        path=str(CONF.parent),
        cwd=str(Path.cwd()),
        files=str(folder.path),
    )


def pass_of(own: ScheduleConfig, name: str, words: Sequence[str]) -> Pass:
    """A pass of the schedule in this process."""
    return Pass(name, folder_of(own, name), [sys.executable, "-m", "jobs", own.command, *words], own.keep)


def run(own: ScheduleConfig, given: Sequence[str]) -> int:
    """Run a pass, or only if one was missed; SIGTERM and Ctrl-C stop it. Returns its exit code."""
    one = pass_of(own, id_of(own, given), given)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: one.stop())
    return one.run((parse(own.cron), zone_of(own.timezone)) if own.action == "catch_up" else None)


def remove(own: ScheduleConfig, given: Sequence[str], console: Console) -> None:
    """Take a schedule out of the crontab and of systemd; its logs stay."""
    name, places = named(own, given), all_installed()
    paths = [found[name] for found in places.values() if name in found]
    folder = Folder(path=Path(paths[0])) if paths else folder_of(own, name)
    if not paths and not folder.description:
        known = sorted({one for found in places.values() for one in found})
        raise ConfigError(fault("ID", name, "is no schedule that is installed", nearest(name, known)))
    remove_from_crontab(name)
    remove_units(name)
    folder.describe(None)
    busy = " A pass still runs." if folder.busy else ""
    console.print(f"{name}: removed; its logs stay in {folder.path}.{busy}", soft_wrap=True)


def show(own: ScheduleConfig, console: Console) -> None:
    """List the schedules: what is installed for this user, and what runs in the foreground from this folder."""
    folders: dict[str, tuple[str, Folder]] = {}
    for file in sorted(Path(own.files).absolute().glob("*/schedule.json")):
        on = str(Folder(path=file.parent).description.get("on", ""))
        folders[file.parent.name] = (on if on == "foreground" else f"{on}, not installed", Folder(path=file.parent))
    for on, found in all_installed().items():
        folders |= {name: (on, Folder(path=Path(path))) for name, path in found.items()}
    if not folders:
        console.print("No schedule is installed. Begin with: make schedule CRON='0 3 * * 0' TASKS=...")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("id", "on", "cron", "command", "last pass", "outcome", "next"):
        table.add_column(column, overflow="fold")
    logs = []
    for name, (on, folder) in sorted(folders.items()):
        description, stamp = folder.description, folder.stamp
        cron, following = str(description.get("cron", "")), ""
        if cron and "not installed" not in on:
            following = f"{parse(cron).next(datetime.now(zone_of(description.get('timezone')))):%Y-%m-%d %H:%M}"
        last = f"{stamp.began:%Y-%m-%d %H:%M:%S}" if stamp else "never"
        how = outcome(stamp, running=folder.busy)
        table.add_row(name, on, cron, str(description.get("command", "")), last, how, following)
        logs += [f"{name}: {stamp.log}"] if stamp else []
    console.print(table)
    for line in logs:
        console.print(line, soft_wrap=True)


def write_manifests(own: ScheduleConfig, name: str, cron: Cron, given: Sequence[str], console: Console) -> None:
    """Write the files for kubectl, of which one is to be applied."""
    from pipeline.kubernetes.files import write
    from pipeline.kubernetes.manifests import cron_job, ray_cron_job, submission
    from pipeline.steps.ship import rewrite  # here: it reads data, and loads torch for that

    settings = [word.removeprefix(_CLUSTER) for word in given if word.startswith(_CLUSTER)]
    given = [word for word in given if not word.startswith(_CLUSTER)]
    config = read_config("manifests", ManifestsConfig, settings)
    faults = Faults()
    with faults.gathered():
        if len(whole := f"{config.name}-{name}") > LONGEST_CRONJOB:
            rule = f"is longer than the {LONGEST_CRONJOB} characters that Kubernetes takes for a CronJob"
            raise ConfigError(fault("ID", whole, rule, "Give a shorter one, ID=weekly, or a shorter manifests.name"))
    with faults.gathered():
        rewrite(*read_command("submit", submission(config, own.command, given)))
    faults.raise_any()
    target = Path(own.target or f"schedule-{name}")
    files = {
        "cronjob.yaml": [cron_job(config, own, name, cron, given)],
        "raycronjob.yaml": [ray_cron_job(config, own, name, cron, given, version("ray"))],
    }
    write(target, files, "schedule.target")
    cluster, gate = "on the cluster that stays (cluster.yaml)", "KubeRay's gate RayCronJob, alpha,"
    for line in (
        "One of the two, after `make manifests` and what it says:",
        f"  kubectl apply -f {target}/cronjob.yaml      # {cluster}",
        f"  kubectl apply -f {target}/raycronjob.yaml   # a cluster a pass; {gate}",
        "                                              # which lets passes overlap: the registry's lock decides",
    ):
        console.print(line, soft_wrap=True)

"""A sweep's own folder below `runs/`: its config, so that it can be resumed, and the log of what libraries say."""

import dataclasses
import json
import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from rich.console import Console

from pipeline.config import CompareConfig, RetrainConfig, SweepConfig, recorded
from pipeline.config.overrides import read_config
from pipeline.config.strict import build, nearest
from pipeline.config.training import stored_method
from pipeline.core.engine.trials import Job
from pipeline.errors import ConfigError, DataError, Fault, PipelineError, SweepError, disk_full, fault
from pipeline.files import new_folder
from pipeline.reports.console import logged, quiet
from pipeline.tracking.fields import flatten

C = TypeVar("C", bound=SweepConfig)
_PACKAGES = ("torch", "transformers", "ray", "mlflow", "hydra-core", "datasets", "optuna", "peft", "sacrebleu")
_CONFIG = "sweep.json"
_ALIVE = "alive"
"""A file that is there while the command runs, and locked by it: behind one that was killed it stays, unlocked."""
_ENDING_S = 3.0  # in which a command that was stopped has let go of its folder
_LAYOUT = 2
"""Of what a sweep keeps in its folder. 1, where none is named: what trials keep names modules that have moved."""
_FREE = ("resume", "runs", "dryrun", "cluster", "task", "contenders")
"""Config keys that may differ when a sweep is resumed; the tasks' descriptions are taken from the stored one."""
_NEVER = 1 - 1e-6
"""A first rung that only a trial's last epoch reaches, so that none is pruned."""
_NAMES = {"tasks": "TASKS", "data.source": "DATA"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Workspace:
    """The folder of one sweep."""

    folder: Path

    @property
    def id(self) -> str:
        """The sweep's id, which RESUME takes."""
        return self.folder.name

    @property
    def log_file(self) -> Path:
        """Where the chatter of Ray, MLflow and transformers goes."""
        return self.folder / "log.txt"


def command_of(config: SweepConfig) -> str:
    """What `make` calls the command that has such a config."""
    if isinstance(config, RetrainConfig):
        return "retrain"
    return "compare" if isinstance(config, CompareConfig) else "sweep"


def resumed(config: C) -> C:
    """Take the settings of the stored sweep or comparison; a new one's config comes back as it is.

    What changes no result may be given anew: where the trials run (`cluster`), and whether to dry-run only.

    Raises:
        ConfigError: There is no such sweep, or the command line wants other settings than it has.
    """
    if config.resume is None:
        return config
    runs = Path(config.runs)
    file = runs / config.resume / _CONFIG
    if not file.is_file():
        known = sorted(path.parent.name for path in runs.glob(f"*/{_CONFIG}"))
        raise ConfigError(fault("RESUME", config.resume, f"is no sweep in {runs}/", nearest(config.resume, known)))
    try:
        values = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        rule, remedy = f"has a {_CONFIG} that cannot be read ({error})", "Restore the file, or start a new sweep"
        raise ConfigError(fault("RESUME", config.resume, rule, remedy)) from error
    if values.get("layout", 1) != _LAYOUT:
        rule = "was begun by an earlier version of the pipeline, whose files this one cannot go on with"
        remedy = "Go on with that version, or start a new sweep without RESUME"
        raise ConfigError(fault("RESUME", config.resume, rule, remedy))
    command, its_own = command_of(config), values.get("command", "sweep")
    if its_own != command:
        rule, remedy = f"is no {command}", f"Go on with: make {its_own} RESUME={config.resume}"
        raise ConfigError(fault("RESUME", config.resume, rule, remedy))
    stored = build(type(config), _as_stored(values["config"]))
    default = read_config(command, type(config), [])
    faults = list(_changes(config, stored, default))
    if faults:
        raise ConfigError(faults)
    cluster = stored.cluster if config.cluster == default.cluster else config.cluster
    return dataclasses.replace(stored, resume=config.resume, runs=config.runs, dryrun=config.dryrun, cluster=cluster)


def _as_stored(values: dict[str, Any]) -> dict[str, Any]:
    """A stored config, with what settings meant that it lacks."""
    contenders = values.get("contenders", {})
    for one in (values, *contenders.values()):
        one["method"] = stored_method(one["method"])
    if (first := values["search"].get("first_rung", 0)) >= 1:  # which was a number of epochs
        values["search"]["first_rung"] = min(first / values["engine"]["epochs"], _NEVER)
    return values


def _changes(config: SweepConfig, stored: SweepConfig, default: SweepConfig) -> Iterator[Fault]:
    """One fault for every setting that the command line gives and the stored sweep has otherwise."""
    now, before, without = (_settings(one) for one in (config, stored, default))
    for key in now:
        if now[key] not in (before.get(key), without.get(key)):
            rule = f"is another value than that of sweep {config.resume} ({_shown(before.get(key))})"
            remedy = "Leave it out: a resumed sweep takes its settings from the interrupted one"
            yield fault(_NAMES.get(key, key), _shown(now[key]), rule, remedy)


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _settings(config: SweepConfig) -> dict[str, Any]:
    """What a resumed sweep must have as it was, by dotted key."""
    return flatten({key: value for key, value in dataclasses.asdict(config).items() if key not in _FREE})


def open_workspace(config: SweepConfig, jobs: Sequence[Job], checkpoint_sha256: str, reading: str) -> Workspace:
    """Make the folder of a new sweep, or open that of the resumed one.

    Args:
        config: Of the sweep.
        jobs: With their rows.
        checkpoint_sha256: Of the weights.
        reading: `Checkpoint.reading`, of tokenizer and config.

    Raises:
        ConfigError: The folder cannot be written.
        DataError: The rows, their order or the checkpoint are not those that the resumed sweep began with.
    """
    facts = {"checkpoint": checkpoint_sha256} | {job.name: job.dataset.fingerprints for job in jobs}
    orders = {job.name: job.dataset.order for job in jobs}
    if config.resume is not None:
        folder = Path(config.runs) / config.resume
        values = json.loads((folder / _CONFIG).read_text("utf-8"))
        # Sweeps of before kept neither orders nor what a checkpoint reads.
        stored, before, read = values["facts"], values.get("orders", {}), values.get("reading", reading)
        rule = ""
        if changed := [name for name in facts if stored.get(name) != facts[name]]:
            rule = f"began with other contents of {', '.join(changed)}"
        elif read != reading:
            rule = "began with the same weights and another tokenizer or config.json"
        elif moved := [name for name in orders if before.get(name, orders[name]) != orders[name]]:
            rule = f"began with the rows of {', '.join(moved)} in another order, in which batches take them"
        if rule:
            raise DataError(fault("RESUME", config.resume, rule, "Restore them, or start a new sweep without RESUME"))
        with _written(config):
            (folder / _ALIVE).touch()
        return Workspace(folder=folder)
    folder = Path(config.runs) / f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    values = {"layout": _LAYOUT, "command": command_of(config), "config": recorded(config)}
    values |= {"facts": facts, "orders": orders, "reading": reading}
    with _written(config), new_folder(folder) as draft:
        (draft / _CONFIG).write_text(json.dumps(values, indent=2) + "\n", "utf-8")
    return Workspace(folder=folder)


@contextmanager
def _written(config: SweepConfig) -> Iterator[None]:
    """Turn what the system says of the folder of runs into an error that names it."""
    try:
        yield
    except OSError as error:
        rule, remedy = f"cannot be written ({error.strerror})", "Set runs to a folder that can be written"
        raise ConfigError(fault("runs", config.runs, rule, remedy)) from error


@contextmanager
def running(workspace: Workspace, config: SweepConfig) -> Iterator[Console]:
    """Send what libraries say to the log; yield a console, on which an end before the end says how to go on.

    Where trials run in this process, standard output stays as it is: a debugger needs it.

    Raises:
        ConfigError: Another command is at it.
    """
    alive = workspace.folder / _ALIVE
    kept = logged if config.cluster.name == "here" else quiet
    try:
        lock = FileLock(alive).acquire(timeout=_ENDING_S)
    except Timeout as error:
        rule, remedy = "is running: another command is at it", "Wait for that one, or stop it with Ctrl-C"
        raise ConfigError(fault("RESUME", workspace.id, rule, remedy)) from error
    with lock, kept(workspace.log_file) as shown:
        try:
            yield shown
        except BaseException as error:
            where = "" if config.runs == "runs" else f" ARGS='runs={config.runs}'"
            how = "Interrupted" if isinstance(error, KeyboardInterrupt) else "Stopped"
            on = f"Go on with: make {command_of(config)} RESUME={workspace.id}{where}"
            if isinstance(config, RetrainConfig):
                on = "The champions stay; the same command again goes on"
            shown.print(f"\n{how}. {on}", style="bold yellow", soft_wrap=True)
            own = isinstance(error, PipelineError) or not isinstance(error, Exception)
            if not own and (full := disk_full(error, workspace.folder)):
                raise SweepError(full) from error
            raise
        finally:
            with suppress(OSError):  # a disk that was write-protected meanwhile has its own error
                alive.unlink()


@contextmanager
def passes_cut_off(config: RetrainConfig) -> Iterator[list[str]]:
    """Yield the ids of passes on this store that were killed here; if all goes well, they are not found again."""
    found: list[Path] = []
    for alive in sorted(Path(config.runs).glob(f"*/{_ALIVE}")):
        try:
            with FileLock(alive, timeout=0):
                values = json.loads((alive.parent / _CONFIG).read_text("utf-8"))
        except (OSError, ValueError, Timeout):  # it runs, or ended just now
            continue
        if values["command"] == command_of(config) and values["config"]["tracking"]["uri"] == config.tracking.uri:
            found.append(alive)
    yield [alive.parent.name for alive in found]
    for alive in found:
        alive.unlink(missing_ok=True)


def git_commit() -> str | None:
    """Name the commit of the checkout, with `-dirty` after it where files were changed; None outside a checkout."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, check=False)
    except OSError:
        return None
    return found.stdout.decode("utf-8", "replace").strip() or None


def package_versions() -> Mapping[str, str]:
    """Versions of the packages that a result may depend on."""
    return {name: version(name) for name in _PACKAGES}

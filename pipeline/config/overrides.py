"""From a command line to a typed config: the only file that knows Hydra."""

import dataclasses
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pipeline.config import METHOD_TRAITS
from pipeline.config.commands import COMMANDS, overrides_of
from pipeline.config.settings import RANGES, Setting, flat, idle, searched, settings, unused
from pipeline.config.strict import build, nearest
from pipeline.config.sweep import TRACKING_VARIABLE
from pipeline.config.typed import quoted, unescaped
from pipeline.config.written import as_written, task_file
from pipeline.errors import ConfigError, Fault, fault

CONF = Path(__file__).resolve().parents[2] / "conf"
_CHOSEN = ("checkpoint", "method", "cluster")
"""The groups of which `conf/sweep.yaml` chooses a file; of any other one may be added."""
T = TypeVar("T")
_log = logging.getLogger(__name__)


def read_config(name: str, cls: type[T], arguments: list[str]) -> T:
    """Compose `conf/<name>.yaml`, if there is one, with the command line and check all of it.

    Args:
        name: A command.
        cls: Config dataclass.
        arguments: Hydra overrides: `group=option`, `dotted.key=value`, and `conf=<dir>` for files of the user's own.

    Raises:
        ConfigError: Everything that is wrong with the keys and values, at once.
    """
    faults: list[Fault] = []
    values = compose_values(name, arguments, faults)
    try:
        config = build(cls, values)
    except ConfigError as error:
        raise ConfigError([*faults, *dict.fromkeys(map(_as_typed, error.faults))]) from error
    if faults:
        raise ConfigError(faults)
    return config


def read_command(name: str, words: Sequence[str]) -> tuple[Any, ...]:
    """Read what a command is given: variables of `make`, and overrides.

    Args:
        name: A command of `pipeline.config.commands.COMMANDS`.
        words: `TASKS=ner`, `engine.epochs=3`.

    Returns:
        Its config; and of a command that wraps another one the overrides that are that one's, not judged yet.

    Raises:
        ConfigError: Everything that is wrong with the command's own variables, keys and values, at once.
    """
    command, overrides = COMMANDS[name], overrides_of(name, words)
    if not command.wraps:
        return (read_config(name, command.config, overrides),)
    prefix = f"{name}."
    own = [word.removeprefix(prefix) for word in overrides if word.startswith(prefix)]
    try:
        config = read_config(name, command.config, own)
    except ConfigError as error:
        raise ConfigError([_with_prefix(fault, name) for fault in error.faults]) from error
    return config, [word for word in overrides if not word.startswith(prefix)]


def _with_prefix(fault: Fault, name: str) -> Fault:
    """Name a key of a command that wraps another one as the user writes it: `CRON`, `schedule.keep`."""
    shown = {key: variable for variable, key in COMMANDS[name].keys().items()}
    keys = [field.name for field in dataclasses.fields(COMMANDS[name].config)]
    named = re.compile(rf"\b(set|mean|out) ({'|'.join(keys)})(?=[= ]|$)", re.I)
    typed: dict[str, dict[str, str]] = {"mean": {}}  # what was nearly typed, as it is typed
    remedy = named.sub(
        lambda found: f"{found[1]} {typed.get(found[1], shown).get(found[2], f'{name}.{found[2]}')}", fault.remedy
    )
    own = fault.where.islower() and " " not in fault.where  # else it is a variable, or the command line
    where = shown.get(fault.where, f"{name}.{fault.where}" if own else fault.where)
    return dataclasses.replace(fault, where=where, remedy=remedy)


def _as_typed(fault: Fault) -> Fault:
    """Name a key as the user can write it: each contender of a comparison has the same."""
    own = re.compile(r"contenders\.[^.]+\.")
    return dataclasses.replace(fault, where=own.sub("", fault.where), remedy=own.sub("", fault.remedy))


def compose_values(name: str, arguments: list[str], faults: list[Fault]) -> dict[str, Any]:
    """Compose as `read_config` does, but return plain containers.

    Args:
        name: A command; its file below `conf/` has what differs from the dataclasses' defaults.
        arguments: Hydra overrides.
        faults: Takes in what is wrong but leaves the rest to be checked, such as an unknown option of a group.

    Raises:
        ConfigError: Nothing can be composed.
    """
    overrides = _parse(arguments)
    own = _own_folder(overrides)
    command = COMMANDS[name]
    lines = [f"hydra.searchpath=[{quoted(f'file://{own}')}]"] if own else []
    fields = {field.name for field in dataclasses.fields(command.config)}
    lines += [line for override in overrides if (line := _line(override, own, fields, faults))]
    for file in sorted(own.glob("*/*.yml")) if own else []:
        if file.parent.name != "task" and (CONF / file.parent.name).is_dir():
            _log.warning("%s is not read: rename it to %s.yaml", file, file.stem)
    tasks = _task_files(own, faults) if "task" in fields else None
    try:
        said = _said(overrides, own)
        faults += unused(said, command.unused, name)
        values = _composed(name, lines, tasks, said, faults)
        if "tracking" in fields and "tracking.uri" not in said and (uri := os.environ.get(TRACKING_VARIABLE)):
            values["tracking"] = {**values.get("tracking", {}), "uri": uri}
        if name == "retrain":
            values["said"] = sorted(said)
        if name == "compare":
            if any(override.key_or_group == "method" for override in overrides):
                rule, remedy = "has no effect in a comparison", "Name the methods with METHODS=houlsby,full"
                faults.append(fault("METHOD", values["method"].get("name"), rule, remedy))
            values["contenders"] = {}
            for method in _methods(values.get("methods", list(METHOD_TRAITS)), own, faults):
                variant = _composed(name, [*lines, f"method={method}"], tasks, said, [])
                values["contenders"][method] = {"method": variant["method"], "space": variant["search"]["space"]}
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise ConfigError([*faults, _unreadable("config", error)]) from error
    return values


def settings_of(name: str) -> list[Setting]:
    """List the settings of a command, with the values that they have where nothing is set."""
    command = COMMANDS[name]
    prefix = f"{name}." if command.wraps else ""
    return list(settings(command.config, compose_values(name, [], []), prefix))


def _said(overrides: list[Override], own: Path | None) -> dict[str, Any]:
    """Dotted key -> value, of what the user sets: on the command line, and in files of the user's that it chooses.

    The file of a method, or of a search, is a whole of values and what is searched around them.
    """
    said: dict[str, Any] = {}
    for override in overrides:
        key, value = override.key_or_group, override.value()
        if isinstance(value, dict):
            said |= flat(value, f"{key}.")
        elif own and key not in ("method", "search") and (file := own / key / f"{value}.yaml") in (own / key).glob("*"):
            said |= flat(OmegaConf.to_container(OmegaConf.load(file)), f"{key}.")
        else:
            said[key] = value
    return said


def _composed(
    name: str, lines: list[str], tasks: dict[str, Any] | None, said: dict[str, Any], faults: list[Fault]
) -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed: Any = compose(name if (CONF / f"{name}.yaml").is_file() else None, lines)
    if tasks is not None:
        composed = OmegaConf.merge({"task": tasks}, OmegaConf.to_container(composed))
    values = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(values, dict)
    if "method" in values and isinstance(search := values.setdefault("search", {}), dict):
        method = values["method"] if isinstance(values.get("method"), dict) else {}
        default, given = method.pop("space", None) or {}, search.get("space") or {}
        if isinstance(default, dict) and isinstance(given, dict):  # else it is refused later
            search["space"], search["fixed"], twice = searched(flat(default), flat(given), method, said)
            faults += [*twice, *(idle(said, search) if name != "retrain" else [])]
    return {str(key): value for key, value in values.items()}


def _methods(named: Any, own: Path | None, faults: list[Fault]) -> list[str]:
    """The methods to be compared that have a file; each other one is a fault."""
    known = _options("method", own)
    names = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    for name in names:
        if name not in known:
            remedy = _renamed("method", name, own) or nearest(name, known)
            faults.append(fault("METHODS", name, "is no method", remedy))
    return [name for name in names if name in known]


def _options(group: str, own: Path | None) -> list[str]:
    """The files of a group: ours and the user's."""
    return sorted({file.stem for root in (CONF, own) if root for file in (root / group).glob("*.yaml")})


def _renamed(group: str, name: str, own: Path | None) -> str:
    """What to do with a file of a group that is not read, since it ends in .yml: Hydra knows .yaml alone."""
    files = [root / group / f"{name}.yml" for root in (CONF, own) if root]
    return next((f"Rename {file} to {file.stem}.yaml" for file in files if file.is_file()), "")


def pairs(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """The key and the value, as text, of each override; a ConfigError names those that are none."""
    return [(override.key_or_group, unescaped(str(override.value()))) for override in _parse(list(arguments))]


def _parse(arguments: list[str]) -> list[Override]:
    faults, overrides = [], []
    for argument in as_written(arguments):
        try:
            overrides += OverridesParser.create().parse_overrides([argument])
        except HydraException as error:
            remedy = "Write key=value, or key=[a,b] for a list; put quotes around values with blanks or commas"
            faults.append(fault("command line", argument, f"is no override ({_line_of(error)})", remedy))
    if faults:
        raise ConfigError(faults)
    return overrides


def _own_folder(overrides: list[Override]) -> Path | None:
    """Take `conf=<dir>` out of the overrides."""
    for override in overrides:
        if override.key_or_group == "conf":
            overrides.remove(override)
            folder = Path(unescaped(str(override.value()))).expanduser().resolve()
            if not folder.is_dir():
                remedy = "Give a folder that holds task files such as mytask.yaml"
                raise ConfigError(fault("CONF", folder, "is no folder", remedy))
            return folder
    return None


def _line(override: Override, own: Path | None, fields: set[str], faults: list[Fault]) -> str | None:
    """Turn an override into one that Hydra accepts as it is; unknown keys are refused later, all at once."""
    key, raw = override.key_or_group, override.get_value_element_as_str()
    if key.startswith("search.space.") and (line := _range_line(key, raw, override.value())):
        return line
    value, options = unescaped(str(override.value())), _options(key, own) if key in fields else []
    if key == "data" and value not in options and not isinstance(override.value(), dict):
        return f"++data.source={raw}"
    if not options:
        return text if (text := override.input_line or "").startswith(("+", "~")) else f"++{text}"
    if key == "task":
        remedy = "Choose with tasks=[sentiment,ner], or change one with task.<name>.<key>=<value>"
        faults.append(fault(key, value, "holds every known task", remedy))
        return None
    if value in options:
        return f"{'' if key in _CHOSEN else '+'}{key}={raw}"
    if key == "checkpoint" and Path(value).expanduser().is_dir():
        return _replaced("checkpoint", Path(value).name, "path", str(Path(value).expanduser().resolve()))
    if key == "checkpoint" and value.count("/") == 1 and not value.startswith((".", "/", "~")):
        return _replaced("checkpoint", value.rpartition("/")[2], "hub", value)
    rule, remedy = f"is no {key} in conf/{key}", nearest(value, options)
    remedy = _renamed(key, value, own) or remedy
    if key == "checkpoint":
        rule = "is no folder" if "/" in value else f"{rule} and no folder"
        remedy += "; or give a folder that exists, or a hub id (owner/name)"
    faults.append(fault(key, value, rule, remedy))
    return None


def _range_line(key: str, raw: str, value: Any) -> str | None:
    """Let a range on the command line replace the one in the files, where Hydra would merge the two."""
    name, _, kind = key.rpartition(".")
    if kind in RANGES:
        key, raw, value = name, f"{{{kind}: {raw}}}", {kind: value}
    if not isinstance(value, dict) or not RANGES & set(value):
        return None
    others = "".join(f"{other}: null, " for other in sorted(RANGES - set(value)))
    return f"++{key}={{{others}{raw.removeprefix('{')}"


def _replaced(group: str, name: str, source: str, location: str) -> str:
    values = {"name": name, "source": source, "location": location, "sha256": None, "revision": None}
    inner = ",".join(f"{key}: {'null' if value is None else quoted(value)}" for key, value in values.items())
    return f"++{group}={{{inner}}}"


def _task_files(own: Path | None, faults: list[Fault]) -> dict[str, Any]:
    """Read every task file: ours, then the user's, which may replace ours."""
    tasks: dict[str, Any] = {}
    for folder in [CONF / "task", *([own, own / "task"] if own else [])]:
        there: dict[str, Path] = {}
        for file in _yaml_files(folder):
            try:
                text = file.read_text("utf-8")
                written = task_file(text)
                values: Any = OmegaConf.to_container(OmegaConf.create(text), resolve=True) if written else None
            except (OmegaConfBaseException, YAMLError, OSError, UnicodeDecodeError) as error:
                faults.append(_unreadable(str(file), error))
                continue
            if written is None:
                if folder == own:  # the folder may be the user's for other things too
                    _log.warning("%s is left alone: it is no task, which has a `kind` of task", file)
                else:
                    remedy = "Begin it with `kind: classification`"
                    faults.append(fault(file, "", "is no task: it has no `kind`", remedy))
                continue
            if file.stem in there:
                rule = f"is the same task as {there[file.stem].name} beside it"
                faults.append(fault(file, "", rule, "Keep one of the two"))
            there[file.stem] = file
            labels = {} if written.labels is None else {"labels": written.labels}
            if values.get("name", file.stem) != file.stem:
                rule = f"is not the file's name, which is the task's: {file.stem}"
                faults.append(fault(f"{file}: name", values["name"], rule, "Leave `name` out, or rename the file"))
            tasks[file.stem] = {**values, **labels, "name": file.stem}
    return tasks


def conf_files(own: Path) -> list[Path]:
    """List the files of a user's CONF folder that are read: tasks, and the options of groups."""
    tasks = [file for file in _yaml_files(own) if _is_task(file)]
    return [*tasks, *_yaml_files(own / "task"), *(file for file in own.glob("*/*.yaml") if file.parent.name != "task")]


def _yaml_files(folder: Path) -> list[Path]:
    return sorted(file for suffix in ("yaml", "yml") for file in folder.glob(f"*.{suffix}"))


def _is_task(file: Path) -> bool:
    try:
        return task_file(file.read_text("utf-8")) is not None
    except (YAMLError, OSError, UnicodeDecodeError):
        return True  # which is told when it is read


def _unreadable(where: str, error: Exception) -> Fault:
    return fault(where, "", f"cannot be read ({_line_of(error)})", "Mend the YAML")


def _line_of(error: Exception) -> str:
    return " ".join(str(error).partition("See https:")[0].split())[:240].rstrip(".")

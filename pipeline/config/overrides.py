"""From command line to typed config, and from errors to exit codes: the only file that knows Hydra.

Exit codes: 0 done, 1 failed while running, 2 something that the user can mend, 130 interrupted.
"""

import dataclasses
import os
import re
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from yaml import YAMLError

from pipeline.config import Range
from pipeline.config.strict import build, nearest
from pipeline.errors import ConfigError, Fault, PipelineError, UserError

CONF = Path(__file__).resolve().parents[2] / "conf"
RANGES = {field.name for field in dataclasses.fields(Range)}
T = TypeVar("T")


def entry(name: str, cls: type[T]) -> Callable[[Callable[[T, Console], None]], Callable[[], None]]:
    """Make a command of `main(config, console)`: `conf/<name>.yaml` plus the command line, typed as `cls`."""

    def decorate(main: Callable[[T, Console], None]) -> Callable[[], None]:
        def command() -> None:
            sys.exit(run(lambda: main(read_config(name, cls, sys.argv[1:]), _console())))

        return command

    return decorate


def run(main: Callable[[], None]) -> int:
    """Run a command and turn what it raises into a message and an exit code."""
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        main()
    except UserError as error:
        many = len(error.faults) > 1
        errors.print(f"{len(error.faults)} things to mend:" if many else "Not started:", style="bold red")
        errors.print(textwrap.indent(str(error), "  "), markup=False)
        return error.exit_code
    except PipelineError as error:
        errors.print(f"Failed: {error}", markup=False, style="bold red")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `make status | head`
        return 0
    except Exception:
        traceback.print_exc()
        errors.print("This is a defect of the pipeline, not of your input. Please report it.", style="bold red")
        return 1
    return 0


def read_config(name: str, cls: type[T], arguments: list[str]) -> T:
    """Compose `conf/<name>.yaml` with the command line and check all of it.

    Args:
        name: File below `conf/`, without `.yaml`.
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


def read_prefixed(
    name: str, cls: type[T], arguments: Sequence[str], prefix: str, as_written: Callable[[Fault], Fault]
) -> T:
    """Read the settings of a command that takes those of another one too, and tells its own by a prefix.

    Args:
        name: As in `read_config`, like the class.
        cls: See above.
        arguments: Its own overrides, with the prefix.
        prefix: `submit.`, for instance.
        as_written: Names the key of a fault as the user writes it.

    Raises:
        ConfigError: With the keys as the user writes them.
    """
    try:
        return read_config(name, cls, [argument.removeprefix(prefix) for argument in arguments])
    except ConfigError as error:
        raise ConfigError([as_written(fault) for fault in error.faults]) from error


def _as_typed(fault: Fault) -> Fault:
    """Name a key as the user can write it: each contender of a comparison has the same."""
    own = re.compile(r"contenders\.[^.]+\.")
    return dataclasses.replace(fault, where=own.sub("", fault.where), remedy=own.sub("", fault.remedy))


def compose_values(name: str, arguments: list[str], faults: list[Fault]) -> dict[str, Any]:
    """Compose as `read_config` does, but return plain containers.

    Args:
        name: File below `conf/`, without `.yaml`.
        arguments: Hydra overrides.
        faults: Takes in what is wrong but leaves the rest to be judged, such as an unknown option of a group.

    Raises:
        ConfigError: Nothing can be composed.
    """
    overrides = _parse(arguments)
    own = _own_folder(overrides)
    lines = [f"hydra.searchpath=[{quoted(f'file://{own}')}]"] if own else []
    lines += [line for override in overrides if (line := _line(override, own, faults))]
    tasks = _task_files(own, faults) if name in ("sweep", "bench", "compare", "convert", "retrain") else None
    try:
        values = _composed(name, lines, tasks)
        if name == "compare":
            if any(override.key_or_group == "method" for override in overrides):
                rule, remedy = "has no effect in a comparison", "Name the methods with METHODS=houlsby,full"
                faults.append(Fault(where="METHOD", value=str(values["method"].get("name")), rule=rule, remedy=remedy))
            values["contenders"] = {}
            for method in _methods(values.get("methods"), own, faults):
                variant = _composed(name, [*lines, f"method={method}"], tasks)
                values["contenders"][method] = {
                    "method": variant["method"],
                    "space": variant["search"]["space"],
                }
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise ConfigError([*faults, _unreadable("config", error)]) from error
    return values


def _composed(name: str, lines: list[str], tasks: dict[str, Any] | None) -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed: Any = compose(name, lines)
    if tasks is not None:
        composed = OmegaConf.merge({"task": tasks}, OmegaConf.to_container(composed))
    values = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(values, dict)
    if isinstance(values.get("search"), dict):
        method = values["method"] if isinstance(values.get("method"), dict) else {}
        values["search"]["space"] = _space(method.pop("space", None) or {}, values["search"].get("space") or {}, method)
    return {str(key): value for key, value in values.items()}


def _methods(named: Any, own: Path | None, faults: list[Fault]) -> list[str]:
    """The methods to be compared that have a file; each other one is a fault."""
    known = _options("method", own)
    names = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    for name in names:
        if name not in known:
            faults.append(Fault(where="METHODS", value=name, rule="is no method", remedy=nearest(name, known)))
    return [name for name in names if name in known]


def _options(group: str, own: Path | None) -> list[str]:
    """The files of a group: ours and the user's."""
    return sorted({file.stem for root in (CONF, own) if root for file in (root / group).glob("*.yaml")})


def _space(default: Any, given: Any, method: dict[str, Any]) -> Any:
    """The search space: that of the method's file, changed by what `search.space` says."""
    default, given = _flat_space(default), _flat_space(given)
    if not isinstance(default, dict) or not isinstance(given, dict):
        return given  # refused later
    if method.get("reduction_factor") is not None:
        default.pop("method.width", None)  # which would have no effect
    # `search.space.method.width=null` takes a key out.
    return {key: value for key, value in (default | given).items() if value is not None}


@contextmanager
def quiet(log_file: Path) -> Iterator[Console]:
    """Send everything that libraries print, from Python or C, to `log_file`; yield a console that still shows."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with log_file.open("ab") as log, os.fdopen(os.dup(kept[0]), "w", encoding="utf-8") as shown:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            yield _console(shown)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, descriptor in enumerate(kept, start=1):
                os.dup2(descriptor, number)
                os.close(descriptor)


def _console(file: Any = None) -> Console:
    console = Console(file=file, highlight=False)
    if not console.is_terminal:
        console.width = 140  # a log file or a pipe: nobody's window is narrow
    return console


def _parse(arguments: list[str]) -> list[Override]:
    faults, overrides = [], []
    for argument in arguments:
        try:
            overrides += OverridesParser.create().parse_overrides([argument])
        except HydraException as error:
            remedy = "Write key=value, or key=[a,b] for a list; put quotes around values with blanks or commas"
            rule = f"is no override ({_line_of(error)})"
            faults.append(Fault(where="command line", value=argument, rule=rule, remedy=remedy))
    if faults:
        raise ConfigError(faults)
    return overrides


def _own_folder(overrides: list[Override]) -> Path | None:
    """Take `conf=<dir>` out of the overrides."""
    for override in overrides:
        if override.key_or_group == "conf":
            overrides.remove(override)
            folder = Path(str(override.value())).expanduser().resolve()
            if not folder.is_dir():
                remedy = "Give a folder that holds task files such as mytask.yaml"
                raise ConfigError(Fault(where="CONF", value=str(folder), rule="is no folder", remedy=remedy))
            return folder
    return None


def _line(override: Override, own: Path | None, faults: list[Fault]) -> str | None:
    """Turn an override into one that Hydra accepts as it is; unknown keys are judged later, all at once."""
    key, raw = override.key_or_group, override.get_value_element_as_str()
    if key.startswith("search.space.") and (line := _range_line(key, raw, override.value())):
        return line
    if not (CONF / key).is_dir():
        return text if (text := override.input_line or "").startswith(("+", "~")) else f"++{text}"
    value = str(override.value())
    if key == "task":
        remedy = "Choose with tasks=[sentiment,ner], or change one with task.<name>.<key>=<value>"
        faults.append(Fault(where=key, value=value, rule="holds every known task", remedy=remedy))
        return None
    options = _options(key, own)
    if value in options:
        return f"{key}={raw}"
    if key == "checkpoint" and Path(value).expanduser().is_dir():
        return _replaced("checkpoint", Path(value).name, "path", str(Path(value).expanduser().resolve()))
    if key == "checkpoint" and value.count("/") == 1 and not value.startswith((".", "/", "~")):
        return _replaced("checkpoint", value.rpartition("/")[2], "hub", value)
    if key == "data":
        return f"++data.source={raw}"
    rule, remedy = f"is no {key} in conf/{key}", nearest(value, options)
    if key == "checkpoint":
        rule = "is no folder" if "/" in value else f"{rule} and no folder"
        remedy += "; or give a folder that exists, or a hub id (owner/name)"
    faults.append(Fault(where=key, value=value, rule=rule, remedy=remedy))
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


def quoted(text: str) -> str:
    """Write text as the value of an override."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _task_files(own: Path | None, faults: list[Fault]) -> dict[str, Any]:
    """Read every task file: ours, then the user's, which may replace ours."""
    folders = [CONF / "task"] + ([own, own / "task"] if own else [])
    tasks: dict[str, Any] = {}
    for file in [file for folder in folders for file in sorted(folder.glob("*.yaml"))]:
        try:
            values = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
        except (OmegaConfBaseException, YAMLError, OSError, UnicodeDecodeError) as error:
            faults.append(_unreadable(str(file), error))
            continue
        if not isinstance(values, dict) or "kind" not in values:
            rule = "is no task: it has no `kind`"
            faults.append(Fault(where=str(file), value="", rule=rule, remedy="Begin it with `kind: classification`"))
            continue
        tasks[file.stem] = {"name": file.stem, **values}
    return tasks


def _flat_space(space: Any, prefix: str = "") -> Any:
    """Write nested keys of the search space with dots: {engine: {learning_rate: ...}} -> engine.learning_rate."""
    if not isinstance(space, dict):
        return space
    flat: dict[str, Any] = {}
    for key, value in space.items():
        name = f"{prefix}{key}"
        is_range = not isinstance(value, dict) or RANGES & set(value)
        flat.update({name: value} if is_range else _flat_space(value, f"{name}."))
    return flat


def _unreadable(where: str, error: Exception) -> Fault:
    return Fault(where=where, value="", rule=f"cannot be read ({_line_of(error)})", remedy="Mend the YAML")


def _line_of(error: Exception) -> str:
    return " ".join(str(error).partition("See https:")[0].split())[:240].rstrip(".")

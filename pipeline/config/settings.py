"""What the user sets is what is trained, or it is a fault; and every setting of a command, to be listed. Pure.

`said` is everywhere what the user sets: dotted key -> value.
"""

import ast
import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pipeline.config.search import Range, SearchConfig
from pipeline.config.strict import describe
from pipeline.errors import Fault, fault

RANGES = {field.name for field in dataclasses.fields(Range)}


def searched(
    default: Mapping[str, Any], given: Mapping[str, Any], method: Mapping[str, Any], said: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str], list[Fault]]:
    """Choose what a search tries: the method's own space, changed by `search.space`, without what has one value.

    Args:
        default: The space of the method's file, by dotted key.
        given: `search.space`, by dotted key; null takes a key out.
        method: The method's settings.
        said: As above.

    Returns:
        The space; the keys that the user's one value has taken out of it; a fault for each that is set both ways.
    """
    default = dict(default)
    if method.get("reduction_factor") is not None or given.get("method.reduction_factor") is not None:
        default.pop("method.width", None)  # which would have no effect
    faults = []
    for key in said.keys() & {key for key, value in given.items() if value is not None}:
        rule = f"is one value, and search.space.{key} searches it"
        faults.append(fault(key, said[key], rule, "Leave out one of the two"))
    fixed = sorted(said.keys() & default.keys() - given.keys())
    space = {key: value for key, value in (default | dict(given)).items() if value is not None and key not in fixed}
    return space, fixed, faults


def idle(said: Mapping[str, Any], search: Mapping[str, Any]) -> Iterator[Fault]:
    """A fault for each setting of the search that has no effect beside the others, which are in `search`."""
    known = dataclasses.asdict(SearchConfig()) | dict(search)
    algorithm, scheduler = known["algorithm"], known["scheduler"]
    by_algorithm, by_scheduler = f"search.algorithm={algorithm}", f"search.scheduler={scheduler}"
    without = {
        "search.trials": by_algorithm if algorithm == "grid" else "",
        "search.grid_points": "" if algorithm == "grid" else by_algorithm,
        "search.cohort": "" if algorithm == "optuna" else by_algorithm,
        "search.reduction": by_scheduler if scheduler == "none" else "",
        "search.first_rung": by_scheduler if scheduler == "none" else "",
    }
    for key, beside in without.items():
        if beside and key in said:
            yield fault(key, said[key], f"has no effect with {beside}", "Leave it out")


def unused(said: Mapping[str, Any], instead: Mapping[str, str], command: str) -> Iterator[Fault]:
    """A fault for each setting that a command has and does not use; `instead` is what it says in `Command.unused`."""
    for key, value in said.items():
        for beginning, remedy in instead.items():
            if f"{key}.".startswith(f"{beginning}."):
                yield fault(key, value, f"is not used by `{command}`", remedy)


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Write nested keys with dots: {engine: {learning_rate: ...}} -> engine.learning_rate; a range is one value."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        nested = isinstance(value, Mapping) and not RANGES & set(value)
        found.update(flat(value, f"{name}.") if nested else {name: value})
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """A setting as it is listed."""

    key: str
    """As it is written on the command line."""
    type: str
    """In words."""
    default: str
    allowed: str
    """The values that it may have, where they can be counted."""
    says: str
    """What stands under its field."""


def settings(cls: type[Any], values: Mapping[str, Any], prefix: str = "") -> Iterator[Setting]:
    """List the settings of a config, group by group.

    Args:
        cls: A config dataclass.
        values: What it has where nothing is set, as plain containers.
        prefix: What stands before each key: `schedule.`, for instance.
    """
    hints, says = get_type_hints(cls), _docstrings(cls)
    for field in dataclasses.fields(cls):
        key, hint = f"{prefix}{field.name}", hints[field.name]
        value = values.get(field.name, _default(field))
        if dataclasses.is_dataclass(hint):
            yield from settings(hint, value if isinstance(value, Mapping) else {}, f"{key}.")  # type: ignore[arg-type]
        elif get_origin(hint) is not None and any(dataclasses.is_dataclass(part) for part in get_args(hint)):
            parts = [part for part in get_args(hint) if dataclasses.is_dataclass(part)]
            names = ", ".join(one.name for part in parts for one in dataclasses.fields(part))
            is_list = get_origin(hint) is list
            shown = f"a list of {{{names}}}" if is_list else "a mapping"
            where = key if is_list else f"{key}.<name>"
            yield Setting(key=where, type=shown, default="", allowed="", says=says.get(field.name, ""))
        else:
            allowed = ", ".join(map(str, get_args(hint))) if get_origin(hint) is Literal else ""
            shown = "" if allowed else describe(hint)
            default = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            yield Setting(key=key, type=shown, default=default, allowed=allowed, says=says.get(field.name, ""))


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


def _docstrings(cls: type[Any]) -> dict[str, str]:
    """Field -> the text under it, of a dataclass and those that it extends."""
    found: dict[str, str] = {}
    for one in reversed([base for base in cls.__mro__ if dataclasses.is_dataclass(base)]):
        (made,) = ast.parse(inspect.getsource(one)).body
        assert isinstance(made, ast.ClassDef)
        for field, text in zip(made.body, made.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
                found[field.target.id] = " ".join(str(ast.literal_eval(text.value)).split())
    return found

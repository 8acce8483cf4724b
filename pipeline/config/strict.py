"""From a plain mapping to a typed config: unknown keys, wrong types and broken rules, all reported at once.

OmegaConf's structured configs stop at the first fault and know no unions of literals and numbers, so the YAML is
resolved to plain containers first and then built here.
"""

import dataclasses
import difflib
import math
import types
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pipeline.errors import ConfigError, Fault, fault

T = TypeVar("T")


def build(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Build the config dataclass `cls` from `values`.

    Args:
        cls: A frozen dataclass whose fields are scalars, literals, lists, mappings or further dataclasses.
        values: Plain containers, as YAML or JSON give them.
        where: Dotted key of `values` in the whole config, for the messages.

    Raises:
        ConfigError: With one fault for every unknown key, missing key, wrong type and broken rule.
    """
    faults: list[Fault] = []
    built = _dataclass(cls, values, where, faults)
    if faults:
        raise ConfigError(faults)
    return built  # type: ignore[no-any-return]


def replace(config: T, changes: Mapping[str, Any]) -> T:
    """Return `config` with dotted keys changed, checked like a fresh one.

    Args:
        config: A config dataclass.
        changes: Dotted key -> value: `{"engine.learning_rate": 1e-3}`.

    Raises:
        ConfigError: A key is unknown, or a value breaks a rule.
    """
    values = dataclasses.asdict(config)  # type: ignore[call-overload]
    faults = []
    for key, value in changes.items():
        *path, last = key.split(".")
        node = values
        for part in path:
            node = node.get(part) if isinstance(node, dict) else None
        if not isinstance(node, dict) or last not in node:
            remedy = nearest(last, list(node)) if isinstance(node, dict) else nearest(path[0], list(values))
            faults.append(fault(key, "", "is no config key", remedy))
        else:
            node[last] = value
    if faults:
        raise ConfigError(faults)
    return build(type(config), values)


def identity(config: object) -> Any:
    """A config as plain containers, by which something is named for good: as the first names were made of it.

    A key that came later, which its class lists in `LATER`, is left out while it has its default; and one that was
    renamed, which its class lists in `FORMER`, goes by its former name. So nothing is new by the version alone.
    """
    if isinstance(config, Mapping):
        return {name: identity(value) for name, value in config.items()}
    if isinstance(config, list | tuple):
        return [identity(value) for value in config]
    if not dataclasses.is_dataclass(config):
        return config
    later: Sequence[str] = getattr(config, "LATER", ())
    former = {now: before for before, now in getattr(config, "FORMER", {}).items()}
    defaults = {one.name: one.default for one in dataclasses.fields(config)}
    values = {name: getattr(config, name) for name in defaults}
    kept = {name: value for name, value in values.items() if name not in later or value != defaults[name]}
    return {former.get(name, name): identity(value) for name, value in kept.items()}


def nearest(word: str, known: list[str], count: int = 3) -> str:
    """Name what the user may have meant: the nearest of `known`, or all of them."""
    close = difflib.get_close_matches(word, known, n=count, cutoff=0.5)
    return f"Did you mean {' or '.join(close)}" if close else f"Known: {', '.join(sorted(known)) or 'none'}"


def _dataclass(cls: Any, values: Any, where: str, faults: list[Fault]) -> Any:
    if not isinstance(values, Mapping):
        faults.append(_wrong(where, values, "a mapping of keys"))
        return None
    hints = get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    before = len(faults)
    for former, name in getattr(cls, "FORMER", {}).items():
        if former in values:
            if name in values:
                rule = f"is what `{name}` was called before, and both are set"
                faults.append(fault(_join(where, former), "", rule, f"Set {_join(where, name)} alone"))
            values = {name: values[former]} | {key: value for key, value in values.items() if key != former}
    for key in values:
        if key not in fields:
            faults.append(fault(_join(where, key), "", "is no config key", nearest(str(key), list(fields))))
    built = {}
    for name, field in fields.items():
        if name in values:
            own: list[Fault] = []
            built[name] = _value(hints[name], values[name], _join(where, name), own)
            if own:
                built.pop(name)  # the default stands in, so that the rules of the other keys are checked too
            faults.extend(own)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            rule = f"is missing: {describe(hints[name])} is required"
            faults.append(fault(_join(where, name), "", rule, f"Set {_join(where, name)}"))
    required = {f.name for f in fields.values() if f.default is f.default_factory is dataclasses.MISSING}
    if required - set(built):
        return None
    config = cls(**built)
    if hasattr(config, "faults"):
        faults.extend(config.faults(where or cls.__name__))
    return config if len(faults) == before else None


def _value(hint: Any, value: Any, where: str, faults: list[Fault]) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin is Literal:
        if value not in args:
            known = [str(a) for a in args]
            rule = f"must be one of {', '.join(known)}"
            faults.append(fault(where, value, rule, f"Set {where}={known[0]}, for instance"))
        return value
    if origin in (Union, types.UnionType):
        attempts = []
        for arm in args:
            tried: list[Fault] = []
            built = _value(arm, value, where, tried)
            if not tried:
                return built
            attempts.append(tried)
        if len([arm for arm in args if arm is not type(None)]) == 1:
            faults.extend(attempts[0])
        else:
            faults.append(_wrong(where, value, describe(hint)))
        return value
    if dataclasses.is_dataclass(hint):
        return _dataclass(hint, value, where, faults)
    if origin is list:
        if not isinstance(value, list | tuple):
            faults.append(_wrong(where, value, describe(hint)))
            return value
        return [_value(args[0], item, f"{where}[{i}]", faults) for i, item in enumerate(value)]
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            faults.append(_wrong(where, value, "a mapping of keys"))
            return value
        return {str(k): _value(args[1], v, _join(where, k), faults) for k, v in value.items()}
    return _scalar(hint, value, where, faults)


def _scalar(hint: Any, value: Any, where: str, faults: list[Fault]) -> Any:
    if hint is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            number = float(value)  # of a text too: YAML 1.1 reads 1e-3 as one
            if math.isfinite(number):
                return number
            faults.append(_wrong(where, value, "a finite number"))
            return value
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint in (str, bool, type(None)) and isinstance(value, hint):
        return value
    faults.append(_wrong(where, value, describe(hint)))
    return value


def _join(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)


def _wrong(where: str, value: object, wanted: str) -> Fault:
    return fault(where, value, f"must be {wanted}", f"Give {where} {wanted}")


def describe(hint: Any) -> str:
    """Say in words what a value of a type is."""
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}
    if hint in names:
        return names[hint]
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(str(a) for a in args)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(arm) for arm in args)
    if origin is list:
        return f"a list of {describe(args[0])}"
    return "a mapping of keys"

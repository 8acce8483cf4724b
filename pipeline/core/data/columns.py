"""Where the fields of a task are in the rows of a source, and how their values become canonical; files and hub alike.

A field is a column of its own name, of another one, a path into an object (`context.contexts`), or several columns.
"""

import datetime
import decimal
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.config import TaskConfig
from pipeline.config.task import Column
from pipeline.errors import Fault, fault

Place = str | list[str]
Values = Mapping[str, Any]
_LONGEST = 60
"""The longest name of a column that is shown whole: what is taken for a name may be a text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """The fields that are read of a source, and where they are."""

    task: TaskConfig
    places: Mapping[str, Place]
    """Canonical field -> its column, path or columns."""
    names: Mapping[str, list[str]] = field(default_factory=dict)
    """Field -> what the numbers in it stand for, where the source says so."""
    group: str | None = None
    """The column, or path, that rows of a group share."""
    text: str | None = None
    """The column that stands for the tokens where those are not there: a text, to be split."""

    def tops(self) -> set[str]:
        """Every name that a column may have which is read."""
        read = [*self.places.values(), "id", *(one for one in (self.group, self.text) if one)]
        paths = [path for place in read for path in ([place] if isinstance(place, str) else place)]
        return {name for path in paths for name in (path, path.split(".")[0])}

    def missing(self, there: Collection[str], where: str) -> list[Fault]:
        """A fault for each column that is read and not there."""
        if all(isinstance(place, str) and place in there for place in self.places.values()) and not self.group:
            return []  # as it is of most rows
        known = list(map(str, there))
        tops = {*known, *(name.split(".")[0] for name in known)}
        shown = ", ".join(map(_seen, known)) or "none"
        own = f"{self.task.name}.yaml"
        faults = []
        if self.group and not is_in(tops, self.group):
            rule = f"has no field `{self.group}`, by which rows are grouped (it has: {shown})"
            faults.append(fault(where, "", rule, f"Add it, or take `group` out of {own}"))
        for name, place in self.places.items():
            for path in [place] if isinstance(place, str) else place:
                if not is_in(tops, path) and not (name == "tokens" and self.text in tops):
                    alike = [one for one in known if one.strip().casefold() == path.casefold()]
                    called = alike[0].strip() if alike else "<its name in your files>"
                    mapping = f"`columns: {{{name}: {called}}}`, or for one command by data.columns.{name}={called}"
                    rule = f"has no field `{path}` (it has: {shown})"
                    faults.append(fault(where, "", rule, f"Add it, or map it in {own} by {mapping}"))
        return faults

    def canonical(self, values: Values) -> dict[str, Any]:
        """The fields of a row, as far as their shapes allow, its `id` and its `group`."""
        record: dict[str, Any] = {"id": plain(values.get("id"))}
        record["group"] = plain(pick(values, self.group)) if self.group else None
        for name, place in self.places.items():
            wanted, known, value = self.task.types[name], self.names.get(name), pick(values, place)
            if name == "tokens" and value is None and self.text:
                value = values.get(self.text)
            if known and name != "answer":  # whose numbers are positions, whatever they are called
                value = [named(one, known) for one in value] if isinstance(value, list) else named(value, known)
            elif wanted is str and name != self.task.target:
                parts = isinstance(place, list) and any(one is not None for one in value)
                value = _joined(["" if one is None else one for one in value] if parts else value)
            elif name == "options":
                value = _listed(value, isinstance(place, list))
            elif name == "answer":
                value = _position(value, self._keys(values), record.get("options"))
            elif name == "answers":
                value = _spans(value)
            record[name] = plain(value)
        return record

    def _keys(self, values: Values) -> Sequence[Any]:
        """What names the options, in order: their columns, or the keys of an object."""
        place = self.places.get("options", "options")
        if isinstance(place, list):
            return place
        options = pick(values, place)
        return sorted(options) if isinstance(options, Mapping) else ()


def columns_of(task: TaskConfig, given: Mapping[str, Column], *, labelled: bool = True) -> Columns:
    """Find the place of each field of a task: as `given` says, else a column of its own name.

    Args:
        task: Whose fields are wanted.
        given: Canonical field -> column; numbers are for conll, which has no names.
        labelled: Whether the target is read.
    """
    places: dict[str, Place] = {}
    for name in task.field_names:
        if labelled or name != task.target:
            column = given.get(name, name)
            places[name] = name if isinstance(column, int) else column
    asked = not labelled
    return Columns(
        task=task,
        places=places,
        group=None if asked else task.group,
        text="text" if asked and "tokens" in places else None,
    )


def pick(values: Values, place: Place) -> Any:
    """The value at a column, or at a path; a list of those of several."""
    if isinstance(place, list):
        return [pick(values, one) for one in place]
    if place in values:
        return values[place]
    value: Any = values
    for part in place.split("."):
        if isinstance(value, list) and all(isinstance(one, Mapping) for one in value):
            value = [one.get(part) for one in value]
        else:
            value = value.get(part) if isinstance(value, Mapping) else None
    return value


def named(value: Any, names: list[str]) -> Any:
    """Name a class; -1 means that its publisher hides it. What is a text already stays as it is."""
    if isinstance(value, str):
        return value
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else None


def plain(value: Any) -> Any:
    """Write as text what JSON does not know: dates, times, decimals, and bytes that are UTF-8."""
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() and value.as_tuple().exponent == 0 else str(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    return value


def _seen(name: str) -> str:
    """The name of a column, as it is shown: with what nobody would see in it."""
    shown = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 3]}..."
    return shown if shown == shown.strip() and shown.isprintable() else f"`{repr(shown)[1:-1]}`"


def is_in(there: Collection[str], path: str) -> bool:
    """Whether a column is there, or one that a path begins with."""
    return path in there or path.split(".")[0] in there


def _joined(value: Any) -> Any:
    """Join a text that comes in paragraphs, or in several columns."""
    is_text = isinstance(value, list) and value and all(isinstance(one, str) for one in value)
    return " ".join(value) if is_text else value


def _listed(value: Any, from_columns: bool) -> Any:
    """Order options that come as `{"A": ..., "B": ...}`, and drop those at the end that this row lacks."""
    if isinstance(value, Mapping):
        value = [value[key] for key in sorted(value)]
    if isinstance(value, list):
        lacking = (None, "") if from_columns else (None,)
        value = value[: max((i for i, item in enumerate(value, start=1) if item not in lacking), default=0)]
    return value


def _position(value: Any, keys: Sequence[Any], options: Any) -> Any:
    """Turn the key of the right option, or its letter, into its position.

    A number is a key where there are keys that are numbers. What is no letter of the options, or the text of another
    one than its letter says, stays as it is, to be refused.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) in (str, int) and str(value) in keys:
        return keys.index(str(value))
    if isinstance(value, str) and len(value.strip()) == 1 and "A" <= value.strip().upper() <= "Z":
        place = ord(value.strip().upper()) - ord("A")
        texts = options if isinstance(options, list) else []
        if place < len(texts) and (texts[place] == value or value not in texts):
            return place
    return value


def _spans(value: Any) -> Any:
    """Turn answers that come as a list of objects into lists of their texts and beginnings."""
    if isinstance(value, list) and all(isinstance(one, Mapping) for one in value):
        return {key: [one.get(key) for one in value] for key in ("text", "answer_start")}
    return value

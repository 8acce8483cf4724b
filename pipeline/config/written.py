"""Labels as a user writes them, in YAML and on a command line, where `yes` and `1` would be read as something else."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from pipeline.config.typed import quoted

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C, where PyYAML was built with it
_LISTS = re.compile(r"([+]*(?:data\.no_label|task\.[^.=]+\.labels))=\[(.*)\]", re.S)
_ITEM = re.compile(r"""\s*("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[^,]*)\s*(?:,|$)""")


@dataclass(frozen=True, slots=True)
class TaskFile:
    """What of a YAML file is read otherwise than YAML would."""

    labels: list[str] | None
    """The list of labels; None where there is none, or one with more in it than plain values."""


def task_file(text: str) -> TaskFile | None:
    """Look whether a YAML file describes a task: it has a `kind`, and is no manifest of Kubernetes.

    Raises:
        yaml.YAMLError: It seems to describe one, and cannot be read.
    """
    try:
        documents = list(yaml.compose_all(text, Loader=_LOADER))
    except yaml.YAMLError:
        if re.search(r"^kind\s*:", text, re.M) and not re.search(r"^apiVersion\s*:", text, re.M):
            raise
        return None
    if len(documents) != 1 or not isinstance(documents[0], yaml.MappingNode):
        return None
    keys = {key.value: value for key, value in documents[0].value if isinstance(key, yaml.ScalarNode)}
    if "kind" not in keys or "apiVersion" in keys:
        return None
    listed = keys.get("labels")
    items = listed.value if isinstance(listed, yaml.SequenceNode) else []
    plain = all(isinstance(item, yaml.ScalarNode) and "${" not in item.value for item in items)
    return TaskFile([item.value for item in items] if items and plain else None)


def as_written(arguments: Sequence[str]) -> list[str]:
    """Put quotes around the items of lists of labels on a command line: `data.no_label=[-,null]`."""
    return [_quoted_items(argument) for argument in arguments]


def _quoted_items(argument: str) -> str:
    found = _LISTS.fullmatch(argument)
    if found is None or not found[2].strip():
        return argument
    items, rest = [], found[2]
    while rest:
        item = _ITEM.match(rest)
        if item is None:
            return argument
        items.append(item[1] if item[1][:1] in ("'", '"') else quoted(item[1].strip()))
        rest = rest[item.end() :]
    return f"{found[1]}=[{','.join(items)}]"

"""Rows from the Hugging Face hub, by `datasets.load_dataset` and a mapping of columns.

The libraries themselves read `HF_TOKEN`, `HF_HUB_OFFLINE`, `HF_DATASETS_OFFLINE` and the cache variables.
"""

import itertools
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import HubConfig, TaskConfig
from pipeline.core.data.rows import SPLITS, Row, Source, SplitSource, make_row
from pipeline.errors import DataError, Fault, fault

if TYPE_CHECKING:
    import datasets

Column = str | list[str]

_PATIENCE_S = 10
"""How long the hub may take to answer that a data set is there."""


def open_dataset(task: TaskConfig, domain: str) -> Source:
    """Load one domain of the task from the hub, or from a local folder of that name.

    Raises:
        DataError: The data set cannot be loaded, or lacks a split or column that the config names.
    """
    config, key = task.hub[domain], f"task.{task.name}.hub.{domain}"
    loaded = _load(config)
    named = {name: config.splits.get(name, name) for name in SPLITS}
    if faults := list(_mapping_faults(config, task, key, {part: loaded[part].column_names for part in loaded})):
        raise DataError(faults)
    splits = {}
    notes = [f"{config.id}[{other}] was not read." for other in loaded if other not in named.values()]
    for name, part in named.items():
        if part not in loaded:
            continue
        where = f"{config.id}[{part}]"
        records = _canonical(loaded[part], config, task)
        if records and all(record[task.target] in (None, -1, "") for record in records):  # as many publishers do
            notes.append(f"{where} was not read: {task.target} is hidden in all of its {len(records)} rows.")
        else:
            splits[name] = SplitSource(where, _rows(records, task, where))
    if "train" not in splits:
        remedy = f"Name the split to train on in {key}.splits.train"
        raise DataError(fault(config.id, "", f"has no train split to learn from (there: {', '.join(loaded)})", remedy))
    return Source(splits, tuple(notes))


def _load(config: HubConfig) -> "Mapping[str, datasets.Dataset]":
    import datasets

    datasets.disable_progress_bars()
    for library in ("datasets", "huggingface_hub"):
        logging.getLogger(library).handlers.clear()  # their own stderr; what they say still reaches our log
    try:
        _require_answer(config)
        loaded: Mapping[str, datasets.Dataset] = datasets.load_dataset(
            config.id, config.config, revision=config.revision
        )
    except Exception as error:  # the library raises OSError, ValueError, RuntimeError and kinds of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        rule = f"cannot be loaded from the hub: {reason}"
        remedy = (
            "Check the network and the full id (owner/name), config and revision; a private or gated data "
            "set needs HF_TOKEN, and with HF_HUB_OFFLINE=1 only what is cached can be loaded"
        )
        raise DataError(fault(config.id, "", rule, remedy)) from error
    return loaded


def _require_answer(config: HubConfig) -> None:
    """Fail at once where the hub does not answer and nothing is cached: `load_dataset` tries for half a minute.

    Raises:
        ConnectionError: It does not answer.
    """
    import datasets
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    endpoint = datasets.config.HF_ENDPOINT
    if datasets.config.HF_HUB_OFFLINE or Path(config.id).is_dir():
        return
    try:
        HfApi(endpoint).dataset_info(config.id, revision=config.revision, timeout=_PATIENCE_S)
    except HfHubHTTPError:
        return  # it answered; `load_dataset` says best what is wrong
    except Exception as error:  # of the HTTP client that the hub's library uses at present
        try:
            snapshot_download(
                config.id, repo_type="dataset", revision=config.revision, local_files_only=True, allow_patterns=[]
            )
        except LocalEntryNotFoundError:
            raise ConnectionError(f"{endpoint} does not answer ({error})") from error


def _mapping_faults(config: HubConfig, task: TaskConfig, key: str, there: Mapping[str, list[str]]) -> Iterator[Fault]:
    """What the config maps, and the data set or the task does not have; `there`: split -> its columns."""
    for name, part in config.splits.items():
        where = f"{key}.splits.{name}"
        if name not in SPLITS:
            yield fault(where, "", "is no split", f"Map only: {', '.join(SPLITS)}")
        elif part not in there:
            yield fault(where, part, f"is no split of {config.id}", f"Use one of: {', '.join(there)}")
    for name in config.columns:
        if name not in task.field_names:
            rule, remedy = f"is no field of {task.name}", f"Map only: {', '.join(task.field_names)}"
            yield fault(f"{key}.columns.{name}", "", rule, remedy)
    read = [part for name in SPLITS if (part := config.splits.get(name, name)) in there]
    for part in read if task.group else ():
        if task.group not in there[part] and str(task.group).split(".")[0] not in there[part]:
            rule = f"is no column of {config.id}[{part}] (it has: {', '.join(there[part])})"
            yield fault(f"task.{task.name}.group", task.group, rule, "Name one of these, or leave it out")
    for part, name in itertools.product(read, task.field_names):
        column = config.columns.get(name, name)
        for path in [column] if isinstance(column, str) else column:
            if path not in there[part] and path.split(".")[0] not in there[part]:
                rule = f"is no column of {config.id}[{part}] (it has: {', '.join(there[part])})"
                yield fault(f"{key}.columns.{name}", path, rule, f"Map the field {name} in {key}.columns")


def _rows(records: list[dict[str, Any]], task: TaskConfig, where: str) -> Iterator[Row | Fault]:
    for number, record in enumerate(records, start=1):
        yield from make_row(record, task, f"{where}:{number}")


def _canonical(part: "datasets.Dataset", config: HubConfig, task: TaskConfig) -> list[dict[str, Any]]:
    """Turn the rows of a split into canonical fields, as far as their shapes allow."""
    columns = {name: config.columns.get(name, name) for name in task.field_names}
    names = {name: _class_names(part.features, column) for name, column in columns.items()}
    records = []
    for values in part:
        record: dict[str, Any] = {"id": values.get("id"), "group": _pick(values, task.group or "")}
        for name, column in columns.items():
            value, wanted, known = _pick(values, column), task.types[name], names[name]
            if wanted is str:
                record[name] = _named(value, known) if known else _joined(value)
            elif wanted is list:
                record[name] = [_named(one, known) for one in value] if known and value else _listed(value)
            elif wanted is int:
                record[name] = _index(value, _pick(values, columns["options"]))
            else:
                record[name] = value
        records.append(record)
    return records


def _pick(values: Mapping[str, Any], column: Column) -> Any:
    if isinstance(column, list):
        return [_pick(values, one) for one in column]
    if column in values:
        return values[column]
    value: Any = values
    for part in column.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _class_names(features: Mapping[str, Any], column: Column) -> list[str] | None:
    """Return the names that the numbers of a ClassLabel column, or of a list of ClassLabel, stand for."""
    feature = _pick(features, column)
    names = getattr(feature, "names", None) or getattr(getattr(feature, "feature", None), "names", None)
    return list(names) if names else None


def _named(value: Any, names: list[str]) -> str | None:
    """Name a class; -1 means that its publisher hides it."""
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else None


def _joined(value: Any) -> Any:
    """Join a text that comes in paragraphs."""
    is_text = isinstance(value, list) and all(isinstance(one, str) for one in value)
    return " ".join(value) if is_text else value


def _listed(value: Any) -> Any:
    """Order options that come as `{"A": ..., "B": ...}`, and drop those at the end that this row lacks."""
    if isinstance(value, Mapping):
        value = [value[key] for key in sorted(value)]
    if isinstance(value, list):
        value = value[: max((i for i, item in enumerate(value, start=1) if item is not None), default=0)]
    return value


def _index(value: Any, options: Any) -> Any:
    """Turn the key of the right option, or its letter, into its position."""
    if isinstance(options, Mapping) and value in options:
        return sorted(options).index(value)
    is_letter = isinstance(value, str) and len(value) == 1 and "A" <= value <= "Z"
    return ord(value) - ord("A") if is_letter else value

"""Rows from the Hugging Face hub, by `datasets.load_dataset` and a mapping of columns.

The libraries themselves read `HF_TOKEN`, `HF_HUB_OFFLINE`, `HF_DATASETS_OFFLINE` and the cache variables.
"""

import dataclasses
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import DataConfig, HubConfig, TaskConfig
from pipeline.config.task import Column
from pipeline.core.data.columns import Columns, Place, columns_of, is_in, pick
from pipeline.core.data.rows import SPLITS, Row, Source, SplitSource, make_row
from pipeline.core.data.tags import told, write_as_bio
from pipeline.errors import DataError, Fault, fault

if TYPE_CHECKING:
    import datasets

_LONGEST_REASON = 1_000
_SILENT = "does not answer"
_PATIENCE_S = 10
"""How long the hub may take to answer that a data set is there."""


def open_dataset(task: TaskConfig, domain: str, data: DataConfig | None = None) -> Source:
    """Load one domain of the task from the hub, or from a local folder of that name.

    Raises:
        DataError: The data set cannot be loaded, or lacks a split or column that the config names.
    """
    config, key = task.hub[domain], f"task.{task.name}.hub.{domain}"
    given: Mapping[str, Column] = {**config.columns, **(data.columns if data else {})}
    loaded = _load(config, key)
    split_names = _splits_of(config)
    if faults := list(_mapping_faults(config, task, key, {part: loaded[part].column_names for part in loaded}, given)):
        raise DataError(faults)
    notes = [f"{config.id}[{other}] was not read." for other in loaded if other not in split_names.values()]
    found = {}
    for name, part in split_names.items():
        if part not in loaded:
            continue
        found[name] = list(_canonical(loaded[part], columns_of(task, given)))
    if "tags" in task.types and (scheme := write_as_bio([row for records in found.values() for row in records])):
        notes.append(f"{config.id}: {told(scheme)}.")
    if "train" not in found:
        remedy = f"Name the split to train on in {key}.splits.train"
        raise DataError(fault(config.id, "", f"has no train split to learn from (there: {', '.join(loaded)})", remedy))
    splits = {}
    for name, records in found.items():
        where = f"{config.id}[{split_names[name]}]"
        splits[name] = SplitSource(where, _rows(records, task, where))
    return Source(splits, tuple(notes))


def _splits_of(config: HubConfig) -> dict[str, str]:
    """Split -> the data set's own name of it; none is read twice."""
    mapped = config.splits.values()
    return {name: config.splits.get(name, name) for name in SPLITS if name in config.splits or name not in mapped}


def _load(config: HubConfig, key: str) -> "Mapping[str, datasets.Dataset]":
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
        rule = f"cannot be loaded from the hub: {_reason(error)}"
        raise DataError(fault(config.id, "", rule, _remedy(error, config, key))) from error
    return loaded


def _reason(error: Exception) -> str:
    """All that the library says, on one line, and what it says that this comes from."""
    said: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(said) < 3:
        text = " ".join(str(cause).split()).rstrip(".") or type(cause).__name__
        if not any(text in other for other in said):
            said.append(text)
        cause = cause.__cause__
    return (" (".join(said) + ")" * (len(said) - 1))[:_LONGEST_REASON]


def _remedy(error: Exception, config: HubConfig, key: str) -> str:
    """What helps, by what is wrong."""
    text = str(error).lower()
    if "config name is missing" in text or "builderconfig" in text:
        return f"Set {key}.config to one of those"
    if "scripts are no longer supported" in text:
        return f"Set {key}.revision=refs/convert/parquet, where the hub keeps most of them as parquet files"
    if "gated" in text:
        return "Ask for access on the data set's page, and set HF_TOKEN to a token of that account"
    if "revision" in text and "exist" in text:
        return f"Set {key}.revision to a branch, tag or commit that is there"
    if _SILENT in text:
        return "Check the network, a proxy and HF_ENDPOINT; with HF_HUB_OFFLINE=1 what is cached is loaded without it"
    return (
        "Check the network and the full id (owner/name), config and revision; a private or gated data "
        "set needs HF_TOKEN, and with HF_HUB_OFFLINE=1 only what is cached can be loaded"
    )


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
            raise ConnectionError(f"{endpoint} {_SILENT} ({error})") from error


def _mapping_faults(
    config: HubConfig, task: TaskConfig, key: str, there: Mapping[str, list[str]], given: Mapping[str, Column]
) -> Iterator[Fault]:
    """What is mapped, and the data set or the task does not have; `there`: split -> its columns."""
    for name, part in config.splits.items():
        where = f"{key}.splits.{name}"
        if name not in SPLITS:
            yield fault(where, "", "is no split", f"Map only: {', '.join(SPLITS)}")
        elif part not in there:
            yield fault(where, part, f"is no split of {config.id}", f"Use one of: {', '.join(there)}")
    for name in given:
        if name not in task.field_names:
            rule, remedy = f"is no field of {task.name}", f"Map only: {', '.join(task.field_names)}"
            yield fault(f"{key}.columns.{name}", "", rule, remedy)
    places = columns_of(task, given).places
    for part in [part for part in _splits_of(config).values() if part in there]:
        rule = f"is no column of {config.id}[{part}] (it has: {', '.join(there[part])})"
        if task.group and not is_in(there[part], task.group):
            yield fault(f"task.{task.name}.group", task.group, rule, "Name one of these, or leave it out")
        for name, place in places.items():
            for path in [place] if isinstance(place, str) else place:
                if not is_in(there[part], path):
                    remedy = f"Map the field {name} in {key}.columns"
                    yield fault(f"{key}.columns.{name}", path, rule, remedy)


def _rows(records: list[dict[str, Any]], task: TaskConfig, where: str) -> Iterator[Row | Fault]:
    for number, record in enumerate(records, start=1):
        yield from make_row(record, task, f"{where}:{number}")


def _canonical(part: "datasets.Dataset", columns: Columns) -> Iterator[dict[str, Any]]:
    """Turn the rows of a split into canonical fields, as far as their shapes allow."""
    names = {name: names for name, place in columns.places.items() if (names := _class_names(part.features, place))}
    columns = dataclasses.replace(columns, names=names)
    for values in part:
        yield columns.canonical(values)


def _class_names(features: Mapping[str, Any], place: Place) -> list[str] | None:
    """Return the names that the numbers of a ClassLabel column, or of a list of ClassLabel, stand for."""
    feature = pick(features, place)
    names = getattr(feature, "names", None) or getattr(getattr(feature, "feature", None), "names", None)
    return list(names) if names else None

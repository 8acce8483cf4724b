"""Which files of a folder are train, validation and test: by name, one file each, or shards of one.

A split is `train.csv`, also `dev`, `val` or `valid` for validation; shards `train-00000-of-00002.parquet`; or a folder
`train/` with shards of any name.
"""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.config import DataConfig, TaskConfig
from pipeline.core.data.readers import READERS, is_read, reading_of, records_of
from pipeline.core.data.readers.reading import Reading, Values
from pipeline.core.data.readers.text import COMPRESSIONS
from pipeline.core.data.rows import SPLITS, WARNING, Row, Source, SplitSource, make_row
from pipeline.core.data.tags import told, write_as_bio
from pipeline.errors import DataError, Fault, fault

_NAMES = {name: name for name in SPLITS} | dict.fromkeys(("dev", "val", "valid"), "validation")
_SHARD = re.compile(r"(.+)-(\d{1,9})-of-(\d{1,9})(?:-[0-9a-f]{8,})?")
"""`train-00000-of-00002`, as `datasets` writes it; older files have a digest behind that."""
_LIKE_A_SPLIT = re.compile(r"(train|valid|val|dev|test)(ing|idation|elopment)?([^a-z].*)?")

Read = list[tuple[Path, int, Values | list[Fault]]]
"""File, number and values or faults, of each row of a split."""
Sets = dict[str, dict[str, list[Path]]]
"""Split -> name of a file, of shards or of a folder -> its files in order."""


def split_files(folder: Path) -> dict[str, list[Path]]:
    """List the files of each split that `folder` holds, in a format that is read."""
    return {split: [path for paths in sets.values() for path in paths] for split, sets in _sets(folder).items()}


def is_split_folder(folder: Path) -> bool:
    """Whether a folder holds the shards of one split, and is no domain: it is called so, and has no other split."""
    split = _NAMES.get(folder.name.lower())
    if split is None or not folder.is_dir():
        return False
    files = _files(folder)
    return bool(files) and all(_split_of(path) in (None, split) for path in files)


def listed(folder: Path, most: int = 8) -> str:
    """What lies in a folder, for messages."""
    return _some([f"{path.name}/" if path.is_dir() else path.name for path in sorted(folder.iterdir())], most)


def _some(names: Sequence[object], most: int) -> str:
    """The first of them, and how many there are besides."""
    shown = ", ".join(map(str, names[:most])) or "nothing"
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def formats() -> str:
    """The formats that are read, for messages."""
    return f"{', '.join(READERS)}, also with .{' or .'.join(COMPRESSIONS)}"


def unread(folder: Path, split: str) -> Path | None:
    """What a split is called by, and is in no format that is read, if there is such: a file, also one of its folder."""
    for path in sorted(folder.iterdir()):
        if _NAMES.get(path.name.lower().split(".")[0]) != split:
            continue
        if path.is_file() and not is_read(path):
            return path
        if path.is_dir() and not split_files(folder) and not split_files(path):
            return next(_others(path), path)
    return None


def _others(folder: Path) -> Iterator[Path]:
    """The files of a folder that are in no format that is read, but for hidden ones and those that are for people."""
    for path in sorted(folder.iterdir()):
        is_said = path.suffix.lower() == ".md" or path.stem.upper() in ("README", "LICENSE", "LICENCE")
        if path.is_file() and not is_read(path) and path.name[0] not in "._" and not is_said:
            yield path


def open_folder(folder: Path, task: TaskConfig, data: DataConfig | None = None) -> Source:
    """Read the splits of one domain; what is wrong with rows is told where the rows are iterated over.

    Raises:
        DataError: Two files for one split or of the same rows, a shard that is missing, or no file to train on.
    """
    found = _sets(folder)
    faults = []
    for split, sets in found.items():
        if len(sets) > 1:
            rule = f"has two files for one split: {' and '.join(sets)}"
            faults.append(fault(folder, "", rule, f"Keep one {split} file"))
        for paths in sets.values():
            faults += [*_shard_faults(folder, paths), *_twice(paths)]
    if "train" not in found:
        rule = f"has {listed(folder)} and no train file: there is nothing to train on"
        remedy = f"Add train.jsonl (or {', '.join(f'.{suffix}' for suffix in READERS if suffix != 'jsonl')})"
        if other := unread(folder, "train"):
            rule, remedy = (
                f"has {other.relative_to(folder)}, which is in no format that is read",
                f"Write it as one of {formats()}",
            )
        faults.append(fault(folder, "", rule, remedy))
    if faults:
        raise DataError(faults)
    notes = list(_unread(folder))
    splits: dict[str, Read] = {}
    layout = None
    for split in sorted(found, key=lambda name: name != "train"):  # whose columns are those of the others
        readings = []
        splits[split] = []
        for path in next(iter(found[split].values())):
            reading = reading_of(path, task, data)
            reading.like = layout
            splits[split] += _read(reading, split)
            layout = layout or reading.like
            readings.append(reading)
        notes += _told(readings)
    rows = [values for read in splits.values() for _, _, values in read if isinstance(values, dict)]
    if "tags" in task.types and (scheme := write_as_bio(rows)):
        notes.append(f"{folder}: {told(scheme)}.")
    if len(rows) > 1 and all(isinstance(one := row.get("tokens"), list) and len(one) == 1 for row in rows):
        how = "write the sentences as .conll, a token and its tag a line, with a blank line behind each"
        if any(tag.startswith("I-") for row in rows for tag in row.get("tags") or () if isinstance(tag, str)):
            rule = "has one token in each row, and tags that go on from the row before (I-...)"
            raise DataError(fault(folder, "", rule, f"A row is a word of a sentence here: {how}"))
        notes.append(f"{WARNING}{folder}: each of its rows has one token; if a row is a word of a sentence, {how}.")
    sources = {}
    for split, read in sorted(splits.items()):
        ((name, paths),) = found[split].items()
        where = str(paths[0]) if len(paths) == 1 else str(folder / name)
        sources[split] = SplitSource(where, list(_rows(read, task)))
    return Source(sources, tuple(notes))


def _read(reading: Reading, split: str) -> Read:
    """The records of a file; what keeps it from being read further comes last."""
    read: Read = []
    try:
        read += [(reading.path, number, values) for number, values in records_of(reading)]
    except DataError as error:
        read.append((reading.path, 0, [dataclasses.replace(one, of_file=True) for one in error.faults]))
    if split != "train":
        rule = f"has no field `{reading.columns.places[reading.task.target]}`"
        for _, _, values in read:
            if isinstance(values, list):
                values[:] = [_spare(one, split) if one.rule.startswith(rule) else one for one in values]
    return read


def _spare(lacking: Fault, split: str) -> Fault:
    """A fault of rows without a target, with the remedy of a split that is not needed."""
    more = f"; or remove the file, if nobody knows the targets: {split} is then cut off train"
    return dataclasses.replace(lacking, remedy=lacking.remedy + more)


def _told(readings: Sequence[Reading]) -> Iterator[str]:
    """Notes on what was found out about the files of a split, the same of several in one."""
    found: dict[tuple[str, ...], list[Path]] = {}
    for reading in readings:
        if reading.facts:
            found.setdefault(tuple(reading.facts), []).append(reading.path)
    for facts, files in found.items():
        others = f" and {len(files) - 1} more" if len(files) > 1 else ""
        yield f"{files[0]}{others}: {'; '.join(facts)}."


def _rows(read: Read, task: TaskConfig) -> Iterator[Row | Fault]:
    for path, number, values in read:
        yield from values if isinstance(values, list) else make_row(values, task, f"{path}:{number}")


def _sets(folder: Path) -> Sets:
    found: Sets = {}
    for path in sorted(folder.iterdir()):
        if is_split_folder(path):
            split, name, files = _NAMES[path.name.lower()], f"{path.name}/", _files(path)
        elif is_read(path) and (path.is_file() or not path.exists()) and (known := _split_of(path)):
            shard = _SHARD.fullmatch(_stem(path))
            split, name, files = known, path.name, [path]
            if shard:
                name = path.name.replace(f"-{shard[2]}-", "-*-", 1)
        else:
            continue
        found.setdefault(split, {}).setdefault(name, []).extend(files)
    return found


def _files(folder: Path) -> list[Path]:
    """The files of a folder in a format that is read, numbers in their names in order."""
    files = [path for path in folder.iterdir() if path.is_file() and is_read(path) and path.name[0] not in "._"]
    return sorted(files, key=lambda path: [int(part) if part.isdigit() else part for part in _parts(path)])


def _parts(path: Path) -> list[str]:
    return re.split(r"(\d+)", path.name)


def _stem(path: Path) -> str:
    """The name in small letters, without the suffixes of format and compression."""
    suffixes = (*READERS, *COMPRESSIONS)
    name = path.name.lower()
    while "." in name and name.rpartition(".")[2] in suffixes:
        name = name.rpartition(".")[0]
    return name


def _split_of(path: Path) -> str | None:
    stem = _stem(path)
    shard = _SHARD.fullmatch(stem)
    return _NAMES.get(shard[1] if shard else stem)


def _shard_faults(folder: Path, paths: Sequence[Path]) -> Iterator[Fault]:
    """A fault where the names of shards say that there are others, which are not there."""
    numbered = [shard for path in paths if (shard := _SHARD.fullmatch(_stem(path)))]
    numbers = sorted(int(shard[2]) for shard in numbered)
    for total in dict.fromkeys(int(shard[3]) for shard in numbered):
        first = 1 if numbers[0] == 1 and numbers[-1] == total else 0
        missing = [number for number in range(first, total + first) if number not in numbers]
        if missing:
            lost = f"{_some(missing, 5)} {'is' if len(missing) == 1 else 'are'} missing"
            rule = f"has {len(numbers)} of the {total} shards that {paths[0].name} is one of: {lost}"
            yield fault(folder, "", rule, "Add it, or write the split again as one file")


def _twice(paths: Sequence[Path]) -> Iterator[Fault]:
    """A fault where two files of a folder differ in nothing but the format: they hold the same rows."""
    named: dict[str, Path] = {}
    for path in paths:
        other = named.setdefault(path.name[: len(_stem(path))], path)
        if other is not path:
            rule = f"has one file in two formats, whose rows would be read twice: {other.name} and {path.name}"
            yield fault(path.parent, "", rule, "Keep one of the two; if their rows differ, give one another name")


def _unread(folder: Path) -> Iterator[str]:
    for path in sorted(folder.iterdir()):
        if is_split_folder(path) and (lost := [one.name for one in _others(path)]):
            yield f"{WARNING}{path} has files that were not read ({_some(lost, 5)}): formats are {formats()}."
        is_split = _split_of(path) is not None and is_read(path)
        if is_split and path.exists() and not path.is_file():
            yield f"{WARNING}{path} was not read: it is no file."
        if not path.is_file() or path.name.startswith(".") or is_split:
            continue
        if _LIKE_A_SPLIT.fullmatch(path.name.lower()):
            names = f"splits are {', '.join(_NAMES)}"
            yield f"{WARNING}{path} was not read: {names if is_read(path) else f'formats are {formats()}'}."
        elif is_read(path) and path.suffix != ".txt":
            yield f"{path} was not read: splits are {', '.join(_NAMES)}."

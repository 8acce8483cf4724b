"""What every source is turned into: typed rows with their origin and digest, in fingerprinted splits."""

import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.config import DataConfig, TaskConfig
from pipeline.core.data.labels import FRACTION, LABELLED, as_label, as_text, is_fraction, learnt
from pipeline.errors import Fault, fault

SPLITS = ("train", "validation", "test")
CUT = 3
"""Version of the rule by which a missing split is cut off train: 1 is each row for itself, 2 is by groups, and 3 leaves
a row of every label in train."""

WARNING = "Warning: "
"""How a note begins that tells of what is probably not meant."""


@dataclass(frozen=True, slots=True)
class Row:
    """One example, in the canonical fields of its kind."""

    fields: Mapping[str, Any]
    """The fields of `config.FIELDS`, and `id` when the source has one."""
    origin: str
    """File and line, or data set and row, from 1: `data/ner/train.jsonl:12`, `stanfordnlp/sst2[train]:12`."""
    digest: str
    """First 16 hex digits of the sha256 of the fields without `id`: equal rows have equal digests."""
    key: str
    """The same of what a model reads: without the target, and whatever the letter case, the spaces and the form of
    Unicode. Rows with equal keys may not stand on both sides of training and evaluation."""

    group: str | None = None
    """16 hex digits that rows share which no cut may tear apart; None: the row goes for itself."""
    raw: Mapping[str, Any] | None = None
    """The target as it stands in the source, where it is learnt as another text (`labels.learnt`): digests are over
    this one, so that a row stays the row that it was."""
    lines: Sequence[int] | None = field(default=None, compare=False, repr=False)
    """Of a row that stands on several lines, one a token: which they are."""

    def at(self, token: int) -> str:
        """Where one of its tokens stands, from 0; the row's own place where that is all that is known."""
        return self.origin if self.lines is None else f"{self.origin.rpartition(':')[0]}:{self.lines[token]}"

    @property
    def id(self) -> str | None:
        """The source's own name of the row, if it has one; as text, since a csv file has no numbers."""
        return str(self.fields.get("id", "")).strip() or None


@dataclass(frozen=True, slots=True)
class Split:
    """The rows of train, validation or test."""

    name: str
    rows: tuple[Row, ...]
    fingerprint: str
    """16 hex digits over the digests of all rows, whatever their order."""
    cut_from: str | None
    """The split that these rows were cut from, where the source lacks this one."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """The three splits of one task and domain."""

    task: str
    domain: str
    source: str
    train: Split
    validation: Split
    test: Split
    overlap: Mapping[str, int]
    """`train/test` -> number of rows of test whose inputs stand in train too; likewise the other pairs."""
    notes: tuple[str, ...]
    """Sentences for the user: what was cut, dropped, not read."""
    cut: int = CUT
    """Version of the rule by which missing splits were cut."""
    max_unseen: float = DataConfig().max_unseen
    """Share of the labels of validation or test that train may lack."""

    @property
    def splits(self) -> tuple[Split, Split, Split]:
        """Train, validation and test."""
        return self.train, self.validation, self.test

    @property
    def fingerprints(self) -> dict[str, str]:
        """Name the rows of each split: train, validation, test -> fingerprint."""
        return {split.name: split.fingerprint for split in self.splits}

    @property
    def order(self) -> str:
        """16 hex digits over the digests of all rows as they come, which fingerprints do not look at."""
        return _hashed({"splits": [[row.digest for row in split.rows] for split in self.splits]})

    def manifest(self) -> dict[str, Any]:
        """Describe the rows by their digests, as plain JSON: enough to tell later which rows are new."""
        splits = {
            split.name: {
                "fingerprint": split.fingerprint,
                "rows": [row.digest for row in split.rows],
                "cut_from": split.cut_from,
            }
            for split in self.splits
        }
        return {
            "task": self.task,
            "domain": self.domain,
            "source": self.source,
            "splits": splits,
            "overlap": dict(self.overlap),
        }


@dataclass(frozen=True, slots=True)
class Source:
    """What was found for one domain, before it is read."""

    splits: Mapping[str, "SplitSource"]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SplitSource:
    """One split that is there: where, and its rows and faults in order."""

    where: str
    rows: Iterable[Row | Fault]


def many(count: int, noun: str) -> str:
    """Say how many of what: 1 trial, 2 trials."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def num_rows(count: int) -> str:
    """Say how many rows: 1 row, 2 rows."""
    return "1 row" if count == 1 else f"{count:,} rows"


def is_hidden(value: Any) -> bool:
    """Whether a target is what publishers write where they keep those of a split to themselves: none, -1 or empty."""
    return value in (None, -1, "", "-1") or (isinstance(value, list) and value != [] and all(map(is_hidden, value)))


def hidden_note(where: str, target: str, count: int) -> str:
    """Say that a split was left out, since none of its rows has a target."""
    return f"{where} was not read: {target} is hidden in all of its {count} rows."


def make_row(
    values: Mapping[str, Any], task: TaskConfig, origin: str, *, without: str | None = None
) -> Iterator[Row | Fault]:
    """Type-check canonical `values`, but for the field `without`; yield the row, or every fault of it.

    Numbers and truth values are accepted as labels, which many files have, and become text; as numbers texts are, which
    csv has; and as a list of labels one text with `separator` between them. Labels of one row are sorted, each once.
    """
    fields = {}
    faults: list[Fault] = []
    last = ""  # field with a fault
    said: dict[str, Any] = {}
    for name in task.field_names:
        if name == without:
            continue
        value, known = values[name], len(faults)
        if name == "label":
            value = as_text(value)
        elif name == "labels" and isinstance(value, list):  # none of it is no label, and a fraction is none
            value = [one if one is None or is_fraction(one) else as_text(one) for one in value]
        wanted = task.types[name]
        if wanted is float:
            value = _number(value)
        elif name == "labels":
            if _is_indicators(value.split(task.separator) if isinstance(value, str) else value):
                faults.append(fault(origin, _shown(value), *_INDICATORS))
            value = _label_set(value, task.separator)
        if wrong := _wrong(name, value, wanted):
            faults.append(fault(origin, _shown(value), wrong, _remedy(name, value, wanted)))
        elif wanted is dict:
            value = {"text": value["text"], "answer_start": value["answer_start"]}
        elif name in LABELLED and name == task.target and (label := learnt(value, name, task)) != value:
            said[name] = label
        if name == task.target == "label" and is_fraction(values[name]) and value not in (task.labels or ()):
            faults.append(fault(origin, value, *FRACTION))
        fields[name] = value
        last = name if len(faults) > known else last
    if faults:
        alone = len(faults) == 1 and without != task.target
        hidden, says = alone and is_hidden(values[task.target]), None
        if alone and last == task.target and not isinstance(values[task.target], list | dict):
            says = as_label(str(as_text(values[task.target])))
        yield from (replace(one, of_hidden=hidden, target=says) for one in faults)
        return
    own = {"id": values["id"]} if isinstance(values.get("id"), str | int) else {}
    # A column of the files, which is no field; or a field.
    shared = values.get("group") if task.group else fields.get(task.group_field or "")
    try:
        digest = _hashed(fields)
        key = _hashed({name: as_seen(value) for name, value in fields.items() if name != task.target})
        group = None if shared in (None, "") else _hashed({"group": as_seen(str(shared))})
        str(own.get("id", "")).encode()
    except UnicodeEncodeError:  # "\ud83d" alone is valid JSON, but no tokenizer takes it
        rule = "holds half of a surrogate pair (such as \\ud83d), which is no character"
        yield fault(origin, "", rule, "Write the file as UTF-8 without escapes")
        return
    raw = {name: fields[name] for name in said} or None
    yield Row({**fields, **said, **own}, origin, digest, key, group, raw, values.get("lines"))


_UNSEEN = re.compile("[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]")
"""Characters without a picture of their own: a byte order mark, a soft hyphen, what joins letters or turns them."""

REMEDIES: Mapping[type, str] = {
    str: "Give a string",
    int: "Give the answer's position in options, from 0, or its letter",
    float: "Give a number, such as 3.8",
    list: 'Give a list of strings, such as ["a", "b"]',
    dict: 'Give {"text": ["..."], "answer_start": [0]}, positions in characters from 0; '
    "two empty lists where there is no answer",
}


_ZERO_OR_ONE = {"0", "1", "0.0", "1.0", "true", "false"}
_INDICATORS = (
    "holds a 0 or 1 for each label, and not which labels these are",
    'Give the names of those that it has, such as ["a", "b"]',
)
"""Rule and remedy."""


def _hashed(fields: Mapping[str, Any]) -> str:
    text = json.dumps(fields, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def as_seen(value: Any) -> Any:
    """Write a text, or those in a list, as it is seen: in small letters, with single spaces, in Unicode's form NFKC."""
    if isinstance(value, list):
        return [as_seen(one) for one in value]
    if not isinstance(value, str):
        return value
    folded = unicodedata.normalize("NFKC", _UNSEEN.sub("", value)).casefold()  # which may compose anew: once more
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def _remedy(name: str, value: Any, wanted: type) -> str:
    """What to give in place of a value of another type."""
    inner = next(iter(value), None) if isinstance(value, Mapping) and wanted is str else None
    path = f", or name what is meant of it by data.columns.{name}=<column>.{inner}" if inner else ""
    listed = (
        ", or of several labels set the task's kind to multi_label"
        if name == "label" and isinstance(value, list)
        else ""
    )
    return f"{REMEDIES[wanted]}{path}{listed}"


def _wrong(name: str, value: Any, wanted: type) -> str:
    """Say which type the field must have; empty where it has it."""
    if wanted is str:
        return "" if isinstance(value, str) else f"is no text: field `{name}` must be a string"
    if wanted is int:
        return "" if type(value) is int else f"is no whole number: field `{name}` must be one"
    if wanted is float:
        is_number = type(value) is float and math.isfinite(value)
        return "" if is_number else f"is no number: field `{name}` must be a finite one"
    if wanted is list:
        return "" if _list_of(value, str) else f"is no list of strings: field `{name}` must be one"
    lists = (value.get("text"), value.get("answer_start")) if isinstance(value, dict) else (None, None)
    is_answer = _list_of(lists[0], str) and _list_of(lists[1], int)
    return "" if is_answer else f"is no answer: field `{name}` must hold the lists `text` and `answer_start`"


def _label_set(value: Any, separator: str) -> Any:
    """The labels of a row, sorted, so that equal sets have equal digests; as it is where it holds anything else."""
    if type(value) is int:
        value = [value]
    listed = value.split(separator) if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(type(one) in (int, str) for one in listed):
        return value
    named = sorted({str(one).strip() for one in listed})
    return [one for one in named if one] if isinstance(value, str) else named


def _is_indicators(value: Any) -> bool:
    """Whether it is a list of zeros and ones, of which some stand there twice, as no label does."""
    return isinstance(value, list) and len({*map(str, value)}) < len(value) and {*map(str, value)} <= _ZERO_OR_ONE


def _number(value: Any) -> Any:
    """A whole number, or one that is written as text, as a float, so that equal ones have equal digests; else as it
    is."""
    if type(value) not in (int, str) or "_" in str(value):
        return value
    try:
        return float(value)
    except (ValueError, OverflowError):
        return value


def _list_of(value: Any, item: type) -> bool:
    return isinstance(value, list) and all(type(one) is item for one in value)


def _shown(value: Any) -> str:
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:  # what could just be parsed may lie too deep to be written
        text = "..."
    return text if len(text) <= 60 else text[:57] + "..."

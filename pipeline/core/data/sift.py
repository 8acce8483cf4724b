"""Which rows of a split are kept: those without a fault that have a label. The others are refused, or left out.

What a row means is looked at here, before anything is cut: a bad tag is not hidden behind too few rows.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from pipeline.config import DataConfig, TaskConfig
from pipeline.core.data.labels import as_label
from pipeline.core.data.rows import Row, SplitSource, hidden_note, is_hidden, num_rows
from pipeline.errors import Fault, fault, grouped

BadRows = Literal["error", "skip"]


class Kind(Protocol):
    """What a kind of task knows of its rows, as far as reading them needs it."""

    has_labels: ClassVar[bool]
    may_lack_labels: ClassVar[bool]

    def row_faults(self, row: Row) -> Iterator[Fault]:
        """What is wrong with what a row says."""

    def labels_of(self, row: Row) -> tuple[str, ...]:
        """The labels that a row has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sifted:
    """What is left of a split."""

    rows: list[Row]
    notes: list[str]
    """What was left out."""
    faults: list[Fault]
    """Why the split is refused."""
    hidden: bool = False
    """Whether none of its rows has a label, so that it is as good as not there."""


def sift(name: str, split: SplitSource, task: TaskConfig, kind: Kind, data: DataConfig, bad_rows: BadRows) -> Sifted:
    """Keep the good rows of a split.

    Args:
        name: train, validation or test.
        split: Where it is, and its rows.
        task: Its columns.
        kind: What its rows mean.
        data: Which labels stand for none, and how many bad rows may be left out.
        bad_rows: Whether bad rows are refused or left out.
    """
    records = list(split.rows)
    if any(isinstance(one, Fault) and one.of_file for one in records):
        return Sifted(rows=[], notes=[], faults=[one for one in records if isinstance(one, Fault)])
    if name != "train" and records and all(_hides(one, task, kind) for one in records):
        note = hidden_note(split.where, task.target, len(records))
        return Sifted(rows=[], notes=[note], faults=[], hidden=True)
    rows: list[Row] = []
    faults: list[Fault] = []
    absent = {as_label(one) for one in data.no_label}
    absent |= {""} if "null" in absent else set()
    unlabelled = Counter[str]()
    for record in records:
        if isinstance(record, Fault):
            if record.target is not None and record.target in absent:
                unlabelled[record.target] += 1
            else:
                faults.append(record)
        elif absent and (marks := [one for one in _targets(record, task) if as_label(one) in absent]):
            unlabelled[marks[0]] += 1
        elif own := list(kind.row_faults(record)):
            faults += own
        else:
            rows.append(record)
    notes = [_unlabelled(name, unlabelled)] if unlabelled else []
    bad = len({one.where for one in faults})
    share = bad / max(bad + len(rows), 1)
    if not faults or (bad_rows == "skip" and share <= data.max_bad_rows):
        return Sifted(rows=rows, notes=[*notes, *_left_out(name, bad, faults)], faults=[])
    if bad_rows == "skip":
        rule = f"has {bad} bad rows of {bad + len(rows)}, and data.max_bad_rows={data.max_bad_rows:g} lets no more out"
        faults.append(fault(split.where, "", rule, "Mend them, or raise data.max_bad_rows"))
    elif share <= data.max_bad_rows:
        more = "; or leave such rows out with data.bad_rows=skip"
        faults = [dataclasses.replace(one, remedy=one.remedy + more) for one in faults]
    return Sifted(rows=rows, notes=notes, faults=faults)


def _hides(record: Row | Fault, task: TaskConfig, kind: Kind) -> bool:
    if isinstance(record, Fault):
        return record.of_hidden
    given = record.fields.get(task.target)
    return is_hidden(given) or (kind.may_lack_labels and not given)


def _targets(row: Row, task: TaskConfig) -> list[str]:
    """The label, the labels or the score of a row as texts; none where its target is no such thing."""
    value = row.fields.get(task.target)
    if isinstance(value, float):
        return [f"{value:g}"]
    if isinstance(value, list):
        return [one for one in value if isinstance(one, str)]
    return [str(value)] if isinstance(value, str | int) else []


def _unlabelled(name: str, counts: Counter[str]) -> str:
    shown = ", ".join(f"{count} with {label!r}" for label, count in counts.most_common())
    return f"{num_rows(counts.total())} of {name} left out, whose label stands for none (data.no_label): {shown}."


def _left_out(name: str, bad: int, faults: Sequence[Fault]) -> Iterator[str]:
    """Count by reason, with an example of each."""
    if not faults:
        return
    reasons = []
    for first, *more in grouped(faults):
        value = f" {first.value!r}" if first.value else ""
        reasons.append(f"{len(more) + 1} like {first.where}:{value} {first.rule}")
    yield f"{num_rows(bad)} of {name} left out (data.bad_rows=skip): {'; '.join(reasons)}."

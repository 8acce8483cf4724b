"""Sentences about the labels and answers of a data set: what cannot be predicted, and what may be meant otherwise."""

from collections import Counter
from collections.abc import Collection, Iterator

from pipeline.core.data.rows import Dataset, Row, as_seen
from pipeline.core.tasks.faults import LabelsOf, shorten, unseen, with_article

_FOR_NONE = frozenset({"-", "--", "_", "?", "null", "nan", "n/a", "#n/a", "na", "<na>"})
"""What is often written where there is no label, in small letters."""
_SHOWN = 5


def label_notes(dataset: Dataset, known: Collection[str], labels_of: LabelsOf, what: str) -> Iterator[str]:
    """Say what is notable about labels or entity types (`what`); `known` are those that can be predicted."""
    counts = Counter[str]()
    for split in dataset.splits:
        counts.update(label for row in split.rows for label in labels_of(row))
        strange, share = unseen(split, set(known), labels_of)
        if strange:
            rule = f"cannot be predicted and are counted as wrong, {share:.1%} of the {what}s of {split.name}"
            yield f"{_shown(strange)}: no {what} of train, {rule}."
    yield from _written(dataset, what)
    alike: dict[str, list[str]] = {}
    for label in counts:
        alike.setdefault(as_seen(label), []).append(label)
    for group in alike.values():
        if len(group) > 1:
            shown = ", ".join(f"{label!r} ({counts[label]})" for label in sorted(group))
            is_case = len({label.casefold() for label in group}) == 1
            by = "case" if is_case else "case, by blanks, or by characters that are not seen,"
            yield f"{shown} differ by {by} alone, and are {what}s of their own."
    for label in counts:
        is_none = label == "None" or label.casefold() in _FOR_NONE  # none in small letters may well be a label
        if is_none or (label == "-1" and all(one.isdigit() for one in counts if one != label)):
            times = "once" if counts[label] == 1 else f"{counts[label]} times"
            rule = f"stands {times}, and is {with_article(what)} like any other"
            yield f"{label!r} {rule}. If it means that there is none, set data.no_label=[{label}]."


def position_notes(dataset: Dataset) -> Iterator[str]:
    """Say where the first option is never the right one, as where positions are counted from 1."""
    rows = [row for split in dataset.splits for row in split.rows]
    if all(row.fields["answer"] > 0 for row in rows):
        yield f"In none of {len(rows)} rows is the first option the answer (position 0). Are positions counted from 1?"


def _written(dataset: Dataset, what: str) -> Iterator[str]:
    """Say that labels are learnt otherwise than they stand in the data, with the first of them."""
    changed = [row for split in dataset.splits for row in split.rows if row.raw]
    if changed:
        raw, learnt = _difference(changed[0])
        rows = "1 row has" if len(changed) == 1 else f"{len(changed)} rows have"
        how = "without blanks around it, in Unicode's NFC, or without the .0 of a whole number"
        example = f"{raw!r} is learnt as {learnt!r} (first: {changed[0].origin})"
        yield f"{rows} {with_article(what)} that is written otherwise than it is learnt, {how}: {example}."


def _difference(row: Row) -> tuple[str, str]:
    """A label as it stands, and as it is learnt."""
    assert row.raw
    for name, value in row.raw.items():
        both = (value, row.fields[name])
        pairs = zip(*both, strict=True) if isinstance(value, list) else [both]
        return next((raw, now) for raw, now in pairs if raw != now)
    raise AssertionError("a row that keeps what stands in its source has something other there")


def _shown(labels: Collection[str]) -> str:
    shown = ", ".join(repr(shorten(label)) for label in list(labels)[:_SHOWN])
    return shown if len(labels) <= _SHOWN else f"{shown} and {len(labels) - _SHOWN} more"

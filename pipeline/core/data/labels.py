"""What a label in the data is learnt as: its text, whatever blanks, form of Unicode and type it stands there in."""

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from pipeline.config import TaskConfig

LABELLED = ("label", "labels", "tags")
"""Canonical fields that hold labels where they are the target."""
_WHOLE = re.compile(r"([+-]?\d+)\.0")
FRACTION = (
    "is a number with a fraction, and no label",
    "For a score set `kind: regression`; for labels that are such numbers list them in `labels` of the task",
)
"""Rule and remedy."""


def as_text(value: Any) -> Any:
    """Write a number or a truth value as JSON would, a whole number without `.0`, and a missing one as no text."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, int | float) else value


def is_fraction(value: Any) -> bool:
    """Whether it is a number that is not whole."""
    return isinstance(value, float) and not math.isnan(value) and not value.is_integer()


def as_label(text: str) -> str:
    """Normalise a label: no blanks around it, NFC, and a whole number that pandas wrote as `1.0` is `1`."""
    text = unicodedata.normalize("NFC", text.strip())
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text


def learnt(value: Any, field: str, task: TaskConfig) -> Any:
    """What the target `field` is learnt as; a label that the config lists is written as it is there."""
    listed = tuple(task.labels or ())
    if isinstance(value, list):
        found = [_learnt(one, listed, field == "tags") for one in value]
        return found if field == "tags" else sorted({*found})
    return _learnt(value, listed, field == "tags")


def restored(labels: Sequence[str], task: TaskConfig) -> list[str]:
    """The labels of a bundle as rows have them now; one that would then be there twice stays as it was."""
    listed, is_tag = tuple(task.labels or ()), task.target == "tags"
    taken = set(labels)
    found = []
    for label in labels:
        now = _learnt(label, listed, is_tag)
        found.append(label if now in taken else now)
        taken.add(now)
    return found


@lru_cache(maxsize=4096)
def _learnt(raw: str, listed: tuple[str, ...], is_tag: bool) -> str:
    if is_tag:
        tag = as_label(raw)
        return tag[:2] + _as_listed(tag[2:], listed) if tag[:2] in ("B-", "I-") else tag
    return _as_listed(raw, listed)


def _as_listed(raw: str, listed: Iterable[str]) -> str:
    if raw in listed:
        return raw
    label = as_label(raw)
    if {one.lower() for one in listed} == {"true", "false"}:  # pandas writes `True` into a csv, and JSON has `true`
        label = next((one for one in listed if one.lower() == label.lower()), label)
    return next((one for one in listed if as_label(one) == label), label)

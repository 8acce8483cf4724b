"""Schemes of entity tags: IOB1, IOBES, BILOU and BMES become BIO, which is what is trained on."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

_TAG = re.compile(r"O|[BIESLUM]-\S.*")
_INSIDE = {"E": "I", "L": "I", "M": "I", "S": "B", "U": "B"}
"""Prefix of another scheme -> the one that stands for it in BIO."""
_SCHEMES = {"IOBES": set("BIES"), "BILOU": set("BILU"), "BMES": set("BMES")}


def is_tag(text: str) -> bool:
    """Whether a text looks like an entity tag of any scheme: `O`, `B-PER`, `S-LOC`."""
    return _TAG.fullmatch(text) is not None


def scheme_of(sentences: Iterable[Sequence[str]]) -> str:
    """Name the scheme of all the tags of a source; empty where they are BIO, or of no scheme known.

    IOB1 writes B only where an entity follows right upon another one of its type. Tags in which some entity begins
    with I and some other one with a B that IOB1 does not write are damaged BIO, and of no scheme.
    """
    prefixes: set[str] = set()
    begins_inside = begins_freely = False
    for tags in sentences:
        before = "O"
        for tag in tags:
            prefix, _, kind = tag.partition("-")
            prefixes.add(prefix if kind else "O")
            follows = before[1:] == tag[1:] and before[:1] in ("B", "I")
            begins_inside |= prefix == "I" and not follows
            begins_freely |= prefix == "B" and not follows
            before = tag
    used = prefixes - {"O"}
    if used & _INSIDE.keys():
        return next((name for name, known in _SCHEMES.items() if used <= known), "")
    return "IOB1" if used <= {"B", "I"} and begins_inside and not begins_freely else ""


def write_as_bio(rows: Sequence[dict[str, Any]]) -> str:
    """Change the tags of all rows of a source to BIO, in place; what is no list of texts stays as it is.

    Returns:
        The scheme that they were in; empty where nothing was changed.
    """
    tagged = [row for row in rows if _is_texts(row.get("tags"))]
    if scheme := scheme_of(row["tags"] for row in tagged):
        for row in tagged:
            row["tags"] = to_bio(row["tags"], scheme)
    return scheme


def told(scheme: str) -> str:
    """Say that tags were changed."""
    return f"{scheme} tags, written as BIO"


def to_bio(tags: Sequence[str], scheme: str) -> list[str]:
    """Write the tags of one sentence in BIO."""
    converted = []
    before = "O"
    for tag in tags:
        prefix, dash, kind = tag.partition("-")
        if scheme == "IOB1":
            begins = prefix == "I" and not (before[1:] == tag[1:] and before[:1] in ("B", "I"))
            converted.append(f"B-{kind}" if begins else tag)
        else:
            converted.append(f"{_INSIDE.get(prefix, prefix)}{dash}{kind}" if dash else tag)
        before = tag
    return converted


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)

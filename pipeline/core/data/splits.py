"""From the splits that a source has to the three that training needs: cut, compared, limited, fingerprinted.

A row goes where its digest says, or that of its group, whatever stands around it: the same row is cut into the same
split when rows are added or come in another order, and neither equal rows nor those of a group are torn apart.
"""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import combinations

from pipeline.config import DataConfig
from pipeline.core.data.rows import CUT, SPLITS, Row, Split
from pipeline.errors import DataError, Fault, fault

Rows = Mapping[str, Sequence[Row]]


def arrange(
    found: Rows, config: DataConfig, where: str, *, cut: int = CUT
) -> tuple[dict[str, Split], dict[str, int], list[str]]:
    """Make train, validation and test out of what was found.

    Args:
        found: Split -> its rows, at least one; train is there.
        config: Shares to cut, whether to drop overlap, how many rows to train on.
        where: The source, for messages.
        cut: Version of the rule by which missing splits are cut.

    Returns:
        The splits by name; for each pair of them the number of rows of the second whose inputs stand in the first;
        sentences for the user.

    Raises:
        DataError: A split would be left with no rows.
    """
    rows, notes = _cut(found, config, cut)
    if config.drop_overlap:
        held_out = {row.key for name in ("validation", "test") for row in rows[name]}
        kept = [row for row in rows["train"] if row.key not in held_out]
        if dropped := len(rows["train"]) - len(kept):
            notes.append(f"{_rows(dropped)} of train dropped: in validation or test too (data.drop_overlap).")
        rows["train"] = kept
    if config.max_train_rows is not None and len(rows["train"]) > config.max_train_rows:
        limit, total = config.max_train_rows, len(rows["train"])
        chosen = sorted(range(total), key=lambda index: rows["train"][index].digest)[:limit]
        rows["train"] = [rows["train"][index] for index in sorted(chosen)]
        notes.append(f"train is limited to {limit} of {total} rows, chosen by hash (data.max_train_rows).")
    if faults := [_empty(name, where) for name in SPLITS if not rows[name]]:
        raise DataError(faults)
    keys = {name: {row.key for row in rows[name]} for name in SPLITS}
    overlap = {f"{a}/{b}": sum(row.key in keys[a] for row in rows[b]) for a, b in combinations(SPLITS, 2)}
    for pair, count in overlap.items():
        if count:
            first, second = pair.split("/")
            verb = "stands" if count == 1 else "stand"
            notes.append(f"{_rows(count)} of {second} {verb} in {first} too.")
    splits = {
        name: Split(name, tuple(rows[name]), fingerprint(rows[name]), None if name in found else "train")
        for name in SPLITS
    }
    return splits, overlap, notes


def fingerprint(rows: Sequence[Row]) -> str:
    """Hash the digests of the rows, in whatever order, to 16 hex digits."""
    return hashlib.sha256("\n".join(sorted(row.digest for row in rows)).encode()).hexdigest()[:16]


def _cut(found: Rows, config: DataConfig, version: int) -> tuple[dict[str, Sequence[Row]], list[str]]:
    """Cut the missing splits off train: the lowest digests are test, the next validation."""
    rows = dict(found)
    notes = []
    total, low = len(rows["train"]), 0.0
    for name, share in (("test", config.test_share), ("validation", config.validation_share)):
        high = low + share
        if name not in found:
            rows[name] = [row for row in rows["train"] if low <= _position(row, version) < high]
            rows["train"] = [row for row in rows["train"] if not low <= _position(row, version) < high]
            count = f"{len(rows[name])} of the {total} rows of train"
            groups = len({row.group for row in rows[name] if row.group}) if version > 1 else 0
            whole = f", {groups} groups as a whole" if groups else ""
            notes.append(f"There is no {name} split: {count} were cut off for it by hash{whole}.")
        low = high
    return rows, notes


def _position(row: Row, version: int) -> float:
    """Place the row in [0, 1) by its group, or else by its digest; the first version knew no groups."""
    placed = (row.group if version > 1 else None) or row.digest
    return int(placed[:13], 16) / 16**13


def _empty(name: str, where: str) -> Fault:
    if name == "train":
        rule = "has no rows left to train on"
        remedy = "Add rows, or take fewer away (data.drop_overlap, data.validation_share, data.test_share)"
    else:
        rule = f"has no {name} split, and train has too few rows, or groups of rows, to cut one off"
        remedy = f"Add a {name} split, add rows to train, or raise data.{name}_share"
    return fault(where, "", rule, remedy)


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"

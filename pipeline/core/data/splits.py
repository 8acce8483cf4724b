"""From the splits that a source has to the three that training needs: cut, compared, limited, fingerprinted.

A row goes where its digest says, or that of its group, whatever stands around it: the same row is cut into the same
split when rows are added or come in another order, and neither equal rows nor those of a group are torn apart. A row
stays in train all the same where its label has no other one there, or where a registered version was trained on it.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import combinations

from pipeline.config import DataConfig
from pipeline.core.data.rows import CUT, SPLITS, Row, Split, num_rows
from pipeline.errors import DataError, Fault, fault

Rows = Mapping[str, Sequence[Row]]
LabelsOf = Callable[[Row], Sequence[str]]


def arrange(
    found: Rows,
    config: DataConfig,
    where: str,
    *,
    cut: int = CUT,
    labels_of: LabelsOf | None = None,
    trained: Collection[str] = (),
) -> tuple[dict[str, Split], dict[str, int], list[str]]:
    """Make train, validation and test out of what was found.

    Args:
        found: Split -> its rows, at least one; train is there.
        config: Shares to cut, whether to drop overlap, how many rows to train on.
        where: The source, for messages.
        cut: Version of the rule by which missing splits are cut.
        labels_of: The labels of a row, of each of which the third version leaves a row in train. None: rows have none.
        trained: Digests of rows that the third version leaves in train.

    Returns:
        The splits by name; for each pair of them the number of rows of the second whose inputs stand in the first;
        sentences for the user.

    Raises:
        DataError: A split would be left with no rows.
    """
    rows, notes = _cut(found, config, cut, labels_of, trained)
    if config.drop_overlap:
        held_out = {row.key for name in ("validation", "test") for row in rows[name]}
        kept = [row for row in rows["train"] if row.key not in held_out]
        if dropped := len(rows["train"]) - len(kept):
            notes.append(f"{num_rows(dropped)} of train dropped: in validation or test too (data.drop_overlap).")
        rows["train"] = kept
    if config.max_train_rows is not None and len(rows["train"]) > config.max_train_rows:
        limit, total = config.max_train_rows, len(rows["train"])
        chosen = sorted(range(total), key=lambda index: rows["train"][index].digest)[:limit]
        rows["train"] = [rows["train"][index] for index in sorted(chosen)]
        notes.append(f"train is limited to {limit} of {total} rows, chosen by hash (data.max_train_rows).")
    if faults := [_empty(name, where, found["train"], cut) for name in SPLITS if not rows[name]]:
        raise DataError(faults)
    keys = {name: {row.key for row in rows[name]} for name in SPLITS}
    overlap = {f"{a}/{b}": sum(row.key in keys[a] for row in rows[b]) for a, b in combinations(SPLITS, 2)}
    for pair, count in overlap.items():
        if count:
            first, second = pair.split("/")
            verb = "stands" if count == 1 else "stand"
            notes.append(f"{num_rows(count)} of {second} {verb} in {first} too.")
    if again := len(rows["test"]) - len({row.digest for row in rows["test"]}):
        verb = "is" if again == 1 else "are"
        notes.append(f"{num_rows(again)} of test {verb} equal to others there: the gate counts each once.")
    splits = {
        name: Split(name, tuple(rows[name]), fingerprint(rows[name]), None if name in found else "train")
        for name in SPLITS
    }
    return splits, overlap, notes


def fingerprint(rows: Sequence[Row]) -> str:
    """Hash the digests of the rows, in whatever order, to 16 hex digits."""
    return hashlib.sha256("\n".join(sorted(row.digest for row in rows)).encode()).hexdigest()[:16]


def _cut(
    found: Rows, config: DataConfig, version: int, labels_of: LabelsOf | None, trained: Collection[str]
) -> tuple[dict[str, Sequence[Row]], list[str]]:
    """Cut the missing splits off train: the lowest digests are test, the next validation."""
    rows = dict(found)
    notes = []
    total, low = len(rows["train"]), 0.0
    ranges = {}
    for name, share in (("test", config.test_share), ("validation", config.validation_share)):
        if name not in found:
            ranges[name] = (low, low + share)
        low += share
    kept = _kept(found["train"], ranges, labels_of, trained) if version > 2 and ranges else frozenset[str]()
    for name, (first, end) in ranges.items():
        taken = [first <= _position(row, version) < end and _unit(row) not in kept for row in rows["train"]]
        rows[name] = [row for row, is_taken in zip(rows["train"], taken, strict=True) if is_taken]
        rows["train"] = [row for row, is_taken in zip(rows["train"], taken, strict=True) if not is_taken]
        count = f"{len(rows[name])} of the {total} rows of train"
        groups = len({row.group for row in rows[name] if row.group}) if version > 1 else 0
        whole = f", {groups} groups as a whole" if groups else ""
        notes.append(f"There is no {name} split: {count} were cut off for it by hash{whole}.")
    if stay := sum(_unit(row) in kept for row in rows["train"]):
        why = "their label has no other row there" + (", or a version was trained on them" if trained else "")
        verb = "stays" if stay == 1 else "stay"
        notes.append(f"{num_rows(stay)} that would have been cut off {verb} in train: {why}.")
    return rows, notes


def _kept(
    rows: Sequence[Row],
    ranges: Mapping[str, tuple[float, float]],
    labels_of: LabelsOf | None,
    trained: Collection[str],
) -> frozenset[str]:
    """Choose what stays in train though its place is in one of the ranges that are cut off: rows, and whole groups.

    That is what was trained on, and of each label of which nothing would be left what has the highest place.
    """
    places = {_unit(row): _position(row, CUT) for row in rows}
    cut_off = {unit for unit, place in places.items() if any(low <= place < end for low, end in ranges.values())}
    kept = {unit for row in rows if row.digest in trained and (unit := _unit(row)) in cut_off}
    if labels_of is None:
        return frozenset(kept)
    labels: dict[str, set[str]] = {}
    there: dict[str, set[str]] = {}
    for row in rows:
        for label in labels_of(row):
            labels.setdefault(_unit(row), set()).add(label)
            there.setdefault(label, set()).add(_unit(row))
    left = {label for unit, its in labels.items() if unit not in cut_off or unit in kept for label in its}
    for label in sorted(there):
        if label not in left:
            unit = max(there[label], key=lambda unit: (places[unit], unit))
            kept.add(unit)
            left |= labels[unit]
    return frozenset(kept)


def _unit(row: Row) -> str:
    """What no cut tears apart: a group, or equal rows."""
    return row.group or row.digest


def _position(row: Row, version: int) -> float:
    """Place the row in [0, 1) by its group, or else by its digest; the first version knew no groups."""
    placed = (row.group if version > 1 else None) or row.digest
    return int(placed[:13], 16) / 16**13


def _empty(name: str, where: str, train: Sequence[Row], version: int) -> Fault:
    units = {row.group if row.group and version > 1 else row.digest for row in train}
    if name == "train" and len(train) > 1 == len(units):
        rule = f"has {len(train)} rows in train that are {_one(train)}, of which nothing can be cut off"
        remedy = "Add other rows, or give validation and test splits"
    elif name == "train":
        rule = "has no rows left to train on"
        remedy = "Add rows, or take fewer away (data.drop_overlap, data.validation_share, data.test_share)"
    elif len(train) > 1 == len(units):
        rule = f"has no {name} split, and none can be cut off: its {len(train)} rows of train are {_one(train)}"
        remedy = f"Add other rows, or a {name} split"
    else:
        what = "groups" if any(row.group for row in train) and version > 1 else "different rows"
        rule = f"has no {name} split, and train has too few to cut one off: {num_rows(len(train))}, {len(units)} {what}"
        remedy = f"Add a {name} split, add rows to train, or raise data.{name}_share"
    return fault(where, "", rule, remedy)


def _one(rows: Sequence[Row]) -> str:
    """Say why rows cannot be torn apart."""
    return "all equal" if len({row.digest for row in rows}) == 1 else "all of one group"

"""Which rows are new to a champion, whatever file or revision they are in. Pure.

Rows are told by the digest of their content. What must not be trained on is told by the key of its inputs: an
evaluation row that comes again with another label, or in capitals, leaks all the same.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.core.data.ledger import Ledger
from pipeline.core.data.rows import Dataset, Row


@dataclass(frozen=True, kw_only=True, slots=True)
class News:
    """What a data set has that the champion has not seen."""

    train: tuple[Row, ...]
    validation: tuple[Row, ...]
    evaluation: tuple[Row, ...]
    """New rows of the test split: the slice of this period."""
    edited: int
    """New rows whose `id` the champion has seen with another content."""
    gone: int
    """Rows that the champion was trained on and that the data set has no more, edited ones aside; they stay in its
    ledger."""
    leaked: int
    """Rows of train and validation that are evaluation rows, of any period: left out."""
    seen: int
    """Rows of the test split that the champion was trained on or chosen by: left out."""
    quarantined: int
    """Rows that came with a version that was rolled back: left out."""

    @property
    def count(self) -> int:
        """New rows to train on."""
        return len(self.train)

    @property
    def digest(self) -> str:
        """16 hex digits that name the new rows of all three splits."""
        parts = [sorted(row.digest for row in rows) for rows in (self.train, self.validation, self.evaluation)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def counts(self) -> dict[str, int | str]:
        """All of it in numbers, as plain JSON."""
        splits = {"train": len(self.train), "validation": len(self.validation), "evaluation": len(self.evaluation)}
        left_out = {name: getattr(self, name) for name in ("edited", "gone", "leaked", "seen", "quarantined")}
        return {"digest": self.digest, **splits, **left_out}

    def line(self) -> str:
        """Say it in words."""
        found = f"{len(self.train)} new rows to train on, {len(self.validation)} to choose by, "
        return "; ".join([f"{found}{len(self.evaluation)} to judge by", *self.others()])

    def others(self) -> list[str]:
        """Say of which rows else there are how many."""
        others = {
            "edited": self.edited,
            "gone from the data": self.gone,
            "left out since they are evaluation rows": self.leaked,
            "left out of the evaluation since they were trained on": self.seen,
            "in quarantine": self.quarantined,
        }
        return [f"{count} {what}" for what, count in others.items() if count]


def news(ledger: Ledger, dataset: Dataset, *, reserved: Sequence[Row] = (), quarantine: Collection[str] = ()) -> News:
    """Find the new rows.

    Args:
        ledger: The champion's.
        dataset: As it is now.
        reserved: Evaluation rows of versions that were not promoted: no slices of the champion's. Rows of the data with
            their inputs stay evaluation rows, in whatever split they are now; with the targets that they have now.
        quarantine: Digests of rows that are not to be used again.
    """
    known, held = ledger.known, {row.key for one in ledger.slices for row in one.rows}
    used = {row.key for row in (*ledger.trained, *ledger.chosen)}
    kept_out = {row.key for row in reserved}
    moved = [row for row in (*dataset.train.rows, *dataset.validation.rows) if row.key in kept_out]
    candidates = _new((*dataset.test.rows, *moved), known, quarantine)
    evaluation = [row for row in candidates if row.key not in used | held]
    held |= {row.key for row in evaluation}
    train, validation = (_new(split.rows, known, quarantine) for split in (dataset.train, dataset.validation))
    kept = [[row for row in rows if row.key not in held] for rows in (train, validation)]
    ids = {row.fields["id"] for row in (*ledger.trained, *ledger.chosen) if "id" in row.fields}
    edited = [row.fields["id"] for part in kept for row in part if row.fields.get("id") in ids]
    everything = [row for split in dataset.splits for row in split.rows]
    now = {row.digest for row in everything}
    # Those that are known are counted too: equal rows leak no less.
    own = {row.digest for row in (*ledger.trained, *ledger.chosen)}
    before = [_new(split.rows, own, quarantine) for split in (dataset.train, dataset.validation)]
    tested = _new((*dataset.test.rows, *moved), (), quarantine)
    return News(
        train=tuple(kept[0]),
        validation=tuple(kept[1]),
        evaluation=tuple(evaluation),
        edited=len(edited),
        gone=sum(row.digest not in now and row.fields.get("id") not in edited for row in ledger.trained),
        leaked=sum(row.key in held for rows in before for row in rows),
        seen=sum(row.key in used for row in tested),
        quarantined=len(now & set(quarantine)),
    )


def unseen(dataset: Dataset) -> list[Row]:
    """The test rows that are in neither of the other splits, each once; told by their inputs."""
    used = {row.key for split in (dataset.train, dataset.validation) for row in split.rows}
    return _new((row for row in dataset.test.rows if row.key not in used), (), ())


def replayed(rows: Sequence[Row], share: float, labels: Mapping[str, Collection[str]]) -> list[Row]:
    """Choose the old rows that are trained on again, by their digest: the same share of every label, at least a row.

    Args:
        rows: That the champion was trained on.
        share: Of them, from 0 to 1.
        labels: Digest -> the labels of a row; a row goes with the rarest of them.

    Returns:
        In the order of `rows`.
    """
    if not share:
        return []
    counts: dict[str, int] = {}
    for row in rows:
        for label in {*labels[row.digest]}:
            counts[label] = counts.get(label, 0) + 1
    groups: dict[str, list[Row]] = {}
    for row in rows:
        rarest = min(labels[row.digest], key=lambda label: (counts[label], label), default="")
        groups.setdefault(rarest, []).append(row)
    chosen: set[str] = set()
    for group in groups.values():
        ordered = sorted(group, key=lambda row: row.digest)
        chosen |= {row.digest for row in ordered[: max(1, round(len(group) * share))]}
    for label in sorted(counts):  # one that always goes with a rarer one may have been passed over
        with_it = [row.digest for row in rows if label in labels[row.digest]]
        if chosen.isdisjoint(with_it):
            chosen.add(min(with_it))
    return [row for row in rows if row.digest in chosen]


def _new(rows: Iterable[Row], known: Collection[str], quarantine: Collection[str]) -> list[Row]:
    """Those not known, each once."""
    found = {row.digest: row for row in rows if row.digest not in known and row.digest not in quarantine}
    return list(found.values())

"""Which rows are new to a champion, whatever file or revision they are in. Pure.

Rows are told by the digest of their content. What must not be trained on is told by the key of its inputs: an
evaluation row that comes again with another label, or in capitals, leaks all the same. Of a row that was edited the
`id` tells which it was, where ids can be believed (`_edits`).
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.core.data.ledger import Ledger
from pipeline.core.data.rows import Dataset, Row, many


@dataclass(frozen=True, kw_only=True, slots=True)
class News:
    """What a data set has that the champion has not seen."""

    train: tuple[Row, ...]
    validation: tuple[Row, ...]
    evaluation: tuple[Row, ...]
    """New rows of the test split: the slice of this period."""
    replaced: tuple[Row, ...]
    """Rows that the champion was trained on or chosen by, of which new ones are edits."""
    ambiguous: int
    """New rows with an `id` that the champion knows and that tells nothing: taken as rows like any other."""
    gone: int
    """Rows that the champion was trained on and that the data set has no more, edited ones aside; they stay in its
    ledger."""
    leaked: int
    """Rows of train and validation that are evaluation rows, of any period: left out."""
    leaked_now: int
    """Those of them that are evaluation rows of this period."""
    leaked_tests: int
    """Evaluation rows of this period that stand in train or validation too."""
    offered: int
    """All rows of train and validation, each once."""
    seen: int
    """Rows of the test split that the champion, or another version, was trained on or chosen by: left out."""
    quarantined: int
    """Rows that came with a version that was rolled back: left out."""
    repeated: int = 0
    """New rows that are equal to others of their split: they count once."""
    relabelled: int = 0
    """Rows of the test split that stand in a slice of before with another target, which the slice keeps."""

    @property
    def count(self) -> int:
        """New rows to train on."""
        return len(self.train)

    @property
    def leaked_share(self) -> float:
        """Share of evaluation rows among those of train and validation: of this period's among the new ones, or of all
        among all, whichever is larger. Those of periods before stay in data that grow, and were told of then."""
        now = self.leaked_now / max(self.leaked_now + len(self.train) + len(self.validation), 1)
        return max(now, self.leaked / max(self.offered, 1))

    @property
    def leaked_tests_share(self) -> float:
        """Share of this period's evaluation rows that stand in train or validation too: among very many rows to train
        on, a whole slice is few."""
        return self.leaked_tests / max(len(self.evaluation), 1)

    @property
    def digest(self) -> str:
        """16 hex digits that name the new rows of all three splits."""
        parts = [sorted(row.digest for row in rows) for rows in (self.train, self.validation, self.evaluation)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def counts(self) -> dict[str, int | str]:
        """All of it in numbers, as plain JSON."""
        splits = {"train": len(self.train), "validation": len(self.validation), "evaluation": len(self.evaluation)}
        names = ("ambiguous", "gone", "leaked", "seen", "quarantined", "repeated", "relabelled")
        others = {"edited": len(self.replaced), **{name: getattr(self, name) for name in names}}
        return {"digest": self.digest, **splits, **others}

    def line(self) -> str:
        """Say it in words."""
        found = f"{many(self.count, 'new row')} to train on, {len(self.validation)} to choose by, "
        return "; ".join([f"{found}{len(self.evaluation)} to judge by", *self.others()])

    def others(self) -> list[str]:
        """Say of which rows else there are how many."""
        others = {
            "edited": len(self.replaced),
            "with an id that tells nothing, since other rows have it too": self.ambiguous,
            "gone from the data": self.gone,
            "left out since they are evaluation rows": self.leaked,
            "left out of the evaluation since they were trained on": self.seen,
            "in quarantine": self.quarantined,
            "merged with equal ones": self.repeated,
            "to judge by with another target now, of which their slice keeps the one it had": self.relabelled,
        }
        return [f"{count} {what}" for what, count in others.items() if count]


def news(
    ledger: Ledger,
    dataset: Dataset,
    *,
    reserved: Sequence[Row] = (),
    quarantine: Collection[str] = (),
    used: Collection[str] = (),
) -> News:
    """Find the new rows.

    Args:
        ledger: The champion's.
        dataset: As it is now.
        reserved: Evaluation rows of versions that were not promoted: no slices of the champion's. Rows of the data with
            their inputs stay evaluation rows, in whatever split they are now; with the targets that they have now.
        quarantine: Digests of rows that are not to be used again.
        used: Keys of rows that versions which were not promoted have been trained on or chosen by.
    """
    everything = [row for split in dataset.splits for row in split.rows]
    edits = _edits(ledger, everything)
    # What was edited back is new again.
    known = {row.digest for row in (*ledger.trained, *ledger.chosen, *ledger.evaluation)}
    known |= {row.digest for row in ledger.former if row.digest not in edits}
    held, used = {row.key for row in ledger.evaluation}, ledger.seen_keys.union(used)
    kept_out = {row.key for row in reserved}
    # Where one is among the test rows, another with its inputs has not moved: it leaks, as it did before.
    gone = kept_out - {row.key for row in dataset.test.rows}
    moved = [row for row in (*dataset.train.rows, *dataset.validation.rows) if row.key in gone]
    candidates = _new((*dataset.test.rows, *moved), known, quarantine)
    relabelled = sum(row.key in held for row in candidates)
    evaluation = [row for row in candidates if row.key not in used | held]
    current = {row.key for row in evaluation}
    held |= current
    train, validation = (_new(split.rows, known, quarantine) for split in (dataset.train, dataset.validation))
    kept = [[row for row in rows if row.key not in held] for rows in (train, validation)]
    replaced = {edits[row.digest].digest: edits[row.digest] for row in (*kept[0], *kept[1]) if row.digest in edits}
    ids = {row.id for row in (*ledger.seen, *ledger.evaluation) if row.id is not None}
    ambiguous = [row for part in kept for row in part if row.id in ids and row.digest not in edits]
    now = {row.digest for row in everything}
    # Those that are known are counted too: equal rows leak no less.
    own = {row.digest for row in ledger.seen}
    before = [_new(split.rows, own, quarantine) for split in (dataset.train, dataset.validation)]
    tested = _new((*dataset.test.rows, *moved), (), quarantine)
    return News(
        train=tuple(kept[0]),
        validation=tuple(kept[1]),
        evaluation=tuple(evaluation),
        replaced=tuple(replaced.values()),
        ambiguous=len(ambiguous),
        gone=sum(row.digest not in now and row.digest not in replaced for row in ledger.trained),
        leaked=sum(row.key in held for rows in before for row in rows),
        leaked_now=sum(row.key in current for rows in before for row in rows),
        leaked_tests=len(current & {row.key for rows in before for row in rows} - kept_out),
        offered=len({row.digest for split in (dataset.train, dataset.validation) for row in split.rows}),
        seen=sum(row.key in used for row in tested),
        quarantined=len(now & set(quarantine) - known),  # of a sweep that was rolled back all rows are
        repeated=sum(_num_repeated(split.rows, known.union(quarantine)) for split in dataset.splits),
        relabelled=relabelled,
    )


def unseen(dataset: Dataset) -> list[Row]:
    """The test rows that are in neither of the other splits, each once; told by their inputs."""
    used = {row.key for split in (dataset.train, dataset.validation) for row in split.rows}
    return _new((row for row in dataset.test.rows if row.key not in used), (), ())


def shuffled(rows: Sequence[Row], seed: str) -> list[Row]:
    """Put the rows into an order that depends on the seed and on what each of them is, whatever stands around it."""
    return sorted(rows, key=lambda row: hashlib.sha256(f"{seed} {row.digest}".encode()).digest())


def replayed(
    rows: Sequence[Row], share: float, labels: Mapping[str, Collection[str]], seed: str
) -> list[tuple[Row, float]]:
    """Choose the old rows that are trained on again: the same share of every label, at least a row.

    Args:
        rows: That the champion was trained on.
        share: Of them, from 0 to 1.
        labels: Digest -> the labels of a row; a row goes with the rarest of them.
        seed: Of the pass: by another one others are chosen, or most rows would never be seen again.

    Returns:
        In the order of `rows`, each with the number of rows that it stands for.
    """
    if not share:
        return []
    counts: dict[str, int] = {}
    for row in rows:
        for label in {*labels[row.digest]}:
            counts[label] = counts.get(label, 0) + 1
    groups: dict[str, list[Row]] = {}
    for row in shuffled(rows, seed):
        rarest = min(labels[row.digest], key=lambda label: (counts[label], label), default="")
        groups.setdefault(rarest, []).append(row)
    chosen: set[str] = set()
    for group in groups.values():
        chosen |= {row.digest for row in group[: max(1, round(len(group) * share))]}
    for label in sorted(counts):  # one that always goes with a rarer one may have been passed over
        with_it = [row for row in rows if label in labels[row.digest]]
        if chosen.isdisjoint(row.digest for row in with_it):
            chosen.add(shuffled(with_it, seed)[0].digest)
    stands_for: dict[str, float] = {}
    for group in groups.values():
        its = [row.digest for row in group if row.digest in chosen]
        stands_for |= dict.fromkeys(its, len(group) / max(len(its), 1))
    return [(row, stands_for[row.digest]) for row in rows if row.digest in chosen]


def _edits(ledger: Ledger, rows: Sequence[Row]) -> dict[str, Row]:
    """Find the edits: digest of a row of the data -> the row of the ledger that it takes the place of.

    It has that row's id, no other row of either side has it, and the old content is gone from the data. Where every
    export counts its rows anew, though, all of that may hold of rows that have nothing in common: where ids come back
    with other inputs more often than with the same, they name nothing, and only another target is an edit.
    """
    now = {row.digest for row in rows}
    own = {row.digest for row in (*ledger.trained, *ledger.chosen)}
    before, after = _by_id((*ledger.trained, *ledger.chosen, *ledger.evaluation)), _by_id(rows)
    pairs = [(before[name], row) for name, row in after.items() if name in before]
    changed = [(old, row) for old, row in pairs if old.digest in own and old.digest not in now]
    same = [(old, row) for old, row in pairs if old.key == row.key]
    if 2 * len(same) < len(pairs):
        changed = [(old, row) for old, row in changed if old.key == row.key]
    return {row.digest: old for old, row in changed}


def _by_id(rows: Iterable[Row]) -> dict[str, Row]:
    """The rows that alone have their id."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row.id is not None:
            found.setdefault(row.id, {})[row.digest] = row
    return {name: row for name, there in found.items() if len(there) == 1 for row in there.values()}


def _num_repeated(rows: Iterable[Row], known: Collection[str]) -> int:
    """How many of those not known are equal to another one."""
    digests = [row.digest for row in rows if row.digest not in known]
    return len(digests) - len(set(digests))


def _new(rows: Iterable[Row], known: Collection[str], quarantine: Collection[str]) -> list[Row]:
    """Those not known, each once."""
    found = {row.digest: row for row in rows if row.digest not in known and row.digest not in quarantine}
    return list(found.values())

"""What a registered version has seen, kept with it: rows trained on, frozen evaluation slices, scores over time.

    ledger.json              the slices in order, and how each version on the way scored on them
    trained.jsonl            rows that it or a version before it was trained on, from which replay draws
    chosen.jsonl             rows on which epochs and trials were chosen
    former.jsonl             rows of both kinds that were edited since: known, and not replayed
    slices/<digest>.jsonl    rows of one slice, in canonical fields

A slice is addressed by the fingerprint of its rows. Reading checks all rows, so that what was changed is found out.
"""

import dataclasses
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.config import TaskConfig
from pipeline.core.data.rows import Row, make_row
from pipeline.core.data.splits import fingerprint
from pipeline.errors import DataError, Fault, fault

FORMAT = 1
_FILE, _SLICES = "ledger.json", "slices"
_TRAINED, _CHOSEN, _FORMER = "trained.jsonl", "chosen.jsonl", "former.jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class Slice:
    """The evaluation rows of one period: never trained on, and judged on for ever after."""

    name: str
    """Of the period: the id of the sweep or pass that first used it."""
    rows: tuple[Row, ...]

    @property
    def digest(self) -> str:
        """Fingerprint of the rows."""
        return fingerprint(self.rows)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A champion on the way to this version."""

    name: str
    """The sweep or pass that trained it."""
    scores: Mapping[str, float]
    """Slice's name -> its score there; of slices that came later only the next one is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ledger:
    """What one version has seen."""

    trained: tuple[Row, ...]
    chosen: tuple[Row, ...] = ()
    former: tuple[Row, ...] = ()
    """Rows that it was trained on or chosen by, of which the data have had another content since."""
    used: frozenset[str] = frozenset()
    """Keys of rows that other versions of the name were trained on or chosen by: never evaluation rows."""
    slices: tuple[Slice, ...] = ()
    """In the order of their periods."""
    history: tuple[Entry, ...] = ()
    """In the order of their periods; the last one is this version."""
    added: tuple[str, ...] = field(default=())
    """Digests of the rows that were new to this version, and of its own slice."""

    @property
    def taught(self) -> tuple[Row, ...]:
        """All rows whose labels it has been trained on, or may have been."""
        return (*self.trained, *self.former)

    @property
    def seen(self) -> tuple[Row, ...]:
        """All rows that it was ever trained on or chosen by."""
        return (*self.trained, *self.chosen, *self.former)

    @property
    def seen_keys(self) -> set[str]:
        """Keys of all rows that it or another version of the name was ever trained on or chosen by."""
        return {row.key for row in self.seen} | self.used

    @property
    def evaluation(self) -> tuple[Row, ...]:
        """The rows of all slices."""
        return tuple(row for one in self.slices for row in one.rows)

    @property
    def known(self) -> set[str]:
        """Digests of all rows that need not be looked at again."""
        return {row.digest for row in (*self.seen, *self.evaluation)}


def write_ledger(folder: Path, ledger: Ledger) -> None:
    """Write a ledger into a folder that is not there yet."""
    (folder / _SLICES).mkdir(parents=True)
    values = {
        "format": FORMAT,
        "slices": [{"name": one.name, "digest": one.digest, "rows": len(one.rows)} for one in ledger.slices],
        "history": [dataclasses.asdict(entry) for entry in ledger.history],
        "added": list(ledger.added),
        "trained": fingerprint(ledger.trained),
        "chosen": fingerprint(ledger.chosen),
        "former": fingerprint(ledger.former),
        "used": sorted(ledger.used),
    }
    (folder / _FILE).write_text(json.dumps(values, indent=2) + "\n", "utf-8")
    _write_rows(folder / _TRAINED, ledger.trained)
    _write_rows(folder / _CHOSEN, ledger.chosen)
    _write_rows(folder / _FORMER, ledger.former)
    for one in ledger.slices:
        _write_rows(_slice_file(folder, one.digest), one.rows)


def read_ledger(folder: Path, task: TaskConfig) -> Ledger:
    """Read what `write_ledger` wrote of rows of this task.

    Raises:
        DataError: There is no ledger, rows are not of this task, or not those that were written.
    """
    try:
        values = json.loads((folder / _FILE).read_text("utf-8"))
        if values["format"] != FORMAT:
            raise ValueError(f"its format is {values['format']}, this version reads {FORMAT}")
        described, history = values["slices"], tuple(Entry(**entry) for entry in values["history"])
        added, trained, chosen = tuple(values["added"]), values["trained"], values["chosen"]
        # What ledgers of before did not keep.
        former, used = values.get("former"), frozenset(values.get("used", ()))
        named = [(str(one["name"]), str(one["digest"])) for one in described]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        rule, remedy = "has no ledger of what it has seen", "Register a version anew with `make sweep`"
        raise DataError(fault(folder, error, rule, remedy)) from error
    canonical = dataclasses.replace(task, columns={name: name for name in task.field_names})
    return Ledger(
        trained=_read_rows(folder / _TRAINED, canonical, trained),
        chosen=_read_rows(folder / _CHOSEN, canonical, chosen),
        former=() if former is None else _read_rows(folder / _FORMER, canonical, former),
        slices=tuple(
            Slice(name=name, rows=_read_rows(_slice_file(folder, digest), canonical, digest)) for name, digest in named
        ),
        used=used,
        history=history,
        added=added,
    )


def read_ledgers(folders: Iterable[Path], task: TaskConfig) -> Iterator[Ledger | None]:
    """Read several, in order; None is what a version has that was made by hand, or before there were ledgers, and one
    that cannot be read."""
    for folder in folders:
        try:
            yield read_ledger(folder, task)
        except DataError:
            yield None


def extended(
    ledger: Ledger | None,
    *,
    name: str,
    trained: Sequence[Row],
    chosen: Sequence[Row],
    slice_rows: Sequence[Row],
    scores: Mapping[str, float],
    before: Mapping[str, float] | None = None,
    replaced: Sequence[Row] = (),
) -> Ledger:
    """Add a period to a champion's ledger: what the version that was trained in it has seen.

    Args:
        ledger: The champion's; None for the first version.
        name: Of the period.
        trained: New rows that it was trained on.
        chosen: New rows that it was chosen on.
        slice_rows: The period's evaluation rows; none where they are those of a slice that is there.
        scores: Slice's name -> score of the new version.
        before: Slice's name -> score of the champion, for the new slice.
        replaced: Rows of the champion's that new ones are edits of.
    """
    ledger = ledger or Ledger(trained=())
    new = Slice(name=name, rows=tuple(slice_rows))
    known = {one.digest for one in ledger.slices}
    slices = ledger.slices if not new.rows or new.digest in known else (*ledger.slices, new)
    history = ledger.history
    if history and before:
        history = (*history[:-1], dataclasses.replace(history[-1], scores={**before, **history[-1].scores}))
    edited = {row.digest for row in replaced}
    again = {row.digest for row in (*trained, *chosen)}
    return dataclasses.replace(
        ledger,
        trained=_united(without(ledger.trained, edited), trained),
        chosen=_united(without(ledger.chosen, edited), chosen),
        former=_united(without(ledger.former, again), replaced),
        slices=slices,
        history=(*history, Entry(name=name, scores=dict(scores))),
        added=tuple(dict.fromkeys(row.digest for row in (*trained, *chosen, *slice_rows))),
    )


def without(rows: Iterable[Row], digests: Collection[str]) -> list[Row]:
    """The rows but those that have one of the digests."""
    return [row for row in rows if row.digest not in digests]


def _united(old: Sequence[Row], new: Sequence[Row]) -> tuple[Row, ...]:
    """Both, each row once."""
    return tuple({row.digest: row for row in (*old, *new)}.values())


def _slice_file(folder: Path, digest: str) -> Path:
    return folder / _SLICES / f"{digest}.jsonl"


def _write_rows(file: Path, rows: Iterable[Row]) -> None:
    # ASCII, so that no character inside a text is taken for the end of a line.
    text = "".join(json.dumps({**row.fields, **(row.raw or {})}) + "\n" for row in rows)
    # Never empty: an upload without a length is sent in chunks, which not every proxy before a server passes on.
    file.write_text(text or "\n", "utf-8")


def _read_rows(file: Path, canonical: TaskConfig, digest: str) -> tuple[Row, ...]:
    """Read the rows of a file, which must be those that were written: `digest` is their fingerprint."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(_spoilt(str(file), f"cannot be read: {error}")) from error
    made = [
        one for number, line in enumerate(lines, start=1) if line for one in _row(line, canonical, f"{file}:{number}")
    ]
    if faults := [one for one in made if isinstance(one, Fault)]:
        raise DataError(faults)
    rows = tuple(row for row in made if isinstance(row, Row))
    if fingerprint(rows) != digest:
        raise DataError(_spoilt(str(file), f"has other rows than were written: they should be {digest}"))
    return rows


def _row(line: str, canonical: TaskConfig, where: str) -> Iterator[Row | Fault]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        yield _spoilt(where, "is not valid JSON")
        return
    if missing := [name for name in canonical.field_names if name not in values]:
        yield _spoilt(where, f"has no {' and no '.join(missing)}: it is no row of task {canonical.name}")
    else:
        yield from make_row(values, canonical, where)


def _spoilt(where: str, rule: str) -> Fault:
    return fault(where, "", rule, "Restore the file")

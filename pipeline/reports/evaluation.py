"""A registered version on labelled rows: its scores, and what its answers show."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.core.data.rows import Row
from pipeline.core.tasks.figures import Confusion, Figure
from pipeline.core.tasks.scores import Scores
from pipeline.core.tasks.task import Answer
from pipeline.reports import words
from pipeline.reports.tables import Column, FittingTable, markdown

_MOST_LABELS = 8
"""Labels that are shown as a table with a row and a column each; of more, the pairs that were confused most often."""
_MOST_LINES = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What a version answered, and how well."""

    title: str
    """The version, and the rows."""
    rows: Sequence[Row]
    answers: Sequence[Answer]
    scores: Mapping[str, Scores]
    """By metric, the primary one first; the scores of each have it as theirs."""
    figures: Sequence[Figure]
    counts: Mapping[str, int]
    """What is worth a number beside the scores -> how many rows."""
    notes: Sequence[str] = field(default=())
    """Sentences on the rows."""
    partial: str = ""
    """How many of the answers are to a part of their text; empty where none is."""

    @property
    def primary(self) -> Scores:
        """By the metric that the task is selected by."""
        return next(iter(self.scores.values()))

    def points(self) -> Iterator[tuple[str, float]]:
        """Name and value of what is recorded, called as in the run of a job."""
        primary = self.primary
        values = {"primary": primary.primary, "low": primary.low, "high": primary.high, "baseline": primary.baseline}
        for name, value in ({**primary.metrics} | values | {**self.counts}).items():
            yield f"test/{name}", value
        for name, scores in list(self.scores.items())[1:]:
            yield from ((f"test/{name}_low", scores.low), (f"test/{name}_high", scores.high))

    def predictions(self) -> list[dict[str, object]]:
        """Each row with its answer, as a table."""
        return [
            {"origin": row.origin, "digest": row.digest, **row.fields, "predicted": given}
            for row, given in zip(self.rows, self.answers, strict=True)
        ]


def scores_table(evaluation: Evaluation) -> FittingTable:
    """Each metric with its interval and its baseline."""
    return FittingTable(_score_columns(evaluation))


def evaluation_markdown(evaluation: Evaluation) -> str:
    """The scores and the notes for the description of a run."""
    notes = [*evaluation.notes, *([evaluation.partial] if evaluation.partial else [])]
    return "\n".join([markdown(_score_columns(evaluation)), *(f"* {note}" for note in notes)])


def figure_table(shown: Figure) -> FittingTable | None:
    """A figure as a table, as far as a terminal has room; None where it has no numbers."""
    if isinstance(shown, Confusion):
        return FittingTable(_matrix(shown) if len(_labels(shown)) <= _MOST_LABELS else _confused(shown))
    records = shown.records()[:_MOST_LINES]
    if not records:
        return None
    return FittingTable(
        [
            Column(
                title=name, cells=[_cell(name, record[name]) for record in records], right=not isinstance(first, str)
            )
            for name, first in records[0].items()
        ]
    )


def _score_columns(evaluation: Evaluation) -> list[Column]:
    with_interval = evaluation.scores
    values = dict(evaluation.primary.metrics)
    names = [*with_interval, *(name for name in values if name not in with_interval)]
    ranges = [with_interval.get(name) for name in names]
    return [
        Column(title="metric", cells=names),
        Column(title="score", cells=[words.score(values[name]) for name in names], right=True),
        Column(
            title="95 %",
            cells=[
                "-" if one is None else words.interval(one.low, one.high, name)
                for name, one in zip(names, ranges, strict=True)
            ],
        ),
        Column(
            title="base",
            cells=[
                words.score(None if one is None else one.baseline, name)
                for name, one in zip(names, ranges, strict=True)
            ],
            right=True,
        ),
    ]


def _labels(shown: Confusion) -> list[str]:
    return list(dict.fromkeys([*shown.labels, *sorted({*shown.gold} - {*shown.labels})]))


def _matrix(shown: Confusion) -> list[Column]:
    counts, labels = Counter(zip(shown.gold, shown.said, strict=True)), _labels(shown)
    answered = [Column(title=said, cells=[str(counts[true, said]) for true in labels], right=True) for said in labels]
    return [Column(title="label \\ answer", cells=labels), *answered]


def _confused(shown: Confusion) -> list[Column]:
    pairs = Counter(pair for pair in zip(shown.gold, shown.said, strict=True) if pair[0] != pair[1])
    most = sorted(pairs.items(), key=lambda one: (-one[1], one[0]))[:_MOST_LINES]
    totals = Counter(shown.gold)
    return [
        Column(title="label", cells=[true for (true, _), _ in most]),
        Column(title="answered as", cells=[said for (_, said), _ in most]),
        Column(title="rows", cells=[f"{count} of {totals[true]}" for (true, _), count in most], right=True),
    ]


def _cell(name: str, value: object) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if name == "support" else words.score(value)
    return str(value)

"""Tables for the console, and the leaderboard in the forms that are recorded.

A table that is too wide for its console loses its least important columns, never its right edge.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from pipeline.reports import words
from pipeline.rules.versions import Version


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaderboardRow:
    """The winner of one job."""

    job: str
    method: str
    width: int | None
    """None: the method has none."""
    layers: str
    """That have adapters, as they are set; empty: the method has no such setting."""
    learning_rate: float
    metric: str
    """Name of the primary metric."""
    validation: float
    test: float
    low: float
    high: float
    """95 % interval of `test`."""
    baseline: float
    chance: float | None = None
    """What an answer without a model scores, where `baseline` is the untrained checkpoint's."""
    share: float
    """Trained parameters over those of the checkpoint."""
    bundle_bytes: int
    seconds: float
    """Training and evaluation of all its trials."""
    epoch_s: float
    """Training of the winner, an epoch."""
    alias: str
    """champion or challenger."""
    name: str
    """Registered name."""
    version: int
    reason: str
    """Why it has its alias."""
    note: str = ""
    """Of a first champion: what its test rows will not be able to show."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MatrixRow:
    """One job before it starts."""

    job: str
    kind: str
    num_train: int
    num_validation: int
    num_test: int
    trials: int
    epochs: int
    """Planned for all its trials together."""
    share: float
    """Trained parameters over those of the checkpoint, at the widest of the search."""
    cost: "Cost | None" = None
    """None: not estimated."""
    fixed: str = ""
    """What the user has set of the keys that the method's own search would try."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Estimate for a whole job."""

    seconds: float
    memory_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column: its cells, and how soon it is given up."""

    title: str
    cells: Sequence[str | Text]
    right: bool = False
    rank: int = 0
    """0: always there; the highest rank goes first."""


@final
class FittingTable:
    """A table that drops columns until it fits."""

    def __init__(self, columns: Sequence[Column], title: str | None = None) -> None:
        self.columns = tuple(columns)
        self.title = title

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = list(self.columns)
        ranks = sorted({column.rank for column in columns if column.rank}, reverse=True)
        table = self._table(columns)
        for rank in ranks:
            if Measurement.get(console, options.update(width=10_000), table).maximum <= options.max_width:
                break
            columns = [column for column in columns if column.rank != rank]
            table = self._table(columns)
        yield table

    def _table(self, columns: Sequence[Column]) -> Table:
        table = Table(box=box.SIMPLE_HEAD, title=self.title, title_justify="left", padding=(0, 1, 0, 0))
        for column in columns:
            table.add_column(column.title, justify="right" if column.right else "left", overflow="fold")
        for cells in zip(*(column.cells for column in columns), strict=True):
            table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in cells))
        return table


def leaderboard_table(rows: Sequence[LeaderboardRow]) -> FittingTable:
    """The winners of a sweep."""
    return FittingTable(_leaderboard_columns(rows), title="Leaderboard")


def leaderboard_markdown(rows: Sequence[LeaderboardRow]) -> str:
    """The leaderboard for a Markdown file, whole."""
    return markdown(_leaderboard_columns(rows))


def markdown(columns: Sequence[Column]) -> str:
    """A table in Markdown, all its columns; bars and line breaks in a cell do not end it."""
    titles, rules = [column.title for column in columns], ["---:" if column.right else "---" for column in columns]
    cells = zip(*(column.cells for column in columns), strict=True)
    shown = [[" ".join(str(cell).split()).replace("|", "\\|") for cell in row] for row in (titles, *cells)]
    return "".join(f"| {' | '.join(row)} |\n" for row in (shown[0], rules, *shown[1:]))


def leaderboard_records(rows: Sequence[LeaderboardRow]) -> list[dict[str, Any]]:
    """The leaderboard as plain data, unrounded."""
    return [asdict(row) for row in rows]


def matrix_table(rows: Sequence[MatrixRow]) -> FittingTable:
    """What a sweep is going to do; what it would cost only where that was estimated, for every row."""
    columns = [
        Column(title="job", cells=[row.job for row in rows]),
        Column(title="kind", cells=[row.kind for row in rows], rank=2),
        Column(title="train", cells=[f"{row.num_train:,}" for row in rows], right=True),
        Column(title="validation", cells=[f"{row.num_validation:,}" for row in rows], right=True, rank=3),
        Column(title="test", cells=[f"{row.num_test:,}" for row in rows], right=True, rank=3),
        Column(title="trials", cells=[str(row.trials) for row in rows], right=True),
        Column(title="epochs", cells=[str(row.epochs) for row in rows], right=True),
        Column(title="trained", cells=[words.share(row.share) for row in rows], right=True),
    ]
    if any(row.fixed for row in rows):
        columns.append(Column(title="fixed", cells=[row.fixed for row in rows]))
    costs = [row.cost for row in rows if row.cost is not None]
    if costs:
        columns += [
            Column(title="time", cells=[words.duration(cost.seconds) for cost in costs], right=True),
            Column(title="memory", cells=[words.size(cost.memory_bytes) for cost in costs], right=True),
        ]
    return FittingTable(columns)


def status_table(versions: Iterable[Version]) -> FittingTable:
    """The champions and challengers of every registered name."""
    rows = list(versions)
    columns = [
        Column(title="name", cells=[row.name for row in rows]),
        Column(title="version", cells=[str(row.version) for row in rows], right=True),
        Column(title="alias", cells=[_alias(row.alias) for row in rows]),
        Column(title="metric", cells=[row.metric for row in rows], rank=2),
        Column(title="valid.", cells=[words.score(row.validation, row.metric) for row in rows], right=True, rank=3),
        Column(title="test", cells=[words.score(row.test, row.metric) for row in rows], right=True),
        Column(title="95 %", cells=[words.interval(row.low, row.high, row.metric) for row in rows], rank=1),
        Column(title="base", cells=[words.score(row.baseline, row.metric) for row in rows], right=True, rank=4),
        Column(title="method", cells=[row.method for row in rows], rank=7),
        Column(title="checkpoint", cells=[row.checkpoint for row in rows], rank=5),
        Column(title="data", cells=[row.source for row in rows], rank=6),
        Column(title="age", cells=[words.age(row.created) for row in rows], right=True),
    ]
    return FittingTable(columns)


def _leaderboard_columns(rows: Sequence[LeaderboardRow]) -> list[Column]:
    layers = Column(title="layers", cells=[row.layers or "-" for row in rows], rank=6)
    return [
        Column(title="job", cells=[row.job for row in rows]),
        Column(title="method", cells=[row.method for row in rows], rank=7),
        Column(title="width", cells=[words.whole(row.width) for row in rows], right=True),
        *([layers] if any(row.layers not in ("", "all") for row in rows) else []),
        Column(title="lr", cells=[words.rate(row.learning_rate) for row in rows], right=True),
        Column(title="metric", cells=[row.metric for row in rows], rank=6),
        Column(title="valid.", cells=[words.score(row.validation, row.metric) for row in rows], right=True),
        Column(title="test", cells=[words.score(row.test, row.metric) for row in rows], right=True),
        Column(title="95 %", cells=[words.interval(row.low, row.high, row.metric) for row in rows], rank=1),
        Column(title="base", cells=[_baseline(row) for row in rows], right=True, rank=2),
        Column(title="share", cells=[words.share(row.share) for row in rows], right=True, rank=3),
        Column(title="epoch", cells=[words.duration(row.epoch_s) for row in rows], right=True, rank=8),
        Column(title="size", cells=[words.size(row.bundle_bytes) for row in rows], right=True, rank=5),
        Column(title="time", cells=[words.duration(row.seconds) for row in rows], right=True, rank=4),
        Column(title="alias", cells=[_alias(row.alias) for row in rows]),
    ]


def _alias(alias: str) -> Text:
    return Text(alias, style="green" if alias == "champion" else "yellow")


def _baseline(row: LeaderboardRow) -> str:
    """The baseline, and chance where that is another: 0.738 (0.250)."""
    chance = "" if row.chance is None else f" ({words.score(row.chance, row.metric)})"
    return words.score(row.baseline, row.metric) + chance

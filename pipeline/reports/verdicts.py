"""A pass of continual learning in lines and tables."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from rich import box
from rich.table import Table

from pipeline.reports import words


class Shown(Protocol):
    """What was measured of a drift (`lifecycle.drift.Drift`)."""

    def lines(self) -> list[str]:
        """One line a comparison."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PassRow:
    """One task of a pass."""

    job: str
    champion: int
    """Version that was champion before."""
    new: int
    """New rows to train on."""
    replayed: int
    decision: str
    """promoted, rejected, or why nothing was trained."""
    reason: str
    version: int | None = None
    """Of the challenger."""
    before: float | None = None
    """The champion's mean score over the slices of the past."""
    after: float | None = None
    """The challenger's."""
    on_new: tuple[float, float] | None = None
    """Scores of both on the new slice."""
    seconds: float | None = None


def survey_lines(job: str, version: int, news: str, drift: Shown | None, reason: str) -> Iterator[str]:
    """What was found out about a task, a line each."""
    yield f"{job} v{version}: {news}"
    for line in drift.lines() if drift is not None else ():
        yield f"  {line}"
    if reason != news:
        yield f"  {reason}"


def passes_table(rows: Sequence[PassRow]) -> Table:
    """One row a task."""
    table = Table(title="Verdicts", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("job", "champion", "new rows", "replayed", "past before", "after", "new before", "after", "time", ""):
        table.add_column(name, justify="left" if name in ("job", "") else "right")
    for row in rows:
        before, after = row.on_new or (None, None)
        table.add_row(
            row.job,
            f"v{row.champion}",
            str(row.new),
            str(row.replayed),
            words.score(row.before),
            words.score(row.after),
            words.score(before),
            words.score(after),
            "-" if row.seconds is None else words.duration(row.seconds),
            row.decision if row.version is None else f"{row.decision} v{row.version}",
        )
    return table


def passes_markdown(rows: Sequence[PassRow]) -> str:
    """The rows as the MLflow UI shows them above the run."""
    lines = ["| job | champion | new rows | verdict | why |", "| --- | --- | ---: | --- | --- |"]
    for row in rows:
        verdict = row.decision if row.version is None else f"{row.decision} v{row.version}"
        lines.append(f"| {row.job} | v{row.champion} | {row.new} | {verdict} | {row.reason} |")
    return "\n".join(lines) + "\n"


def pass_records(rows: Sequence[PassRow]) -> list[dict[str, Any]]:
    """The rows as plain data."""
    return [asdict(row) for row in rows]


def verdict_markdown(row: PassRow, drift: Shown | None, checks: Sequence[dict[str, Any]]) -> str:
    """A task's verdict, as the MLflow UI shows it above the run."""
    lines = [f"**{row.decision}**: {row.reason}", "", f"{row.new} new rows, {row.replayed} replayed."]
    if drift is not None:
        lines += ["", *(f"* {line}" for line in drift.lines())]
    if checks:
        lines += ["", "| check | passed | found |", "| --- | --- | --- |"]
        lines += [f"| {one['name']} | {'yes' if one['passed'] else '**no**'} | {one['reason']} |" for one in checks]
    return "\n".join(lines) + "\n"

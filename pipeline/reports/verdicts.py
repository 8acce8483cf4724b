"""A pass of continual learning in lines and tables."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.reports import words
from pipeline.reports.tables import Column, FittingTable, markdown
from pipeline.rules.drift import Drift


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
    attempt: str = ""
    """Which one of the pass it is, and how it is trained."""
    tried: Sequence[str] = ()
    """Why those before it were not enough."""
    goes_on: bool = False
    """Whether another challenger is trained next."""


def survey_lines(job: str, version: int, news: str, drift: Drift | None, reason: str) -> Iterator[str]:
    """What was found out about a task, a line each."""
    yield f"{job} v{version}: {news}"
    for line in drift.lines() if drift is not None else ():
        yield f"  {line}"
    if reason != news:
        yield f"  {reason}"


def passes_table(rows: Sequence[PassRow]) -> FittingTable:
    """One row a task."""
    new = [row.on_new or (None, None) for row in rows]
    times = ["-" if row.seconds is None else words.duration(row.seconds) for row in rows]
    columns = [
        Column(title="job", cells=[row.job for row in rows]),
        Column(title="champion", cells=[f"v{row.champion}" for row in rows], right=True),
        Column(title="new rows", cells=[str(row.new) for row in rows], right=True),
        Column(title="replayed", cells=[str(row.replayed) for row in rows], right=True, rank=2),
        Column(title="past before", cells=[words.score(row.before) for row in rows], right=True),
        Column(title="after", cells=[words.score(row.after) for row in rows], right=True),
        Column(title="new before", cells=[words.score(before) for before, _ in new], right=True),
        Column(title="after", cells=[words.score(after) for _, after in new], right=True),
        Column(title="time", cells=times, right=True, rank=1),
        Column(title="", cells=[_verdict(row) for row in rows]),
    ]
    return FittingTable(columns, title="Verdicts")


def passes_markdown(rows: Sequence[PassRow]) -> str:
    """The rows as the MLflow UI shows them above the run."""
    columns = [
        Column(title="job", cells=[row.job for row in rows]),
        Column(title="champion", cells=[f"v{row.champion}" for row in rows]),
        Column(title="new rows", cells=[str(row.new) for row in rows], right=True),
        Column(title="verdict", cells=[_verdict(row) for row in rows]),
        Column(title="why", cells=[row.reason for row in rows]),
    ]
    return markdown(columns)


def pass_records(rows: Sequence[PassRow]) -> list[dict[str, Any]]:
    """The rows as plain data."""
    return [asdict(row) for row in rows]


def verdict_markdown(row: PassRow, drift: Drift | None, checks: Sequence[dict[str, Any]]) -> str:
    """A task's verdict, as the MLflow UI shows it above the run."""
    lines = [f"**{row.decision}**: {row.reason}", "", f"{row.new} new rows, {row.replayed} replayed; {row.attempt}."]
    if row.tried:
        lines += ["", "Before it:", "", *(f"* {one}" for one in row.tried)]
    if drift is not None:
        lines += ["", *(f"* {line}" for line in drift.lines())]
    if checks:
        columns = [
            Column(title="check", cells=[one["name"] for one in checks]),
            Column(title="passed", cells=["yes" if one["passed"] else "**no**" for one in checks]),
            Column(title="found", cells=[one["reason"] for one in checks]),
        ]
        lines += ["", markdown(columns).removesuffix("\n")]
    return "\n".join(lines) + "\n"


def _verdict(row: PassRow) -> str:
    return row.decision if row.version is None else f"{row.decision} v{row.version}"

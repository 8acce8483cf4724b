"""What is made of a sweep's results: registered versions, figures on the runs, the leaderboard."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from jobs.preparation import Prepared
from pipeline.adapters.checkpoint import open_checkpoint
from pipeline.bank.predictor import Predictor
from pipeline.config import TrackingConfig
from pipeline.data.rows import Row, make_row
from pipeline.engine.bundle import read_bundle
from pipeline.engine.events import JobTested
from pipeline.engine.trials import Job
from pipeline.errors import Fault, PipelineError
from pipeline.reports import plots
from pipeline.reports.results import SweepResults
from pipeline.reports.tables import (
    LeaderboardRow,
    leaderboard_markdown,
    leaderboard_records,
    leaderboard_table,
)
from pipeline.tasks.metrics import entity_scores
from pipeline.tasks.task import Task, raise_faults
from pipeline.tracking.registry import Registered, register
from pipeline.tracking.runs import SweepRecorder
from pipeline.tracking.store import Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """What is known when the last trial has ended."""

    sweep_id: str
    prepared: Prepared
    results: SweepResults
    winners: Sequence[JobTested]

    def job_of(self, winner: JobTested) -> Job:
        """The job that was won."""
        return next(job for job in self.prepared.jobs if job.name == winner.trial.job)


def conclude(ending: Ending, store: Store, recorder: SweepRecorder) -> list[LeaderboardRow]:
    """Register the winners, record the figures and the leaderboard."""
    rows = []
    for winner in ending.winners:
        job = ending.job_of(winner)
        for name, figure in job_figures(job, ending.results, winner):
            recorder.figure(job.name, name, figure)
        if job.task.config.kind == "tagging":
            _record_entities(recorder, winner)
        rescore = Rescorer(ending.prepared, job.task)
        registered = register(store, ending.sweep_id, job, winner, recorder.run_id(job.name), rescore)
        rows.append(_row(job, winner, registered, ending.results.seconds(job.name)))
    recorder.table(None, "leaderboard.json", leaderboard_records(rows))
    recorder.text(None, "leaderboard.md", leaderboard_markdown(rows))
    recorder.figure(None, "leaderboard.png", plots.leaderboard_figure(rows))
    recorder.describe(None, leaderboard_markdown(rows))
    return rows


def show(rows: Sequence[LeaderboardRow], ending: Ending, store: Store, console: Console) -> None:
    """Print the leaderboard, where everything is, and what to try next."""
    console.print(leaderboard_table(rows))
    for row in rows:
        if row.version > 1:
            what = "the new champion" if row.alias == "champion" else "a challenger"
            console.print(f"{row.name} v{row.version} is {what}: {row.reason}", markup=False, soft_wrap=True)
        if row.low <= row.baseline:
            text = f"{row.job}: not clearly better than its baseline ({row.test:.3f} against {row.baseline:.3f})"
            console.print(text, style="yellow", markup=False, soft_wrap=True)
    example = next((row for row in rows if row.alias == "champion"), rows[0])
    console.print(
        f"Recorded in {store.uri} (experiment {store.config.experiment}, sweep {ending.sweep_id})",
        soft_wrap=True,
    )
    where = _arguments(store.config)
    console.print("\nNext:")
    console.print(f"  make ui{where}        compare the trials in the MLflow UI", markup=False, soft_wrap=True)
    console.print(f"  make status{where}    champions and challengers", markup=False, soft_wrap=True)
    console.print(f"  {_predict_command(ending, example)}{where}", markup=False, soft_wrap=True)


class Rescorer:
    """Scores a new version and the champion side by side, on rows that were recorded with the champion.

    Both are scored by the task as it is now, whatever metric the champion was once selected by.
    """

    def __init__(self, prepared: Prepared, task: Task) -> None:
        self._prepared = prepared
        self._task = task

    def __call__(self, challenger: Path, champion: Path, rows_file: Path) -> tuple[float, float]:
        before, now = read_bundle(champion).record.task, self._task.config
        if (before.kind, set(before.columns)) != (now.kind, set(now.columns)):
            was, is_ = (f"{task.kind} of {', '.join(task.columns)}" for task in (before, now))
            raise PipelineError(f"the task was {was} and is {is_} now")
        rows = read_rows(rows_file, self._task)
        return self._score(challenger, rows), self._score(champion, rows)

    def _score(self, folder: Path, rows: Sequence[Row]) -> float:
        record = read_bundle(folder).record
        if record.checkpoint_sha256 == self._prepared.checkpoint.sha256:
            predictor = Predictor(self._prepared.checkpoint, self._prepared.base)
        else:  # a champion on another checkpoint
            predictor = Predictor(open_checkpoint(record.checkpoint))
        return self._task.score(rows, predictor.answer(folder, rows)).primary


def read_rows(file: Path, task: Task) -> list[Row]:
    """Read rows that were recorded with a version, in canonical fields.

    Raises:
        DataError: They are not rows of the task.
    """
    canonical = dataclasses.replace(task.config, fields={name: name for name in task.config.columns})
    lines = enumerate(file.read_text("utf-8").splitlines(), start=1)
    made = [row for number, line in lines for row in make_row(json.loads(line), canonical, f"{file}:{number}")]
    raise_faults([fault for fault in made if isinstance(fault, Fault)])
    return [row for row in made if isinstance(row, Row)]


def job_figures(job: Job, results: SweepResults, winner: JobTested) -> "Iterator[tuple[str, Figure]]":
    """Draw the search, the learning curves, and what the winner gets right and wrong on the test rows."""
    trials, metric, index = results.of(job.name), job.task.config.primary, winner.trial.index
    yield "search.png", plots.search_figure(trials, job=job.name, metric=metric, winner=index)
    yield "curves.png", plots.curves_figure(trials, job=job.name, metric=metric, winner=index)
    if job.task.config.kind == "classification":
        gold = [row["label"] for row in winner.predictions]
        said = [row["predicted"]["label"] for row in winner.predictions]
        yield "confusion.png", plots.confusion_figure(gold, said, labels=job.task.labels, job=job.name)


def _record_entities(recorder: SweepRecorder, winner: JobTested) -> None:
    """Record how well each entity type was found, as a table and as a picture."""
    job, tags = winner.trial.job, [row["tags"] for row in winner.predictions]
    scores = entity_scores(tags, [row["predicted"]["tags"] for row in winner.predictions])
    recorder.table(job, "entities.json", [{"type": type_, **values} for type_, values in scores.items()])
    recorder.figure(job, "entities.png", plots.entities_figure(scores, job=job))


def _row(job: Job, winner: JobTested, registered: Registered, seconds: float) -> LeaderboardRow:
    bundle, settings = read_bundle(winner.bundle), winner.trial.settings
    return LeaderboardRow(
        job=job.name,
        method=settings.method.name,
        width=settings.method.shown_width,
        learning_rate=settings.engine.learning_rate,
        metric=job.task.config.primary,
        validation=winner.validation,
        test=winner.primary,
        low=winner.low,
        high=winner.high,
        baseline=winner.baseline,
        share=bundle.record.share,
        bundle_bytes=bundle.num_bytes,
        seconds=seconds,
        alias=registered.alias,
        name=registered.name,
        version=registered.version,
        reason=registered.reason,
    )


def _predict_command(ending: Ending, row: LeaderboardRow) -> str:
    """A call of `make predict` that works as it is, on a row of the test split."""
    winner = next(winner for winner in ending.winners if winner.trial.job == row.job)
    job = ending.job_of(winner)
    shortest = min((row.fields for row in job.dataset.test.rows), key=lambda fields: len(str(fields)))
    given = [name for name in job.task.config.columns if name != job.task.target]
    name = row.name.replace(".", "/")
    if given == ["text"]:
        return f"make predict TASK={name} TEXT={_quoted(shortest['text'])}"
    if given == ["tokens"]:
        return f"make predict TASK={name} TEXT={_quoted(' '.join(shortest['tokens']))}"
    item = json.dumps({job.task.config.columns[key]: shortest[key] for key in given}, ensure_ascii=False)
    return f"make predict TASK={name} ITEM={_quoted(item)}"


def _arguments(tracking: TrackingConfig) -> str:
    """What later commands have to be told to find the store; nothing where it is the default one."""
    default = TrackingConfig()
    values = {name: getattr(tracking, name) for name in ("uri", "experiment")}
    given = [f'tracking.{name}="{value}"' for name, value in values.items() if value != getattr(default, name)]
    return f" ARGS={_quoted(' '.join(given))}" if given else ""


def _quoted(text: str) -> str:
    """Quote for the shell."""
    return "'" + text.replace("'", "'\\''") + "'"

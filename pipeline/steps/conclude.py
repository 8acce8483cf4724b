"""What is made of a sweep's results: registered versions, figures on the runs, the leaderboard."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rich.console import Console

from pipeline.config import GateConfig, TrackingConfig
from pipeline.config.commands import UiConfig
from pipeline.core.bank.predictor import Scorer
from pipeline.core.engine.bundle import Bundle, read_bundle
from pipeline.core.engine.events import JobTested
from pipeline.core.engine.trials import Job
from pipeline.reports import plots, words
from pipeline.reports.results import SweepResults
from pipeline.reports.tables import LeaderboardRow, leaderboard_markdown, leaderboard_records, leaderboard_table
from pipeline.rules.halving import TIED
from pipeline.rules.judge import Case
from pipeline.rules.news import unseen
from pipeline.rules.power import shortfall
from pipeline.rules.versions import Registered
from pipeline.steps.prepare import Prepared
from pipeline.steps.verdict import settle_winner, settling
from pipeline.tracking.recorder import SweepRecorder
from pipeline.tracking.registry import registered_before
from pipeline.tracking.store import Store
from pipeline.tracking.views import links

_ROOM, _LEAST = 160, 12
"""Characters of an item that is shown to be pasted, two lines of a terminal; and of one of its options at least."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """What is known when the last trial has ended."""

    sweep_id: str
    prepared: Prepared
    results: SweepResults
    winners: Sequence[JobTested]


def conclude(
    ending: Ending, gate: GateConfig, store: Store, recorder: SweepRecorder
) -> tuple[list[LeaderboardRow], Mapping[str, str]]:
    """Register the winners; then record the figures and the leaderboard, without which they are registered too.

    Returns:
        The rows of those that are registered; and by job why its winner is not.
    """
    rows: list[LeaderboardRow] = []
    failed: dict[str, str] = {}
    for winner in ending.winners:
        job = ending.prepared.job_of(winner)
        with settling(job.name, failed):
            bundle = read_bundle(winner.bundle)
            registered = _registered(ending, job, winner, bundle, gate, store, recorder)
            note = shortfall(job.task, job.dataset, gate) if registered.first else ""
            if note:
                recorder.describe(job.name, note)
            rows.append(_row(job, winner, bundle, registered, ending.results, note))
    for winner in ending.winners:
        _record_figures(ending, ending.prepared.job_of(winner), winner, recorder)
    if rows:
        recorder.table(None, "leaderboard.json", leaderboard_records(rows))
        recorder.text(None, "leaderboard.md", leaderboard_markdown(rows))
        recorder.figure(None, "leaderboard.png", lambda: plots.leaderboard_figure(rows))
        recorder.describe(None, leaderboard_markdown(rows))
    return rows, failed


def _registered(
    ending: Ending,
    job: Job,
    winner: JobTested,
    bundle: Bundle,
    gate: GateConfig,
    store: Store,
    recorder: SweepRecorder,
) -> Registered:
    """Judge and register a winner: once, also where the sweep was cut off after that."""
    before = registered_before(store, ending.sweep_id, job)
    if before is not None:
        return before
    case = Case(
        score=Scorer(ending.prepared, job.task),
        gate=gate,
        period=ending.sweep_id,
        bundle=bundle,
        trained=job.dataset.train.rows,
        chosen=job.dataset.validation.rows,
        evaluation=unseen(job.dataset),
        answers=winner.answers,
    )
    return settle_winner(case, job, winner, store, recorder, ending.prepared.checkpoint)[0]


def _record_figures(ending: Ending, job: Job, winner: JobTested, recorder: SweepRecorder) -> None:
    of: dict[str, Any] = {"job": job.name, "metric": job.task.config.primary, "winner": winner.trial.index}
    trials = ending.results.of(job.name)
    recorder.figure(job.name, "search.png", lambda: plots.search_figure(trials, **of))
    recorder.figure(job.name, "curves.png", lambda: plots.curves_figure(trials, **of))
    with recorder.aside(f"what the answers of {job.name} show"):
        gold = [row[job.task.target] for row in winner.predictions]
        for shown in job.task.figures(gold, [row["predicted"] for row in winner.predictions]):
            recorder.figure(job.name, f"{shown.name}.png", partial(plots.answers_figure, shown, job=job.name))
            if records := shown.records():
                recorder.table(job.name, f"{shown.name}.json", records)


def show(rows: Sequence[LeaderboardRow], ending: Ending, store: Store, console: Console) -> None:
    """Print the leaderboard, where everything is, and what to try next."""
    console.print(leaderboard_table(rows))
    for row in rows:
        if row.note:
            console.print(f"{row.job}: {row.note}", style="yellow", soft_wrap=True)
        if row.version > 1:
            what = "the new champion" if row.alias == "champion" else "a challenger"
            console.print(f"{row.name} v{row.version} is {what}: {row.reason}", soft_wrap=True)
        if row.low <= row.baseline:
            what = "its baseline" if row.chance is None else "the checkpoint without any training"
            how = "below" if row.test < row.baseline else "not clearly better than"
            text = f"{row.job}: {how} {what} ({words.score(row.test, row.metric)} against "
            text += f"{words.score(row.baseline, row.metric)})"
            console.print(text, style="yellow", soft_wrap=True)
        if tied := sum(result.reason.endswith(TIED) for result in ending.results.of(row.job)):
            those = "1 of its trials was" if tied == 1 else f"{tied} of its trials were"
            text = f"{row.job}: {those} pruned in a tie, by number alone; raise search.first_rung"
            console.print(text, style="yellow", soft_wrap=True)
    example = next((row for row in rows if row.alias == "champion"), rows[0])
    recorded = f"Recorded in {store.uri} (experiment {store.config.experiment}, sweep {ending.sweep_id})"
    console.print(recorded, soft_wrap=True)
    where = _arguments(store.config)
    console.print("\nNext:")
    console.print(f"  make ui{where}        compare the trials in the MLflow UI", soft_wrap=True)
    console.print(f"  make status{where}    champions and challengers", soft_wrap=True)
    console.print(f"  {_predict_command(ending, example)}{where}", soft_wrap=True)
    show_links(store, ending.sweep_id, console)


def show_links(store: Store, id: str, console: Console) -> None:
    """Print where the MLflow UI shows the jobs, and the trials of a sweep, a comparison or a pass."""
    address = f"http://127.0.0.1:{UiConfig().port}" if store.is_local else store.uri.rstrip("/")
    console.print(f"\nIn the MLflow UI{', while `make ui` runs' if store.is_local else ''}:")
    for link in links(store, address, id):
        console.print(f"  {link.title}: {link.url}", soft_wrap=True)


def _row(
    job: Job, winner: JobTested, bundle: Bundle, registered: Registered, results: SweepResults, note: str
) -> LeaderboardRow:
    settings = winner.trial.settings
    return LeaderboardRow(
        job=job.name,
        method=settings.method.name,
        width=settings.method.shown_width,
        layers=settings.method.shown_layers,
        learning_rate=settings.engine.learning_rate,
        metric=job.task.config.primary,
        validation=winner.validation,
        test=winner.primary,
        low=winner.low,
        high=winner.high,
        baseline=winner.baseline,
        chance=winner.chance,
        share=bundle.record.share,
        bundle_bytes=bundle.num_bytes,
        seconds=results.seconds(job.name),
        epoch_s=results.trials[job.name][winner.trial.index].epoch_s,
        name=registered.name,
        version=registered.version,
        alias=registered.alias,
        reason=registered.reason,
        note=note,
    )


def _predict_command(ending: Ending, row: LeaderboardRow) -> str:
    """A call of `make predict` that works as it is, on a row of the test split."""
    winner = next(winner for winner in ending.winners if winner.trial.job == row.job)
    job = ending.prepared.job_of(winner)
    item = _short(job.task.example(min(job.dataset.test.rows, key=lambda one: len(str(one.fields)))))
    name, text = ("TEXT", item) if isinstance(item, str) else ("ITEM", json.dumps(item, ensure_ascii=False))
    return f"make predict TASK={row.name.replace('.', '/')} {name}={_quoted(text)}"


def _short(item: Any, room: int = _ROOM) -> Any:
    """An item whose texts have so many characters in all, or some more: each is cut at a blank."""
    if isinstance(item, dict):
        return {key: _short(value, room // len(item)) for key, value in item.items()}
    if isinstance(item, list):
        return [_short(value, max(room // len(item), _LEAST)) for value in item]
    if not isinstance(item, str) or len(item) <= room:
        return item
    return item[:room].rpartition(" ")[0].strip() or item[:room]


def _arguments(tracking: TrackingConfig) -> str:
    """What later commands have to be told to find the store; nothing where it is the default one."""
    default = TrackingConfig()
    values = {name: getattr(tracking, name) for name in ("uri", "experiment")}
    given = [f'tracking.{name}="{value}"' for name, value in values.items() if value != getattr(default, name)]
    return f" ARGS={_quoted(' '.join(given))}" if given else ""


def _quoted(text: str) -> str:
    """Quote for the shell."""
    return "'" + text.replace("'", "'\\''") + "'"

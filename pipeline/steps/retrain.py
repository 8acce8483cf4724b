"""A pass over champions: challengers are trained, judged and recorded."""

import dataclasses
from collections.abc import Sequence

from rich.console import Console

from pipeline.config import RetrainConfig
from pipeline.core.data.load import job_name
from pipeline.errors import SweepError, UserError
from pipeline.reports.hook import tell_hook
from pipeline.reports.results import SweepResults
from pipeline.reports.verdicts import PassRow, passes_table
from pipeline.steps.conclude import show_links
from pipeline.steps.prepare import Prepared
from pipeline.steps.record import open_recorder
from pipeline.steps.survey import Survey, survey
from pipeline.steps.train import run_search
from pipeline.steps.verdict import record_pass, settle_pass, settling, untrained
from pipeline.steps.workspace import Workspace, open_workspace, running
from pipeline.tracking.store import Store


def run_passes(
    config: RetrainConfig, surveys: Sequence[Survey], prepared: Prepared, store: Store, console: Console
) -> None:
    """Train challengers and judge them; of a task whose challenger the past alone has stopped, the next of its ladder.

    Every attempt is a pass of its own, so that one which is killed leaves nothing half-done: the next command finds in
    the registry which attempts were made.
    """
    rows: dict[str, PassRow] = {}
    failed: list[str] = []
    while jobs := [found.job for found in surveys if found.job is not None]:
        workspace = open_workspace(config, jobs, prepared.checkpoint.sha256, prepared.checkpoint.reading)
        console.print(f"Pass {workspace.id}, log of the libraries: {workspace.log_file}", soft_wrap=True)
        try:
            with running(workspace, config) as shown:
                run_pass(config, surveys, prepared, store, workspace, shown, rows)
        except SweepError as error:  # of some tasks, which do not end the others
            failed.append(str(error))
        again = [one for one in prepared.wanted if (row := rows.get(job_name(*one))) is not None and row.goes_on]
        surveys = []
        for task, domain in again:
            name = job_name(task, domain)
            rows[name] = dataclasses.replace(rows[name], goes_on=False)
            try:
                surveys.append(survey(config, task, domain, store, prepared))
            except UserError as error:
                failed.append(str(error))
                continue
            console.print(f"{name}: {surveys[-1].next_line()}", soft_wrap=True)
    if failed:
        raise SweepError("; ".join(failed))


def run_pass(
    config: RetrainConfig,
    surveys: Sequence[Survey],
    prepared: Prepared,
    store: Store,
    workspace: Workspace,
    console: Console,
    rows: dict[str, PassRow],
) -> None:
    """Train the challengers, judge them, and record all of it, also of those tasks where there is nothing to do.

    Of one task at least there is something to train.

    Args:
        rows: By job what became of it in the passes before this one, of which it goes on, and then in this one.

    Raises:
        SweepError: At the end, where a task has no winner, or one that could not be registered.
    """
    jobs = [found.job for found in surveys if found.job is not None]
    prepared = dataclasses.replace(prepared, jobs=jobs)
    results = SweepResults()
    search = dataclasses.replace(config.search, trials=config.challenger.trials, space={})
    with open_recorder(config, prepared, jobs, workspace, store, console) as recorder:
        rows |= {found.name: untrained(found) for found in surveys}
        failed: dict[str, str] = {}
        outcome = run_search(config, search, prepared, workspace.folder, results, recorder, console)
        for winner in outcome.winners:
            found = next(one for one in surveys if one.name == winner.trial.job)
            seconds = results.seconds(found.name)
            with settling(found.name, failed):
                row = settle_pass(config, found, winner, prepared, store, recorder, workspace.id, seconds)
                rows[found.name] = row
            if found.name in failed:
                rows[found.name] = dataclasses.replace(rows[found.name], decision="failed", reason=failed[found.name])
            elif row.decision == "promoted":
                event = {"event": "promoted", "name": found.registered_name, "version": row.version}
                event |= {"replaces": row.champion, "reason": row.reason}
                if untold := tell_hook(config.hook, event):
                    console.print(untold, style="yellow", soft_wrap=True)
        record_pass(recorder, list(rows.values()))
        recorder.flush()
        show_pass(list(rows.values()), console)
        show_links(store, workspace.id, console)
        if outcome.missing or failed:
            raise SweepError("; ".join([*outcome.missing.values(), *failed.values()]))


def show_pass(rows: Sequence[PassRow], console: Console) -> None:
    """Print what became of each task."""
    console.print(passes_table(rows))
    for row in rows:
        console.print(f"{row.job}: {row.decision}: {row.reason}", soft_wrap=True)

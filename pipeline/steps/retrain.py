"""A pass over champions: challengers are trained, judged and recorded."""

import dataclasses
from collections.abc import Mapping, Sequence

from rich.console import Console

from pipeline.config import RetrainConfig
from pipeline.core.data.load import job_name
from pipeline.errors import SweepError
from pipeline.reports.hook import tell_hook
from pipeline.reports.results import SweepResults
from pipeline.reports.verdicts import PassRow, passes_table
from pipeline.steps.prepare import Prepared
from pipeline.steps.survey import Survey, survey
from pipeline.steps.train import open_recorder, run_search
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
    while jobs := [found.job for found in surveys if found.job is not None]:
        workspace = open_workspace(config, jobs, prepared.checkpoint.sha256, prepared.checkpoint.reading)
        console.print(f"Pass {workspace.id}, log of the libraries: {workspace.log_file}", soft_wrap=True)
        with running(workspace, config) as shown:
            rows |= run_pass(config, surveys, prepared, store, workspace, shown, rows)
        wanted = [(task, domain) for task, domain in prepared.wanted if rows[job_name(task, domain)].goes_on]
        surveys = [survey(config, task, domain, store, prepared) for task, domain in wanted]
        for found in surveys:
            console.print(f"{found.name}: {found.next_line()}", soft_wrap=True)


def run_pass(
    config: RetrainConfig,
    surveys: Sequence[Survey],
    prepared: Prepared,
    store: Store,
    workspace: Workspace,
    console: Console,
    before: Mapping[str, PassRow],
) -> dict[str, PassRow]:
    """Train the challengers, judge them, and record all of it, also of those tasks where there is nothing to do.

    Of one task at least there is something to train.

    Args:
        before: By job what became of it in the passes before this one, of which it goes on.

    Returns:
        By job what became of it.
    """
    jobs = [found.job for found in surveys if found.job is not None]
    prepared = dataclasses.replace(prepared, jobs=jobs)
    results = SweepResults()
    search = dataclasses.replace(config.search, trials=config.challenger.trials, space={})
    with open_recorder(config, prepared, jobs, workspace, store, console) as recorder:
        rows = {**before, **{found.name: untrained(found) for found in surveys}}
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
        if outcome.missing or failed:
            raise SweepError("; ".join([*outcome.missing.values(), *failed.values()]))
        return rows


def show_pass(rows: Sequence[PassRow], console: Console) -> None:
    """Print what became of each task."""
    console.print(passes_table(rows))
    for row in rows:
        console.print(f"{row.job}: {row.decision}: {row.reason}", soft_wrap=True)

"""`make retrain`: one pass; the champion of each task meets a challenger that has seen what is new."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console

from pipeline.config import RetrainConfig
from pipeline.config.overrides import entry
from pipeline.errors import Faults, SweepError

if TYPE_CHECKING:
    from pipeline.steps.prepare import Resident
    from pipeline.steps.survey import Survey
    from pipeline.steps.workspace import Workspace
    from pipeline.tracking.store import Store


@entry("retrain", RetrainConfig)
def main(config: RetrainConfig, console: Console) -> None:
    from pipeline.core.data.load import resolve
    from pipeline.reports.verdicts import survey_lines
    from pipeline.steps.prepare import open_resident  # here: a bad config is refused before torch is loaded
    from pipeline.steps.survey import survey
    from pipeline.steps.workspace import open_workspace, passes_cut_off, running
    from pipeline.tracking.run import end_runs
    from pipeline.tracking.store import open_store

    resident, slots = open_resident(config)
    store = open_store(config.tracking, create=False)
    with passes_cut_off(config) as cut_off:
        for id in cut_off:
            console.print(f"Pass {id} was killed: its runs are ended now", markup=False, soft_wrap=True)
            end_runs(store, id)
    faults, surveys = Faults(), []
    for task, domain in resolve(config.tasks, config.task, config.data):
        with faults.gathered():
            found = survey(config, task, domain, store, resident)
            for line in survey_lines(found.name, found.champion.version, found.news.line(), found.drift, found.reason):
                console.print(line, markup=False, soft_wrap=True)
            surveys.append(found)
    faults.raise_any()
    if config.dryrun:
        return
    jobs = [found.job for found in surveys if found.job is not None]
    workspace = open_workspace(config, jobs, resident.checkpoint.sha256)
    console.print(f"Pass {workspace.id}, log of the libraries: {workspace.log_file}", markup=False, soft_wrap=True)
    with running(workspace, config) as shown:
        run_pass(config, surveys, resident, slots, store, workspace, shown)


def run_pass(
    config: RetrainConfig,
    surveys: "list[Survey]",
    resident: "Resident",
    slots: int,
    store: "Store",
    workspace: "Workspace",
    console: Console,
) -> None:
    """Train the challengers, judge them, and record all of it, also of those tasks where there is nothing to do."""
    from pipeline.reports.hook import tell_hook
    from pipeline.reports.results import SweepResults
    from pipeline.reports.verdicts import passes_table
    from pipeline.steps.prepare import Prepared
    from pipeline.steps.train import open_recorder, run_search
    from pipeline.steps.verdict import record_pass, settle_pass, untrained

    jobs = [found.job for found in surveys if found.job is not None]
    prepared = Prepared(
        checkpoint=resident.checkpoint, tokenizer=resident.tokenizer, base=resident.base, jobs=jobs, slots=slots
    )
    results = SweepResults()
    search = dataclasses.replace(config.search, trials=config.challenger.trials, space={})
    with open_recorder(config, prepared, jobs, workspace, store, console) as recorder:
        rows = {found.name: untrained(found) for found in surveys}
        missing: Mapping[str, str] = {}
        if jobs:
            outcome = run_search(config, search, prepared, workspace.folder, results, recorder, console)
            missing = outcome.missing
            for winner in outcome.winners:
                found = next(one for one in surveys if one.name == winner.trial.job)
                seconds = results.seconds(found.name)
                row = settle_pass(config, found, winner, prepared, store, recorder, workspace.id, seconds)
                rows[found.name] = row
                if row.decision == "promoted":
                    event = {"event": "promoted", "name": found.registered_name, "version": row.version}
                    event |= {"replaces": row.champion, "reason": row.reason}
                    if failed := tell_hook(config.hook, event):
                        console.print(failed, style="yellow", markup=False, soft_wrap=True)
        record_pass(recorder, list(rows.values()))
        recorder.flush()
        console.print(passes_table(list(rows.values())))
        for row in rows.values():
            console.print(f"{row.job}: {row.decision}: {row.reason}", markup=False, soft_wrap=True)
        if missing:
            raise SweepError("; ".join(missing.values()))


if __name__ == "__main__":
    main()

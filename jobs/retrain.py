"""`make retrain`: one pass; the champion of each task meets a challenger that has seen what is new."""

import runpy
import sys

from rich.console import Console

from pipeline.config import RetrainConfig
from pipeline.core.data.load import registered_name
from pipeline.errors import Faults
from pipeline.reports.verdicts import survey_lines
from pipeline.steps.prepare import open_resident
from pipeline.steps.retrain import run_passes, show_pass
from pipeline.steps.survey import survey
from pipeline.steps.verdict import untrained
from pipeline.steps.workspace import passes_cut_off
from pipeline.tracking.registry import check_owners
from pipeline.tracking.run import end_runs
from pipeline.tracking.store import open_store


def main(config: RetrainConfig, console: Console) -> None:
    prepared = open_resident(config)
    config = prepared.settled(config)
    store = open_store(config.tracking, create=False)
    check_owners(store, {registered_name(task, domain): task.name for task, domain in prepared.wanted})
    if not config.dryrun:
        with passes_cut_off(config) as cut_off:
            for id in cut_off:
                console.print(f"Pass {id} was killed: its runs are ended now", soft_wrap=True)
                end_runs(store, id)
    faults, surveys = Faults(), []
    for task, domain in prepared.wanted:
        with faults.gathered():
            found = survey(config, task, domain, store, prepared)
            for line in survey_lines(found.name, found.champion.version, found.news.line(), found.drift, found.reason):
                console.print(line, soft_wrap=True)
            for note in found.notes:
                console.print(f"  {note}", soft_wrap=True)
            if found.job is not None:
                console.print(f"  {found.next_line()}", soft_wrap=True)
            surveys.append(found)
    faults.raise_any()
    if config.dryrun:
        return
    if all(found.job is None for found in surveys):  # nothing is left behind, or a schedule would leave it every time
        show_pass([untrained(found) for found in surveys], console)
        return
    run_passes(config, surveys, prepared, store, console)


if __name__ == "__main__":  # one release: RayCronJobs that were written before call this file
    sys.argv.insert(1, "retrain")
    runpy.run_module("jobs", run_name="__main__")

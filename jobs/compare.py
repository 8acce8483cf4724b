"""`make compare`: methods side by side on the same jobs, with the same data, budget and selection. Moves no alias."""

import dataclasses
import runpy
import sys

from rich.console import Console

from pipeline.config import CompareConfig
from pipeline.steps.compare import contests_of, run_comparison
from pipeline.steps.estimate import announce
from pipeline.steps.prepare import prepare
from pipeline.steps.workspace import open_workspace, resumed, running
from pipeline.tracking.store import require_store


def main(config: CompareConfig, console: Console) -> None:
    config = resumed(config)
    prepared = prepare(config)
    config = prepared.settled(config)
    contests = contests_of(config, prepared)
    searches = dataclasses.replace(prepared, jobs=[contest.search for contest in contests])
    announce(config, searches, console)
    if config.dryrun:
        return
    require_store(config.tracking)  # before there is a folder
    workspace = open_workspace(config, prepared.jobs, prepared.checkpoint.sha256, prepared.checkpoint.reading)
    console.print(f"Comparison {workspace.id}, log of the libraries: {workspace.log_file}", soft_wrap=True)
    with running(workspace, config) as shown:
        run_comparison(config, searches, contests, workspace, shown)


if __name__ == "__main__":  # one release: RayCronJobs that were written before call this file
    sys.argv.insert(1, "compare")
    runpy.run_module("jobs", run_name="__main__")

"""`make sweep`: train, search and record an adapter for every task and domain asked for."""

import runpy
import sys
import time

from rich.console import Console

from pipeline.config import SweepConfig
from pipeline.core.engine.machine import age_s
from pipeline.reports.spent import Spent
from pipeline.steps.estimate import announce
from pipeline.steps.prepare import prepare
from pipeline.steps.sweep import run_sweep
from pipeline.steps.workspace import open_workspace, resumed, running
from pipeline.tracking.store import require_store


def main(config: SweepConfig, console: Console) -> None:
    spent = Spent(time.monotonic() - age_s())
    spent.begin("preparing")
    config = resumed(config)
    prepared = prepare(config)
    config = prepared.settled(config)
    announce(config, prepared, console)
    if config.dryrun:
        return
    require_store(config.tracking)  # before there is a folder
    workspace = open_workspace(config, prepared.jobs, prepared.checkpoint.sha256, prepared.checkpoint.reading)
    console.print(f"Sweep {workspace.id}, log of the libraries: {workspace.log_file}", soft_wrap=True)
    with running(workspace, config) as shown:
        run_sweep(config, prepared, workspace, spent, shown)


if __name__ == "__main__":  # one release: RayCronJobs that were written before call this file
    sys.argv.insert(1, "sweep")
    runpy.run_module("jobs", run_name="__main__")

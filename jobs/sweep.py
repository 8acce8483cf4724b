"""`make sweep`: train, search and record an adapter for every task and domain asked for."""

import runpy
import sys
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console

from pipeline.config import SweepConfig
from pipeline.errors import SweepError
from pipeline.reports.results import SweepResults
from pipeline.steps.estimate import announce
from pipeline.steps.prepare import Prepared, prepare
from pipeline.steps.workspace import Workspace, open_workspace, resumed, running
from pipeline.tracking.store import open_store, require_store


def main(config: SweepConfig, console: Console) -> None:
    config = resumed(config)
    prepared = prepare(config)
    announce(config, prepared, console)
    if config.dryrun:
        return
    require_store(config.tracking)  # before there is a folder
    workspace = open_workspace(config, prepared.jobs, prepared.checkpoint.sha256, prepared.checkpoint.reading)
    console.print(f"Sweep {workspace.id}, log of the libraries: {workspace.log_file}", soft_wrap=True)
    with running(workspace, config) as shown:
        run_sweep(config, prepared, workspace, shown)


def run_sweep(config: SweepConfig, prepared: Prepared, workspace: Workspace, console: Console) -> None:
    """Train everything, record it, register the winners and show the leaderboard."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        opening = pool.submit(open_store, config.tracking)  # at first it makes its tables; Ray's import takes as long
        from pipeline.steps.conclude import Ending, conclude, show
        from pipeline.steps.train import open_recorder, run_search
        from pipeline.tracking.registry import check_owners

        store = opening.result()
    check_owners(store, {job.registered_name: job.dataset.task for job in prepared.jobs})
    results = SweepResults()
    with open_recorder(config, prepared, prepared.jobs, workspace, store, console) as recorder:
        outcome = run_search(config, config.search, prepared, workspace.folder, results, recorder, console)
        ending = Ending(sweep_id=workspace.id, prepared=prepared, results=results, winners=outcome.winners)
        rows, failed = conclude(ending, config.gate, store, recorder)
        recorder.flush()
        if rows:
            show(rows, ending, store, console)
        if missing := [*outcome.missing.values(), *failed.values()]:
            raise SweepError("; ".join(missing))


if __name__ == "__main__":  # one release: RayCronJobs that were written before call this file
    sys.argv.insert(1, "sweep")
    runpy.run_module("jobs", run_name="__main__")

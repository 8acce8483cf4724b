"""A sweep that is prepared, run to its end: trained, recorded, the winners registered, the leaderboard shown."""

from concurrent.futures import ThreadPoolExecutor

from rich.console import Console

from pipeline.config import SweepConfig
from pipeline.errors import SweepError
from pipeline.reports.results import SweepResults
from pipeline.reports.spent import Spent
from pipeline.steps.prepare import Prepared
from pipeline.steps.workspace import Workspace
from pipeline.tracking.store import open_store


def run_sweep(config: SweepConfig, prepared: Prepared, workspace: Workspace, spent: Spent, console: Console) -> None:
    """Train everything, record it, register the winners, show the leaderboard and where the time went."""
    spent.begin("tracking store")
    with ThreadPoolExecutor(max_workers=1) as pool:
        opening = pool.submit(open_store, config.tracking)  # at first it makes its tables; the imports take as long
        from pipeline.steps.conclude import Ending, conclude, show
        from pipeline.steps.train import open_recorder, run_search
        from pipeline.tracking.registry import check_owners

        store = opening.result()
    check_owners(store, {job.registered_name: job.dataset.task for job in prepared.jobs})
    results = SweepResults()
    with open_recorder(config, prepared, prepared.jobs, workspace, store, console) as recorder:
        spent.begin("search")
        outcome = run_search(config, config.search, prepared, workspace.folder, results, recorder, console, spent)
        spent.begin("registering")
        ending = Ending(sweep_id=workspace.id, prepared=prepared, results=results, winners=outcome.winners)
        rows, failed = conclude(ending, config.gate, store, recorder)
        spent.begin("recording")
        recorder.flush()
        recorder.measure(None, spent.metrics())
        if rows:
            show(rows, ending, store, console)
        console.print(spent.line(), soft_wrap=True)
        if missing := [*outcome.missing.values(), *failed.values()]:
            raise SweepError("; ".join(missing))

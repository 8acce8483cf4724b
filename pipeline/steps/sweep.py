"""A sweep that is prepared, run to its end: trained, recorded, the winners registered, the leaderboard shown."""

from rich.console import Console

from pipeline.config import SweepConfig
from pipeline.errors import SweepError
from pipeline.reports.results import SweepResults
from pipeline.reports.spent import Spent
from pipeline.steps.prepare import Prepared
from pipeline.steps.record import recording
from pipeline.steps.train import run_search
from pipeline.steps.workspace import Workspace


def run_sweep(config: SweepConfig, prepared: Prepared, workspace: Workspace, spent: Spent, console: Console) -> None:
    """Train everything, record it, register the winners, show the leaderboard and where the time went."""
    results = SweepResults()
    with recording(config, prepared, workspace, console) as sink:
        spent.begin("search")
        outcome = run_search(config, config.search, prepared, workspace.folder, results, sink, console, spent)
        spent.begin("registering")
        from pipeline.steps.conclude import Ending, conclude, show  # here: it draws, and loads MLflow

        store, recorder = sink.opened()
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

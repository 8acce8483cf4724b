"""One search as a command runs it: its events told to all who listen."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from pipeline.config import SearchConfig, SweepConfig
from pipeline.core.engine.events import Sink, SweepEvent
from pipeline.core.engine.trials import Job
from pipeline.reports.progress import JobPlan, Progress
from pipeline.reports.results import SweepResults
from pipeline.rules.race import Outcome
from pipeline.rules.search import plan_of, search_of
from pipeline.steps.ended import search_rest
from pipeline.steps.prepare import Prepared


def run_search(
    config: SweepConfig,
    search: SearchConfig,
    prepared: Prepared,
    folder: Path,
    results: SweepResults,
    recorder: Sink,
    console: Console,
    *sinks: Sink,
) -> Outcome:
    """Search the prepared jobs, on Ray or in this process, and show how far it is.

    Args:
        config: Where it runs, and how long a trial is.
        search: What is searched, where a job has no space of its own.
        prepared: The jobs and their checkpoint.
        folder: Its own, from which it can be gone on with. Jobs that have ended there are told and not run again.
        results, recorder, console, sinks: Are told every event, the console as progress.
    """
    here = config.cluster.name == "here"
    if here:
        from pipeline.steps.here import run
    else:
        from pipeline.cluster.experiment import run  # here alone: a search in this process does without Ray
    plans = {}
    for job in prepared.jobs:
        plan = plan_of(search_of(search, job), job.settings.engine.epochs)
        plans[job.name] = JobPlan(trials=plan.trials, epochs=plan.epochs, metric=job.task.config.primary)
    with Progress(console, results, plans, slots=prepared.slots, live=not here) as progress:
        listening: list[Sink] = [*sinks, results, progress, recorder]

        def sink(event: SweepEvent) -> None:
            for listener in listening:
                listener(event)

        def search_jobs(jobs: Sequence[Job], sink: Sink) -> Outcome:
            return run(jobs, prepared, search=search, cluster=config.cluster, folder=folder, sink=sink)

        return search_rest(search_jobs, prepared.jobs, folder, sink)

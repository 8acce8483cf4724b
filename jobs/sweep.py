"""`make sweep`: train, search and record an adapter for every task and domain asked for."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from rich.console import Console

from jobs.entry import entry
from pipeline.config import SweepConfig
from pipeline.errors import SweepError

if TYPE_CHECKING:
    from jobs.preparation import Prepared
    from jobs.workspace import Workspace


@entry("sweep", SweepConfig)
def main(config: SweepConfig, console: Console) -> None:
    from jobs.preparation import announce, prepare  # here: a bad config is refused before torch is loaded
    from jobs.workspace import open_workspace, resumed, running

    config = resumed(config)
    prepared = prepare(config)
    announce(config, prepared, console)
    if config.dryrun:
        return
    workspace = open_workspace(config, prepared.jobs, prepared.checkpoint.sha256)
    console.print(f"Sweep {workspace.id}, log of the libraries: {workspace.log_file}", markup=False, soft_wrap=True)
    with running(workspace, "sweep", config.runs) as shown:
        run_sweep(config, prepared, workspace, shown)


def run_sweep(config: SweepConfig, prepared: "Prepared", workspace: "Workspace", console: Console) -> None:
    """Train everything, record it, register the winners and show the leaderboard."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        opening = pool.submit(_open_store, config)  # the first time it makes its tables; Ray's import takes as long
        from jobs.preparation import slots
        from jobs.recording import Ending, conclude, show
        from jobs.workspace import git_commit, package_versions
        from pipeline.cluster.plan import plan_of
        from pipeline.cluster.sweep import run
        from pipeline.engine.events import SweepEvent
        from pipeline.reports.progress import JobPlan, Progress
        from pipeline.reports.results import SweepResults
        from pipeline.tracking.runs import SweepFacts, SweepRecorder

        store = opening.result()
    plan = plan_of(config.search, config.engine.epochs)
    plans = {
        job.name: JobPlan(trials=plan.trials, epochs=plan.epochs, metric=job.task.config.primary)
        for job in prepared.jobs
    }
    facts = SweepFacts(
        id=workspace.id,
        jobs=prepared.jobs,
        checkpoint=prepared.checkpoint,
        config=dataclasses.asdict(config),
        seed=config.seed,
        git_commit=git_commit(),
        versions=package_versions(),
    )
    results = SweepResults()
    with SweepRecorder(store, facts) as recorder:
        with Progress(console, results, plans, slots=slots(config)) as progress:

            def sink(event: SweepEvent) -> None:
                results(event)
                progress(event)
                recorder(event)

            outcome = run(
                prepared.jobs,
                prepared.checkpoint,
                search=config.search,
                cluster=config.cluster,
                folder=workspace.folder,
                sink=sink,
            )
        ending = Ending(sweep_id=workspace.id, prepared=prepared, results=results, winners=outcome.winners)
        if outcome.winners:
            rows = conclude(ending, store, recorder)
            recorder.flush()
            show(rows, ending, store, console)
        if outcome.missing:
            raise SweepError("; ".join(outcome.missing.values()))


def _open_store(config: SweepConfig):  # type: ignore[no-untyped-def]
    from pipeline.tracking.store import open_store

    return open_store(config.tracking)


if __name__ == "__main__":
    main()

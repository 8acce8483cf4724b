"""A comparison: methods on jobs, each searched in its own range, its winner trained on further seeds."""

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from rich.console import Console

from pipeline.config import CompareConfig
from pipeline.core.engine.bundle import read_bundle
from pipeline.core.engine.events import JobTested
from pipeline.core.engine.trials import Job, Settings
from pipeline.errors import SweepError
from pipeline.reports import plots
from pipeline.reports.comparison import ComparisonRow, comparison_markdown, comparison_records, comparison_table, costs
from pipeline.reports.results import SweepResults
from pipeline.rules.search import search_of
from pipeline.steps.conclude import show_links
from pipeline.steps.prepare import Prepared, most_virtual_tokens
from pipeline.steps.record import open_recorder
from pipeline.steps.train import run_search
from pipeline.steps.workspace import Workspace
from pipeline.tracking.store import open_store


@dataclass(frozen=True, kw_only=True, slots=True)
class Contest:
    """One method on one job."""

    job: str
    method: str
    """Its file in `conf/method`."""
    search: Job
    """Its search, on the first seed."""
    repeats: Sequence[Job]
    """The winner's setting on further seeds; until the winner is known, with the method's own."""


def contests_of(config: CompareConfig, prepared: Prepared) -> list[Contest]:
    """Make the matrix of jobs and methods, which `prepare` has checked."""
    contests = []
    for job in prepared.jobs:
        for name in config.methods:
            contender = config.contenders[name]
            settings = Settings(method=contender.method, engine=config.engine)
            searched = dataclasses.replace(job, name=f"{job.name}/{name}", settings=settings, space=contender.space)
            reserved = most_virtual_tokens(search_of(config.search, searched), contender.method)
            if reserved:
                task = copy.copy(job.task)
                task.reserved = reserved
                encoded = task.encoded(job.dataset, prepared.tokenizer)
                searched = dataclasses.replace(searched, task=task, encoded=encoded)
            repeats = [
                dataclasses.replace(searched, name=f"{searched.name}/seed-{seed}", space={}, seed=seed)
                for seed in range(config.seed + 1, config.seed + config.seeds)
            ]
            contests.append(Contest(job=job.name, method=name, search=searched, repeats=repeats))
    return contests


def run_comparison(
    config: CompareConfig, prepared: Prepared, contests: Sequence[Contest], workspace: Workspace, console: Console
) -> None:
    """Search every contest, repeat the winners on further seeds, and show and record the table.

    The jobs of `prepared` are the contests' searches; the workspace gets a folder for each of the two phases.
    """
    store = open_store(config.tracking)
    jobs = [job for contest in contests for job in (contest.search, *contest.repeats)]
    results = SweepResults()
    with open_recorder(config, prepared, jobs, workspace, store, console) as recorder:
        folder = workspace.folder / "search"
        first = run_search(config, config.search, prepared, folder, results, recorder, console)
        won = {winner.trial.job: winner for winner in first.winners}
        repeats = [
            dataclasses.replace(job, settings=won[contest.search.name].trial.settings)
            for contest in contests
            if contest.search.name in won
            for job in contest.repeats
        ]
        missing = dict(first.missing)
        if repeats:
            console.print(f"The winners' settings on {config.seeds - 1} more seeds")
            once = dataclasses.replace(config.search, algorithm="grid", scheduler="none", space={}, time_budget_s=None)
            repeated = dataclasses.replace(prepared, jobs=repeats)
            second = run_search(config, once, repeated, workspace.folder / "seeds", results, recorder, console)
            won |= {winner.trial.job: winner for winner in second.winners}
            missing |= second.missing
        rows = [_row(contest, won, results) for contest in contests if contest.search.name in won]
        if rows:
            recorder.table(None, "comparison.json", comparison_records(rows))
            recorder.text(None, "comparison.md", comparison_markdown(rows))
            recorder.figure(None, "comparison.png", lambda: plots.comparison_figure(rows))
            recorder.describe(None, comparison_markdown(rows))
            recorder.flush()
            console.print(comparison_table(rows))
            where = f"{store.uri} (experiment {config.tracking.experiment}, comparison {workspace.id})"
            console.print(f"Recorded in {where}; champions are as before", soft_wrap=True)
            show_links(store, workspace.id, console)
        if missing:
            raise SweepError("; ".join(missing.values()))


def _row(contest: Contest, won: dict[str, JobTested], results: SweepResults) -> ComparisonRow:
    names = [name for name in (contest.search.name, *(job.name for job in contest.repeats)) if name in won]
    winners = [won[name] for name in names]
    trainings = [results.trials[name][won[name].trial.index] for name in names]
    settings, bundle = winners[0].trial.settings, read_bundle(winners[0].bundle)
    return ComparisonRow(
        job=contest.job,
        method=contest.method,
        width=settings.method.shown_width,
        learning_rate=settings.engine.learning_rate,
        metric=contest.search.task.config.primary,
        validation=tuple(winner.validation for winner in winners),
        test=tuple(winner.primary for winner in winners),
        low=fmean(winner.low for winner in winners),
        high=fmean(winner.high for winner in winners),
        baseline=winners[0].baseline,
        num_trained=bundle.record.num_trained,
        share=bundle.record.share,
        bundle_bytes=bundle.num_bytes,
        **costs(trainings),
    )

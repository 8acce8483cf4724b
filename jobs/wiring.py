"""How the parts of a sweep are put together: data, trials, progress, tracking, registry, leaderboard."""

import dataclasses
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from jobs.workspace import Workspace, git_commit, package_versions
from pipeline.adapters.checkpoint import Checkpoint, build_base, load_tensors, load_tokenizer, open_checkpoint
from pipeline.bank.predictor import Predictor
from pipeline.cluster.plan import plan_of
from pipeline.cluster.search import check
from pipeline.config import SweepConfig
from pipeline.data.rows import Row, make_row
from pipeline.engine.bundle import read_bundle
from pipeline.engine.estimate import estimate, trained_share
from pipeline.engine.events import JobTested, SweepEvent
from pipeline.engine.prepare import prepare_jobs
from pipeline.engine.trials import Job, Trial, trial_of
from pipeline.reports.progress import JobPlan, Progress
from pipeline.reports.results import SweepResults
from pipeline.reports.tables import LeaderboardRow, MatrixRow, leaderboard_table, matrix_table
from pipeline.tasks.task import Task

LARGE_SHARE = 0.05
"""Above this an adapter is no longer small, and the user is warned."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A sweep that can start: everything that could be wrong with the input was looked at."""

    checkpoint: Checkpoint
    tokenizer: PreTrainedTokenizerBase
    base: PreTrainedModel
    jobs: Sequence[Job]


def prepare(config: SweepConfig) -> Prepared:
    """Find the checkpoint, read the data and check the search.

    Raises:
        UserError: With everything that is wrong.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    checkpoint = open_checkpoint(config.checkpoint)
    tokenizer = load_tokenizer(checkpoint)
    jobs = prepare_jobs(config, tokenizer)
    check(config.search, jobs[0].settings)
    base = build_base(checkpoint, load_tensors(checkpoint))
    return Prepared(checkpoint=checkpoint, tokenizer=tokenizer, base=base, jobs=jobs)


def announce(config: SweepConfig, prepared: Prepared, console: Console) -> None:
    """Show the matrix, what was noticed in the data, and in a dry run what it would cost."""
    checkpoint, plan = prepared.checkpoint, plan_of(config.search, config.engine.epochs)
    rows = []
    for job in prepared.jobs:
        trial = widest(config, job)
        trained, total = trained_share(prepared.base, checkpoint, job, trial)
        cost = None
        if config.dryrun:
            cost = estimate(prepared.base, checkpoint, prepared.tokenizer.pad_token_id, job, trial)
        data = job.dataset
        rows.append(
            MatrixRow(
                job=job.name,
                kind=job.task.config.kind,
                num_train=len(data.train.rows),
                num_validation=len(data.validation.rows),
                num_test=len(data.test.rows),
                trials=plan.trials,
                epochs=plan.epochs,
                share=trained / total,
                seconds=cost.epoch_s * plan.epochs / slots(config) if cost else None,
                memory_bytes=cost.memory_bytes * slots(config) if cost else None,
            )
        )
    console.print(
        f"{checkpoint.config.name} ({checkpoint.model_type}, sha256 {checkpoint.sha256[:12]}), frozen; "
        f"method {config.method.name}; {config.search.algorithm} search, {config.search.scheduler}; seed {config.seed}"
    )
    console.print(matrix_table(rows))
    for job in prepared.jobs:
        for note in [*job.dataset.notes, *truncation_notes(job)]:
            console.print(f"{job.name}: {note}", markup=False, soft_wrap=True)
    for row in rows:
        if row.share > LARGE_SHARE:
            text = f"{row.job}: trains {row.share:.1%} of the checkpoint's parameters, more than {LARGE_SHARE:.0%}"
            console.print(f"Warning: {text}; narrow method.width", style="yellow", markup=False)
    if config.dryrun:
        total = sum(row.seconds or 0 for row in rows)
        console.print(f"About {total / 60:.0f} min on {slots(config)} slots of this machine. Nothing was trained.")


def widest(config: SweepConfig, job: Job) -> Trial:
    """The job's trial with the widest bottleneck that the search may propose."""
    width = config.search.space.get("method.width")
    if width is None:
        return trial_of(job, 0, {})
    values = width.choice or width.uniform or width.log_uniform or []
    return trial_of(job, 0, {"method.width": int(max(values))})


def slots(config: SweepConfig) -> int:
    """Trials that run side by side."""
    return max((config.cluster.num_cpus or os.cpu_count() or 1) // config.cluster.cpus_per_trial, 1)


def truncation_notes(job: Job) -> list[str]:
    """Say how many rows are longer than the model reads."""
    cut = {name: split.num_truncated for name, split in job.encoded.items() if split.num_truncated}
    counts = ", ".join(f"{number} of {name}" for name, number in cut.items())
    return [f"truncated to {job.task.config.max_length} sub-tokens: {counts} rows"] if cut else []


def run_sweep(config: SweepConfig, prepared: Prepared, workspace: Workspace, console: Console) -> None:
    """Train everything, record it, register the winners and show the leaderboard."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        opening = pool.submit(_open_store, config)  # its tables take seconds, as does starting Ray
        from pipeline.cluster.sweep import run
        from pipeline.tracking.runs import SweepFacts, SweepRecorder

        plan = plan_of(config.search, config.engine.epochs)
        plans = {
            job.name: JobPlan(trials=plan.trials, epochs=plan.epochs, metric=job.task.config.primary)
            for job in prepared.jobs
        }
        results = SweepResults()
        facts = SweepFacts(
            id=workspace.id,
            jobs=prepared.jobs,
            checkpoint=prepared.checkpoint,
            config=dataclasses.asdict(config),
            seed=config.seed,
            git_commit=git_commit(),
            versions=package_versions(),
        )
        store = opening.result()
    with SweepRecorder(store, facts) as recorder:
        with Progress(console, results, plans, slots=slots(config)) as progress:

            def sink(event: SweepEvent) -> None:
                results(event)
                progress(event)
                recorder(event)

            winners = run(
                prepared.jobs,
                prepared.checkpoint,
                search=config.search,
                cluster=config.cluster,
                folder=workspace.folder,
                sink=sink,
            )
        rows = [_register(config, prepared, workspace, store, recorder, results, winner) for winner in winners]
        console.print(leaderboard_table(rows))


def _open_store(config: SweepConfig):
    from pipeline.tracking.store import open_store

    return open_store(config.tracking)


def _register(config, prepared, workspace, store, recorder, results, winner: JobTested) -> LeaderboardRow:
    from pipeline.tracking.registry import register

    job = next(job for job in prepared.jobs if job.name == winner.trial.job)

    def rescore(challenger: Path, champion: Path, rows_file: Path) -> tuple[float, float]:
        predictor = Predictor(prepared.checkpoint, prepared.base)
        rows = read_rows(rows_file, job.task)
        return predictor.score(challenger, rows).primary, predictor.score(champion, rows).primary

    registered = register(store, workspace.id, job, winner, recorder.run_id(job.name), rescore)
    bundle, settings = read_bundle(winner.bundle), winner.trial.settings
    return LeaderboardRow(
        job=job.name,
        method=settings.method.name,
        width=settings.method.width,
        learning_rate=settings.engine.learning_rate,
        metric=job.task.config.primary,
        validation=winner.validation,
        test=winner.primary,
        low=winner.low,
        high=winner.high,
        baseline=winner.baseline,
        share=bundle.record.share,
        bundle_bytes=bundle.num_bytes,
        seconds=results.seconds(job.name),
        alias=registered.alias,
        name=registered.name,
        version=registered.version,
        reason=registered.reason,
    )


def read_rows(file: Path, task: Task) -> list[Row]:
    """Read rows that were recorded with a version, in canonical fields."""
    config = dataclasses.replace(task.config, fields={})
    lines = file.read_text("utf-8").splitlines()
    return [
        row
        for number, line in enumerate(lines, start=1)
        for row in make_row(json.loads(line), config, f"{file}:{number}")
        if isinstance(row, Row)
    ]

"""The end of a pass: the challenger is judged and registered, and everything about it recorded."""

import dataclasses
from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np

from pipeline.config import RetrainConfig
from pipeline.core.data.ledger import Ledger
from pipeline.core.engine.events import JobTested
from pipeline.core.engine.trials import Job
from pipeline.reports import plots
from pipeline.reports.verdicts import PassRow, pass_records, passes_markdown, verdict_markdown
from pipeline.rules.judge import Judge, Scorer
from pipeline.rules.transfer import continual_metrics, continual_records, flat
from pipeline.steps.conclude import record_judgement
from pipeline.steps.prepare import Prepared
from pipeline.steps.survey import Survey
from pipeline.tracking.recorder import SweepRecorder
from pipeline.tracking.registry import register
from pipeline.tracking.store import Store


def settle_pass(
    config: RetrainConfig,
    found: Survey,
    winner: JobTested,
    prepared: Prepared,
    store: Store,
    recorder: SweepRecorder,
    period: str,
    seconds: float,
) -> PassRow:
    """Judge a challenger, register it, and record why it was promoted or not."""
    job = found.job
    assert job is not None
    judge = Judge(
        scorer=Scorer(prepared.checkpoint, prepared.base, job.task),
        gate=config.gate,
        period=period,
        bundle=winner.bundle,
        target=job.task.target,
        trained=found.news.train,
        chosen=found.news.validation,
        evaluation=found.news.evaluation,
        follows=found.champion.version,
        news=found.attempt,
        answers=winner.answers,
    )
    registered = register(store, period, job, winner, recorder.run_id(job.name), judge)
    promoted = registered.alias == "champion"
    past = [judge.scores[one.name] for one in found.ledger.slices if one.name in judge.scores]
    both = judge.scores.get(period, {})
    row = dataclasses.replace(
        untrained(found),
        decision="promoted" if promoted else "rejected",
        reason=registered.reason,
        version=registered.version,
        before=fmean(one["champion"] for one in past) if past else None,
        after=fmean(one["challenger"] for one in past) if past else None,
        on_new=(both["champion"], both["challenger"]) if "champion" in both else None,
        seconds=seconds,
    )
    record_judgement(recorder, job.name, judge)
    recorder.json(job.name, "news.json", found.news.counts())
    tags = {"decision": row.decision, "reason": row.reason, "why_trained": found.reason}
    metrics = dict(found.drift.metrics()) if found.drift is not None else {}
    # The longer one: a version that could not be compared has a ledger of its own alone.
    ledger = max(found.ledger, judge.ledger or found.ledger, key=lambda one: len(one.history))
    metrics |= _record_matrix(recorder, job, ledger, judge.baselines, "" if promoted else period)
    recorder.measure(job.name, metrics, tags)
    if found.drift is not None:
        recorder.table(job.name, "drift.json", found.drift.records())
    recorder.describe(job.name, verdict_markdown(row, found.drift, judge.check_records()))
    return row


def untrained(found: Survey) -> PassRow:
    """The row of a task for which nothing was trained."""
    return PassRow(
        job=found.name,
        champion=found.champion.version,
        new=found.news.count,
        replayed=found.num_replayed,
        decision=found.outcome,
        reason=found.reason,
    )


def record_pass(recorder: SweepRecorder, rows: Sequence[PassRow]) -> None:
    """Record the whole pass, with the tasks for which there was nothing to do."""
    recorder.table(None, "passes.json", pass_records(rows))
    recorder.measure(None, {}, {"decision": ", ".join(f"{row.job}: {row.decision}" for row in rows)})
    recorder.describe(None, passes_markdown(rows))


def _record_matrix(
    recorder: SweepRecorder, job: Job, ledger: Ledger, baselines: Mapping[str, float], rejected: str
) -> dict[str, float]:
    """Record every version's score on every slice; return the metrics of continual learning of the last champion.

    The untrained model of forward transfer is the answer that needs no model: the score that `Scores.baseline` has.

    Args:
        recorder: Takes the table and the figure.
        job: What was trained.
        ledger: Of the version that was judged.
        baselines: Slice's name -> score without a model.
        rejected: The period of the last version, if it was not promoted.
    """
    known = {entry.name: entry.scores for entry in ledger.history}
    periods = [one.name for one in ledger.slices if one.name in known]
    if not periods:
        return {}
    scores = np.array([[known[row].get(column, np.nan) for column in periods] for row in periods])
    untrained = [baselines.get(name, np.nan) for name in periods]
    versions = [f"{name} (rejected)" if name == rejected else name for name in periods]
    records = continual_records(scores, periods, untrained)
    recorder.table(
        job.name, "continual.json", [{**one, "after": name} for one, name in zip(records, versions, strict=True)]
    )
    metric = job.task.config.primary
    figure = plots.matrix_figure(scores.tolist(), versions=versions, periods=periods, job=job.name, metric=metric)
    recorder.figure(job.name, "continual.png", figure)
    champions = len([name for name in periods if name != rejected])  # it is the last one
    if not champions:
        return {}
    return flat(continual_metrics(scores[:champions, :champions], untrained[:champions])[-1])

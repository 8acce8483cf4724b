"""A winner is judged beside the champion, registered, and everything about it recorded."""

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from statistics import fmean
from typing import Any

import numpy as np

from pipeline.config import RetrainConfig, signed
from pipeline.config.task import TaskConfig
from pipeline.core.adapters.checkpoint import Checkpoint
from pipeline.core.adapters.stated import stated
from pipeline.core.bank.predictor import Scorer
from pipeline.core.data.ledger import Ledger, read_ledger, read_ledgers
from pipeline.core.engine.bundle import read_bundle
from pipeline.core.engine.events import JobTested
from pipeline.core.engine.precision import answering
from pipeline.core.engine.trials import Job
from pipeline.errors import PipelineError
from pipeline.reports import plots
from pipeline.reports.verdicts import PassRow, pass_records, passes_markdown, verdict_markdown
from pipeline.rules.judge import Case, Judgement, Opponent, judge
from pipeline.rules.ladder import confidences, told
from pipeline.rules.transfer import continual_metrics, continual_records, flat
from pipeline.rules.versions import Champion, Files, Registered
from pipeline.steps.prepare import Prepared
from pipeline.steps.survey import Survey, changed_since
from pipeline.tracking.outage import is_outage
from pipeline.tracking.recorder import SweepRecorder
from pipeline.tracking.registry import champion_of, past_of, register
from pipeline.tracking.store import Store

_log = logging.getLogger(__name__)


@contextmanager
def settling(job: str, failed: dict[str, str]) -> Iterator[None]:
    """Settle one of several winners: what goes wrong with it is put into `failed`, and the others are settled too.

    A store that is away is nobody's own trouble, and ends them all.
    """
    try:
        yield
    except Exception as error:
        if is_outage(error):
            raise
        _log.exception("%s: its winner could not be registered", job)
        failed[job] = f"the winner of {job} could not be registered ({str(error).strip().partition(chr(10))[0][:300]})"


def settle_winner(
    case: Case, job: Job, winner: JobTested, store: Store, recorder: SweepRecorder, checkpoint: Checkpoint
) -> tuple[Registered, Judgement]:
    """Judge the winner of a job beside its champion, register it, and record what the gate saw and said.

    The store is asked before and after, not meanwhile: while it is away nothing is scored again.
    """
    champion = champion_of(store, job.registered_name)
    if case.follows is None:
        past = past_of(store, job.registered_name, 0 if champion is None else champion.version)
        there = [one for one in past if isinstance(one.found, Files)]  # of one that was lost nothing is known
        ledgers = read_ledgers((one.ledger for one in there), job.task.config)
        case = dataclasses.replace(case, used=case.used.union(*(its.seen_keys for its in ledgers if its is not None)))
    opponent = None if champion is None else opponent_of(champion, job.task.config)
    judgement = judge(*in_one_precision(case, opponent))
    record_judgement(recorder, job.name, judgement)  # first: of what is registered it is there
    run_id, replaces = recorder.run_id(job.name), None if champion is None else champion.version
    of: dict[str, Any] = {"replaces": replaces, "stated": stated(checkpoint.folder)}
    return register(store, case.period, job, winner, case.bundle, run_id, judgement.verdict, **of), judgement


def in_one_precision(case: Case, opponent: Opponent | None) -> tuple[Case, Opponent | None]:
    """Have both sides scored in one precision, since rounding is nothing that a challenger has learnt: in float32,
    unless both were trained in bfloat16 and this machine, which scores them, has it."""
    if opponent is None or isinstance(opponent.read, PipelineError):
        return case, opponent
    theirs, ledger = opponent.read
    engines = [case.bundle.record.engine, *(answering(one.record.engine, "cpu") for one in (case.bundle, theirs))]
    if len({one.precision for one in engines}) == 1:
        return case, opponent
    known = case.answers if engines[0].precision == "float32" else {}
    ours = dataclasses.replace(case, bundle=case.bundle.answering_in("float32"), answers=known)
    return ours, dataclasses.replace(opponent, read=(theirs.answering_in("float32"), ledger))


def record_judgement(recorder: SweepRecorder, job: str, judgement: Judgement) -> None:
    """Keep what the gate saw and said."""
    recorder.table(job, "gate/checks.json", judgement.check_records())
    recorder.table(job, "gate/rows.json", judgement.row_records())
    decision = judgement.decision
    recorder.text(job, "gate/decision.txt", f"{decision.decided_by}: {decision.reason}\n")


def opponent_of(champion: Champion, task: TaskConfig) -> Opponent:
    """Read a champion, which may have been trained on another task than it is now, or have lost its files."""
    try:
        bundle = read_bundle(champion.files.bundle)
        if changed := changed_since(bundle, task):
            raise PipelineError("the task was {} and is {} now".format(*changed))
        return Opponent(version=champion.version, read=(bundle, read_ledger(champion.files.ledger, task)))
    except PipelineError as error:
        return Opponent(version=champion.version, read=error)


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
    job = prepared.job_of(winner)
    case = Case(
        score=Scorer(prepared, job.task),
        gate=config.gate,
        period=period,
        bundle=read_bundle(winner.bundle),
        trained=found.news.train,
        chosen=found.news.validation,
        replaced=found.news.replaced,
        used=found.used,
        evaluation=found.news.evaluation,
        follows=found.champion.version,
        news=found.pass_id,
        attempt=found.attempt.name,
        confidence=confidences(config.gate.confidence, len(found.attempts))[found.number],
        answers=winner.answers,
    )
    registered, judgement = settle_winner(case, job, winner, store, recorder, prepared.checkpoint)
    promoted = registered.alias == "champion"
    scores = judgement.scores
    past = [scores[one.name] for one in found.ledger.slices if "champion" in scores.get(one.name, {})]
    both, shown = scores.get(period, {}), partial(signed, job.task.config.primary)
    row = dataclasses.replace(
        untrained(found),
        decision="promoted" if promoted else "rejected",
        reason=registered.reason,
        version=registered.version,
        before=shown(fmean(one["champion"] for one in past)) if past else None,
        after=shown(fmean(one["challenger"] for one in past)) if past else None,
        on_new=(shown(both["champion"]), shown(both["challenger"])) if "champion" in both else None,
        seconds=seconds,
        goes_on=judgement.verdict.harder and not promoted and found.number + 1 < len(found.attempts),
    )
    with recorder.aside(f"what {job.name} has learned and forgotten"):
        _record_row(job, found, row, judgement, recorder, "" if promoted else period)
    return row


def _record_row(
    job: Job, found: Survey, row: PassRow, judgement: Judgement, recorder: SweepRecorder, rejected: str
) -> None:
    """Record what a pass did for one job, on its run; `rejected` is the pass, if its version was not promoted."""
    recorder.json(job.name, "news.json", found.news.counts())
    tags = {"decision": row.decision, "reason": row.reason, "why_trained": found.reason, "attempt": row.attempt}
    metrics = dict(found.drift.metrics()) if found.drift is not None else {}
    # The longer one: a version that could not be compared has a ledger of its own alone.
    ledger = max(found.ledger, judgement.verdict.ledger, key=lambda one: len(one.history))
    metrics |= _record_matrix(recorder, job, ledger, judgement.baselines, rejected)
    recorder.measure(job.name, metrics, tags)
    if found.drift is not None:
        recorder.table(job.name, "drift.json", found.drift.records())
    recorder.describe(job.name, verdict_markdown(row, found.drift, judgement.check_records()))


def untrained(found: Survey) -> PassRow:
    """The row of a task for which nothing was trained."""
    return PassRow(
        job=found.name,
        champion=found.champion.version,
        new=found.news.count,
        replayed=found.num_replayed,
        decision=found.finding,
        reason=found.reason,
        attempt=told(found.attempts, found.number) if found.job is not None else "",
        tried=[f"version {one.version} ({one.attempt}): {one.reason}" for one in found.tried],
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

    The untrained model of forward transfer is the answer that needs no model: the score that `Scores.baseline` has, in
    `baselines` by the slice's name. `rejected` is the period of the last version, if it was not promoted.
    """
    known = {entry.name: entry.scores for entry in ledger.history}
    periods = [one.name for one in ledger.slices if one.name in known]
    if not periods:
        return {}
    scores = np.array([[known[row].get(column, np.nan) for column in periods] for row in periods])
    untrained = [baselines.get(name, np.nan) for name in periods]
    versions = [f"{name} (rejected)" if name == rejected else name for name in periods]
    records = continual_records(scores, periods, untrained)
    named = [{**one, "after": name} for one, name in zip(records, versions, strict=True)]
    recorder.table(job.name, "continual.json", named)
    metric = job.task.config.primary
    shown: dict[str, Any] = {"versions": versions, "periods": periods, "job": job.name, "metric": metric}
    recorder.figure(job.name, "continual.png", lambda: plots.matrix_figure(scores.tolist(), **shown))
    champions = len([name for name in periods if name != rejected])  # it is the last one
    if not champions:
        return {}
    return flat(continual_metrics(scores[:champions, :champions], untrained[:champions])[-1])

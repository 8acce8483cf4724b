"""A registered version is scored on labelled rows: what it knew of them is counted, and all is recorded as a run."""

import dataclasses
import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from pipeline.config import DataConfig, TaskConfig
from pipeline.config.champions import EvaluateConfig
from pipeline.config.task import task_change
from pipeline.core.adapters.checkpoint import load_checkpoint, open_checkpoint
from pipeline.core.bank.predictor import Predictor
from pipeline.core.data.ledger import Ledger, read_ledger
from pipeline.core.data.load import job_name, load, resolve
from pipeline.core.data.rows import Row
from pipeline.core.data.splits import fingerprint
from pipeline.core.engine.bundle import Bundle, read_bundle
from pipeline.core.tasks.kinds import TASK_KINDS, restore
from pipeline.core.tasks.task import Task
from pipeline.errors import ConfigError, DataError, PipelineError, fault
from pipeline.reports import plots
from pipeline.reports.counter import counted
from pipeline.reports.evaluation import Evaluation, evaluation_markdown
from pipeline.rules.versions import Chosen
from pipeline.steps.answer import answers
from pipeline.tracking.run import create_run, table_bytes
from pipeline.tracking.store import Store, store_errors


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Labelled:
    """Rows with their targets."""

    rows: Sequence[Row]
    where: str
    """In words."""
    task: TaskConfig
    notes: Sequence[str] = ()


def evaluate(config: EvaluateConfig, chosen: Chosen) -> Evaluation:
    """Score a version on the rows that the config names.

    Raises:
        UserError: The rows cannot be read, or they are of another kind of task than the version.
    """
    bundle = read_bundle(chosen.files.bundle)
    labelled = _labelled(config, bundle)
    rows, record = labelled.rows, bundle.record
    predictor = Predictor(load_checkpoint(open_checkpoint(record.checkpoint)))
    given = list(counted(answers(predictor, bundle, rows), len(rows), "answered"))
    try:
        ledger = read_ledger(chosen.files.ledger, record.task)
    except DataError:
        ledger = None
    restored = restore(dataclasses.replace(labelled.task, labels=None), record.labels)
    task = _scoring(restored, ledger)
    primary = task.score(rows, given)
    others = [name for name in task.config.metrics if name in primary.metrics and name != task.config.primary]
    scores = {task.config.primary: primary}
    for name in others:
        scores[name] = _scoring(restored, ledger, metric=name).score(rows, given)
    counts = {"rows": len(rows), "truncated_rows": sum("truncated" in one for one in given)}
    notes = [*labelled.notes, *_seen(rows, ledger, counts), *_unknown(rows, restored)]
    if counts["truncated_rows"]:
        notes.append(f"{_rows(counts['truncated_rows'])} longer than the model reads: truncated.")
    called = f", {chosen.alias}" if chosen.alias else ""
    return Evaluation(
        title=f"{chosen.name} version {chosen.version}{called}: {len(rows):,} rows of {labelled.where}",
        rows=rows,
        answers=given,
        scores=scores,
        figures=list(task.figures([row.fields[task.target] for row in rows], given)),
        counts=counts,
        notes=notes,
    )


def record(store: Store, config: EvaluateConfig, chosen: Chosen, found: Evaluation) -> str:
    """Record an evaluation as a run of its own; return the run's id."""
    bundle = read_bundle(chosen.files.bundle).record
    pictures = {f"{shown.name}.png": _drawn(shown, bundle.job) for shown in found.figures}
    tables = {f"{shown.name}.json": table_bytes(records) for shown in found.figures if (records := shown.records())}
    task, _, domain = bundle.job.partition("/")
    tags = {
        "kind": "evaluation",
        "task": task,
        "domain": domain,
        "registered": chosen.name,
        "version": chosen.version,
        "alias": chosen.alias,
        "metric": next(iter(found.scores)),
        "method": bundle.method.name,
        "checkpoint": bundle.checkpoint.name,
        "source": config.file or config.data.source,
        "mlflow.note.content": evaluation_markdown(found),
    }
    with store_errors(store.uri):
        run = create_run(store, f"evaluate {chosen.name} v{chosen.version}", tags)
        try:
            run.params({name: tags[name] for name in ("registered", "version", "source", "method", "checkpoint")})
            run.datasets(bundle.job, str(tags["source"]), {"test": (fingerprint(found.rows), len(found.rows))})
            for path, data in {"test_predictions.json": table_bytes(found.predictions()), **tables}.items():
                run.table(path, data)
            for path, data in pictures.items():
                run.file(path, data)
            run.write([(run.started_ms, [(name, value, 0) for name, value in found.points()])])
        except BaseException:
            with suppress(Exception):
                run.end("FAILED")
            raise
        run.end("FINISHED")
    return run.id

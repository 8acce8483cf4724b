"""A registered version is scored on labelled rows: what it knew of them is counted, and all is recorded as a run."""

import dataclasses
import io
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from pipeline.config import TaskConfig
from pipeline.config.champions import EvaluateConfig
from pipeline.config.task import mapped_faults, task_change
from pipeline.core.data.ledger import Ledger, read_ledger
from pipeline.core.data.load import job_name, load, resolve
from pipeline.core.data.readers import read
from pipeline.core.data.rows import Row, SplitSource, num_rows
from pipeline.core.data.sift import sift
from pipeline.core.data.splits import fingerprint
from pipeline.core.engine.bundle import Bundle, read_bundle
from pipeline.core.tasks.figures import Figure
from pipeline.core.tasks.kinds import restore
from pipeline.core.tasks.task import Task
from pipeline.errors import ConfigError, DataError, fault
from pipeline.reports import plots
from pipeline.reports.counter import counted
from pipeline.reports.evaluation import Evaluation, evaluation_markdown
from pipeline.rules.versions import Chosen
from pipeline.steps.answer import Answers
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
    record = bundle.record
    try:
        ledger = read_ledger(chosen.files.ledger, record.task)
    except DataError:
        ledger = None
    labelled = _labelled(config, bundle, ledger)
    rows = labelled.rows
    answers = Answers(bundle, rows)
    given = list(counted(answers, len(rows), "answered"))
    restored = restore(dataclasses.replace(labelled.task, labels=None), record.labels)
    task = _scoring(restored, ledger)
    primary = task.score(rows, given)
    others = [name for name in task.config.metrics if name in primary.metrics and name != task.config.primary]
    scores = {task.config.primary: primary}
    for name in others:
        scores[name] = _scoring(restored, ledger, metric=name).score(rows, given)
    counts = {"rows": len(rows), "truncated_rows": sum("truncated" in one for one in given)}
    notes = [*labelled.notes, *_seen(rows, ledger, counts, task.target), *_unknown(rows, restored)]
    called = f", {chosen.alias}" if chosen.alias else ""
    return Evaluation(
        title=f"{chosen.name} version {chosen.version}{called}: {num_rows(len(rows))} of {labelled.where}",
        rows=rows,
        answers=given,
        scores=scores,
        figures=list(task.figures([row.fields[task.target] for row in rows], given)),
        counts=counts,
        notes=notes,
        partial=answers.partial,
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
            run.write([(int(time.time() * 1000), [(name, value, 0) for name, value in found.points()])])
        except BaseException:
            with suppress(Exception):
                run.end("FAILED")
            raise
        run.end("FINISHED")
    return run.id


def _labelled(config: EvaluateConfig, bundle: Bundle, ledger: Ledger | None) -> Labelled:
    """Read the rows by the task as it is now, where it is still known."""
    before = bundle.record.task
    now = config.task.get(before.name, before)
    # How it is scored may change, and labels that come or go are counted as wrong.
    if change := task_change(dataclasses.replace(before, metric=now.metric), dataclasses.replace(now, labels=None)):
        rule = "is now {1}; the version was trained when it was {0}".format(*change)
        raise ConfigError(fault("TASK", now.name, rule, "Evaluate with the task's file of before, or train it anew"))
    if config.file:
        return _of_file(config, now)
    if before.name not in config.task:
        rule = "is registered, but there is no file of the task here, which says where its rows are"
        remedy = "Give FILE=<labelled rows>, or CONF=<its folder> and DATA=<dir>"
        raise ConfigError(fault("TASK", before.name, rule, remedy))
    (task, domain), *_ = resolve([config.job], config.task, config.data)
    trained = {row.digest for row in ledger.trained} if ledger else ()
    dataset = load(task, domain, config.data, kind=restore(task), cut=bundle.record.cut, trained=trained)
    where = f"{job_name(task, domain)}, test split of {config.data.source}"
    return Labelled(rows=dataset.test.rows, where=where, task=task, notes=dataset.notes)


def _of_file(config: EvaluateConfig, task: TaskConfig) -> Labelled:
    """All rows of FILE that are good, or the error that training on them would be."""
    if faults := list(mapped_faults(config.data.columns, task)):
        raise ConfigError(faults)
    path, notes = Path(config.file).expanduser(), list[str]()
    split = SplitSource(config.file, read(path, task, config.data, notes=notes))
    sifted = sift("the file", split, task, restore(task), config.data, config.data.bad_rows or "error")
    if sifted.faults:
        raise DataError(sifted.faults)
    if not sifted.rows:
        raise DataError(fault(path, "", "has no labelled rows", "Give a file with at least one"))
    return Labelled(rows=sifted.rows, where=config.file, task=task, notes=[*notes, *sifted.notes])


def _scoring(restored: Task, ledger: Ledger | None, *, metric: str | None = None) -> Task:
    """The task as it scores by a metric; its baseline knows the rows that were trained on, where they are kept."""
    config = dataclasses.replace(restored.config, metric=metric or restored.config.metric)
    if ledger is None or not ledger.trained:
        return restore(config, restored.labels)
    labels = restored.names() if restored.has_labels else None
    return type(restored).from_rows(dataclasses.replace(config, labels=labels), ledger.trained)


def _seen(rows: Sequence[Row], ledger: Ledger | None, counts: dict[str, int], target: str) -> Iterator[str]:
    """Say how many of the rows the version was trained on or chosen by, and count them: by what the model reads."""
    if ledger is None:
        yield "Nobody knows which of the rows the version was trained on: it has no ledger."
        return
    trained = (*ledger.trained, *ledger.former)
    keys, learnt = {row.key for row in trained}, {(row.key, str(row.fields[target])) for row in trained}
    chosen = {row.key for row in ledger.chosen} - keys
    counts["trained_on"] = sum(row.key in keys for row in rows)
    counts["chosen_by"] = sum(row.key in chosen for row in rows)
    if not counts["trained_on"] + counts["chosen_by"]:
        yield "The version was trained on none of the rows, and not chosen by any."
        return
    others = sum(row.key in keys and (row.key, str(row.fields[target])) not in learnt for row in rows)
    but = f" ({others} of them with another target)" if others else ""
    yield (
        f"The version was trained on {counts['trained_on']} of the {len(rows)} rows{but}, and chosen by "
        f"{counts['chosen_by']}: its scores on them are no measure of what it does on new ones."
    )


def _unknown(rows: Sequence[Row], restored: Task) -> Iterator[str]:
    """Say which labels of the rows the version does not know."""
    if not restored.has_labels:
        return
    known = {*restored.names()}
    unknown = Counter(label for row in rows for label in {*restored.labels_of(row)} - known)
    if unknown:
        named = ", ".join(f"{label} ({num_rows(count)})" for label, count in sorted(unknown.items()))
        yield f"The version does not know {named}: counted as wrong."


def _drawn(shown: Figure, job: str) -> bytes:
    drawn = io.BytesIO()
    plots.answers_figure(shown, job=job).savefig(drawn, format="png")
    return drawn.getvalue()

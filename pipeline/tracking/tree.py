"""The runs of a sweep, nested sweep > job > trial, and what each record adds to them.

Every step can be cut off anywhere and taken again: it finds what was made before, and writes the rest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from pipeline.core.adapters.checkpoint import Checkpoint
from pipeline.core.engine.bundle import read_bundle
from pipeline.core.engine.events import JobTested, TrialEnded, TrialReported, TrialStarted
from pipeline.core.engine.trials import Job, Trial
from pipeline.tracking import fields
from pipeline.tracking.run import Moment, Run, RunStatus, create_run, find_runs, json_bytes, table_bytes
from pipeline.tracking.spool import Described, Filed, Measured, Record, Told
from pipeline.tracking.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepFacts:
    """What is known of a sweep before its first trial."""

    id: str
    jobs: Sequence[Job]
    checkpoint: Checkpoint
    config: Mapping[str, Any]
    """The whole config as plain containers."""
    seed: int
    git_commit: str | None
    versions: Mapping[str, str]
    """Package -> version."""


class RunTree:
    """The runs of a sweep, made when they are first needed; used by one thread."""

    def __init__(self, store: Store, facts: SweepFacts) -> None:
        self._store = store
        self._facts = facts
        self._jobs = {job.name: job for job in facts.jobs}
        self._common = fields.common_tags(facts.checkpoint, facts.seed, facts.git_commit, facts.versions)
        self._runs: dict[str, Run] = {}

    def open(self) -> None:
        """Make or find the runs of the sweep and its jobs."""
        facts = self._facts
        self.find()
        sweep = self._take_up(fields.SWEEP, facts.id, fields.sweep_tags(facts.id, self._common, facts.jobs), None)
        sweep.params(fields.sweep_params(facts.config))
        sweep.file("config.json", json_bytes(facts.config))
        sweep.file("environment.json", json_bytes(dict(facts.versions)))
        for job in facts.jobs:
            run = self._take_up(job.name, job.name, fields.job_tags(facts.id, self._common, job), sweep)
            run.params(fields.shared_params(facts.config))
            self._log_data(run, job)
            run.file("data/manifest.json", json_bytes(job.dataset.manifest()))
            if job.dataset.notes:
                run.file("data/notes.txt", "".join(f"{note}\n" for note in job.dataset.notes).encode())

    def find(self) -> None:
        """Find the runs that are there: those of an interrupted sweep, and those whose making got no reply."""
        for run in sorted(find_runs(self._store, self._facts.id), key=lambda run: run.is_empty):
            known = self._runs.setdefault(fields.place(run.tags), run)
            # Made by a request that the server took up after its client had given up, and the run was made again.
            if known.id != run.id and run.is_empty:
                run.delete()

    def owner(self, job: str | None) -> Run:
        """The run of a job, or of the sweep."""
        return self._runs[fields.SWEEP if job is None else job]

    def write(self, records: Sequence[Record]) -> None:
        """Write records: one, or several that `batch_size` puts together."""
        told = [record for record in records if isinstance(record, Told)]
        if len(records) > 1 or (told and isinstance(told[0].event, TrialStarted | TrialReported)):
            self._report(told)
            return
        for record in records:
            match record:
                case Told(event=TrialEnded() as event):
                    self._end_trial(event, record.at_ms)
                case Told(event=JobTested() as event):
                    self._end_job(event, record.at_ms)
                case Filed(is_table=True):
                    self.owner(record.job).table(record.path, record.data)
                case Filed():
                    self.owner(record.job).file(record.path, record.data)
                case Measured():
                    points = [(name, value, 0) for name, value in record.metrics.items()]
                    self.owner(record.job).write([(record.at_ms, points)], record.tags)
                case Described():
                    self.owner(record.job).set_tags({"mlflow.note.content": record.markdown})

    def close(self, status: RunStatus) -> None:
        """End every run that is still running."""
        cut_short: RunStatus = "FAILED" if status == "FINISHED" else status
        for place, run in self._runs.items():
            if run.status == "RUNNING" and place != fields.SWEEP:
                run.end("FINISHED" if run.tags.get("status") in ("done", "pruned") else cut_short)
        if fields.SWEEP in self._runs:
            self._runs[fields.SWEEP].end(status)

    def _take_up(self, place: str, name: str, tags: Mapping[str, Any], parent: Run | None) -> Run:
        run = self._runs.get(place)
        if run is None:
            run = self._runs[place] = create_run(self._store, name, tags, parent)
        run.reopen()
        return run

    def _trial(self, trial: Trial) -> Run:
        run = self._runs.get(trial.key)
        if run is None:
            tags = fields.trial_tags(self._facts.id, self._common, self._jobs[trial.job], trial)
            name = f"{trial.index:02d} {trial.job}"  # the number first: the UI shows little more than the beginning
            run = self._runs[trial.key] = create_run(self._store, name, tags, self.owner(trial.job))
        if "status" in run.tags:  # ended before the sweep was interrupted
            return run
        run.reopen()
        run.params(fields.shared_params(self._facts.config) | fields.trial_params(trial))
        return run

    def _report(self, records: Sequence[Told]) -> None:
        """Write the epochs of trials: of each trial all that are told, together."""
        trials: dict[str, tuple[Trial, list[Moment]]] = {}
        for record in records:
            trial = record.event.trial
            _, moments = trials.setdefault(trial.key, (trial, []))
            if isinstance(record.event, TrialReported):
                moments.append((record.at_ms, fields.epoch_points(record.event.evaluated, record.event.losses)))
        for trial, moments in trials.values():
            self._trial(trial).write(moments)

    def _end_trial(self, event: TrialEnded, at_ms: int) -> None:
        run = self._trial(event.trial)
        status: RunStatus = "FAILED" if event.status == "failed" else "FINISHED"
        seen = [run.tags.get(name) for name in ("status", "epochs", "best_epoch")]
        if seen == [str(value) for value in (event.status, event.epochs, event.best_epoch)]:  # told again
            if run.status == "RUNNING":
                run.end(status)
            return
        self._log_data(run, self._jobs[event.trial.job])
        moments = [(at_ms, fields.end_points(event))]
        if event.bundle is not None:
            moments.append((at_ms, fields.size_points(read_bundle(event.bundle).record)))
        run.write(moments, fields.end_tags(event))
        keep = self._store.config.keep_bundles
        if event.bundle is not None and (keep == "all" or (keep == "best" and event.status == "done")):
            run.folder(event.bundle, "bundle")
        # Last, so that what was cut off here is recorded again when the event is told again.
        run.set_tags({"status": event.status})
        run.end(status)

    def _end_job(self, event: JobTested, at_ms: int) -> None:
        run, trial = self.owner(event.trial.job), self._trial(event.trial)
        keep = self._store.config.keep_bundles
        if keep == "winners" or (keep == "best" and trial.tags.get("status") != "done"):
            trial.folder(event.bundle, "bundle")
        trial.set_tags({"winner": "true"})
        run.params(fields.trial_params(event.trial))
        size = fields.size_points(read_bundle(event.bundle).record)
        run.write([(at_ms, fields.test_points(event)), (at_ms, size)])
        self.owner(None).write([(at_ms, fields.sweep_points(event))])
        run.table("test_predictions.json", table_bytes(event.predictions))
        run.set_tags({"status": "done", "best_trial": event.trial.key, "best_run_id": trial.id})

    def _log_data(self, run: Run, job: Job) -> None:
        data = job.dataset
        splits = {split.name: (split.fingerprint, len(split.rows)) for split in data.splits}
        run.datasets(job.name, data.source, splits)


def batch_size(records: Sequence[Record]) -> int:
    """Count how many of the first records are written together: epochs of trials that nothing else interrupts."""
    epochs = takewhile(
        lambda one: isinstance(one, Told) and isinstance(one.event, TrialStarted | TrialReported), records
    )
    return max(len(list(epochs)), 1)

"""A sweep in MLflow: runs nested sweep > job > trial, written from the sweep's events by a thread of its own.

Training never waits for the store. A recorder for a sweep that is there already goes on with its runs; events
that it has seen before add nothing.
"""

import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, final

from pipeline.adapters.checkpoint import Checkpoint
from pipeline.engine.bundle import read_bundle
from pipeline.engine.events import JobTested, SweepEvent, TrialEnded, TrialReported, TrialStarted
from pipeline.engine.trials import Job, Trial
from pipeline.errors import TrackingError
from pipeline.tracking import fields
from pipeline.tracking.run import Run, RunStatus, create_run, find_runs
from pipeline.tracking.store import Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_log = logging.getLogger(__name__)


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


@final
class SweepRecorder:
    """Sink of a sweep's events that records them in MLflow.

    Used as a context manager: whatever ends the sweep, no run is left running. Figures, tables and other
    artifacts are handed over by the command, for a job (by name) or for the sweep (None).
    """

    def __init__(self, store: Store, facts: SweepFacts) -> None:
        """Start the thread, which makes or finds the runs."""
        self._uri = store.uri
        self._tree = _RunTree(store, facts)
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._error: Exception | None = None
        self._last_status: RunStatus = "FINISHED"
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()
        self._submit(self._tree.open)

    def __call__(self, event: SweepEvent) -> None:
        """Record an event."""
        self._submit(partial(self._tree.record, event))

    def figure(self, job: str | None, path: str, figure: "Figure") -> None:
        """Keep a figure; it must not be changed afterwards."""
        self._submit(lambda: self._tree.owner(job).figure(path, figure))

    def table(self, job: str | None, path: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep rows as a table that the MLflow UI shows; `path` ends in .json."""
        self._submit(lambda: self._tree.owner(job).table(path, rows))

    def json(self, job: str | None, path: str, value: Any) -> None:
        """Keep plain data."""
        self._submit(lambda: self._tree.owner(job).json(path, value))

    def text(self, job: str | None, path: str, text: str) -> None:
        """Keep a text."""
        self._submit(lambda: self._tree.owner(job).text(path, text))

    def describe(self, job: str | None, markdown: str) -> None:
        """Set the description that the MLflow UI shows above a run."""
        self._submit(lambda: self._tree.owner(job).set_tags({"mlflow.note.content": markdown}))

    def run_id(self, job: str | None) -> str:
        """Wait until the run is there and return its id."""
        self.flush()
        return self._tree.owner(job).id

    def flush(self) -> None:
        """Wait until everything is recorded.

        Raises:
            TrackingError: The store refused something.
        """
        self._queue.join()
        self._raise()

    def close(self, status: RunStatus = "FINISHED") -> None:
        """Record what is waiting, end every run that is still running, and stop the thread.

        Args:
            status: Of runs that were cut short: FINISHED makes a job without a tested winner FAILED.

        Raises:
            TrackingError: The store refused something.
        """
        self._last_status = status
        self._queue.put(None)
        self._thread.join()
        self._raise()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
            return
        try:
            self.close("KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED")
        except TrackingError as second:
            _log.error("%s", second)  # the error that ended the sweep matters more

    def _submit(self, step: Callable[[], None]) -> None:
        self._raise()
        self._queue.put(step)

    def _raise(self) -> None:
        if self._error is not None:
            raise TrackingError(f"Recording in {self._uri} stopped: {self._error}") from self._error

    def _work(self) -> None:
        while (step := self._queue.get()) is not None:
            if self._error is None:
                self._try(step)
            self._queue.task_done()
        self._try(partial(self._tree.close, self._last_status))  # after an error too: no run may stay running

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # raised in the main thread at its next call
            self._error = self._error or error


class _RunTree:
    """The runs of a sweep, made when they are first needed; used by the recorder's thread alone."""

    def __init__(self, store: Store, facts: SweepFacts) -> None:
        self._store = store
        self._facts = facts
        self._jobs = {job.name: job for job in facts.jobs}
        self._runs: dict[str, Run] = {}

    def open(self) -> None:
        facts = self._facts
        for run in find_runs(self._store, facts.id):
            self._runs[fields.place(run.tags)] = run
        sweep = self._take_up(fields.SWEEP, facts.id, fields.sweep_tags(facts.id, self._common(), facts.jobs), None)
        sweep.params(fields.sweep_params(facts.config))
        sweep.json("config.json", facts.config)
        sweep.json("environment.json", dict(facts.versions))
        for job in facts.jobs:
            run = self._take_up(job.name, job.name, fields.job_tags(facts.id, self._common(), job), sweep)
            run.params(fields.shared_params(facts.config))
            self._log_data(run, job)
            run.json("data/manifest.json", job.dataset.manifest())

    def owner(self, job: str | None) -> Run:
        return self._runs[fields.SWEEP if job is None else job]

    def record(self, event: SweepEvent) -> None:
        match event:
            case TrialStarted():
                self._trial(event.trial)
            case TrialReported():
                points = fields.epoch_points(event.evaluated, event.losses)
                self._trial(event.trial).points(points)
            case TrialEnded():
                self._end_trial(event)
            case JobTested():
                self._end_job(event)

    def close(self, status: RunStatus) -> None:
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
            job = self._jobs[trial.job]
            tags = fields.trial_tags(self._facts.id, self._common(), job, trial)
            run = self._runs[trial.key] = create_run(self._store, fields.trial_name(trial), tags, self.owner(trial.job))
        if "status" in run.tags:  # ended before the sweep was interrupted
            return run
        run.reopen()
        run.params(fields.shared_params(self._facts.config) | fields.trial_params(trial))
        return run

    def _end_trial(self, event: TrialEnded) -> None:
        run = self._trial(event.trial)
        seen = [run.tags.get(name) for name in ("status", "epochs", "best_epoch")]
        if seen == [str(value) for value in (event.status, event.epochs, event.best_epoch)]:
            return  # replayed
        self._log_data(run, self._jobs[event.trial.job])
        run.points(fields.end_points(event))
        run.set_tags(fields.end_tags(event))
        if event.bundle is not None:
            run.points(fields.size_points(read_bundle(event.bundle).record))
            if self._keeps(event):
                run.folder(event.bundle, "bundle")
        # Last, so that what was cut off here is recorded again when the event is replayed.
        run.set_tags({"status": event.status})
        run.end("FAILED" if event.status == "failed" else "FINISHED")

    def _keeps(self, event: TrialEnded) -> bool:
        keep = self._store.config.keep_bundles
        return keep == "all" or (keep == "best" and event.status == "done")

    def _end_job(self, event: JobTested) -> None:
        run, trial = self.owner(event.trial.job), self._trial(event.trial)
        keep = self._store.config.keep_bundles
        if keep == "winners" or (keep == "best" and trial.tags.get("status") != "done"):
            trial.folder(event.bundle, "bundle")
        trial.set_tags({"winner": "true"})
        run.params(fields.trial_params(event.trial))
        run.points(fields.test_points(event))
        run.points(fields.size_points(read_bundle(event.bundle).record))
        run.table("test_predictions.json", event.predictions)
        run.set_tags({"status": "done", "best_trial": event.trial.key, "best_run_id": trial.id})

    def _log_data(self, run: Run, job: Job) -> None:
        data = job.dataset
        all_splits = (data.train, data.validation, data.test)
        splits = {split.name: (split.fingerprint, len(split.rows)) for split in all_splits}
        run.datasets(job.name, data.source, splits)

    def _common(self) -> dict[str, str]:
        facts = self._facts
        return fields.common_tags(facts.checkpoint, facts.seed, facts.git_commit, facts.versions)

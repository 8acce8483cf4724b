"""One trial on a resident base, with a folder of its own from which it goes on after any interruption.

The folder holds the last two of `snapshot-<number>.pt` (weights, optimiser, generators, position and the reports so
far) and `bundle-<epoch>/` (the best adapter so far). A trial that is opened again replays the reports it has and
trains only what is left, so that a resumed sweep sees what an undisturbed one sees. Where the last snapshot is damaged
the one before is taken.
"""

import hashlib
import io
import logging
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pipeline.config import MethodConfig, signed
from pipeline.core.adapters.anatomy import settled
from pipeline.core.adapters.checkpoint import Checkpoint, num_parameters
from pipeline.core.adapters.sites import Sites
from pipeline.core.engine.assemble import (
    bundle_model,
    fresh_candidate,
    fresh_model,
    load_trained,
    release,
    trained,
    warm_start,
)
from pipeline.core.engine.bundle import BundleRecord, read_bundle, write_bundle
from pipeline.core.engine.evaluate import answer, validate
from pipeline.core.engine.events import (
    Diverged,
    EpochSaved,
    Evaluated,
    Event,
    JobTested,
    Losses,
    SessionEvent,
    SnapshotSaved,
    StepDone,
)
from pipeline.core.engine.loop import Training, fit
from pipeline.core.engine.prefix import Prefix
from pipeline.core.engine.still import as_answered, hold_still
from pipeline.core.engine.trials import Job, Trial
from pipeline.core.engine.workers import ALONE, Workers
from pipeline.core.tasks.scores import Scores
from pipeline.core.tasks.task import Encoded
from pipeline.errors import BundleError, TrainingDiverged
from pipeline.files import make_folder, new_file

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

_SNAPSHOT_EVERY_S = 60.0  # within an epoch; each epoch ends with one
_SNAPSHOTS = 2  # kept, should the last one be damaged
_MOST_LOSSES = 50  # an epoch, for the curve in the tracking store


class Session:
    """A trial that is being trained on a base which nothing else uses meanwhile."""

    def __init__(
        self,
        base: "PreTrainedModel",
        checkpoint: Checkpoint,
        pad_token_id: int,
        job: Job,
        trial: Trial,
        folder: Path,
        workers: Workers = ALONE,
        *,
        sites: Sites | None = None,
        prefix: Prefix | None = None,
    ) -> None:
        """Make a fresh adapter and head, or those of the folder's snapshot.

        Args:
            base: The frozen base, without adapters; `close` gives it back.
            checkpoint: What the base was made from.
            folder: The trial's own; made if it is not there.
            workers: All those that train the trial together, each with a session; the first one alone writes.
            sites: Those of the base, if they were looked up before.
            prefix: Keeps what lies below the adapter. None: it is computed at every step.
        """
        self.base, self.checkpoint, self.pad_token_id = base, checkpoint, pad_token_id
        self.job, self.trial, self.folder, self.workers = job, trial, folder, workers
        self.prefix = prefix
        make_folder(folder)
        settings = trial.settings
        sites = sites or Sites(base)
        self.model = fresh_candidate(sites, checkpoint, job.task, settings.method, settings.engine, trial.seed)
        if job.start is not None:
            warm_start(self.model, settings.method, job.start, job.task.labels)
        self._num_trained = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        after_step = hold_still(self.model, job.task.fresh, job.task.labels) if job.start and job.start.still else None
        num_examples = len(job.encoded["train"].examples)
        self.training = Training(self.model, num_examples, settings.engine, trial.seed, workers)
        if after_step is not None:
            self.training.optimizer.register_step_post_hook(after_step)
        self._reports: list[tuple[Evaluated, Losses]] = []
        self._losses: list[tuple[int, float, float]] = []
        self._best_epochs: dict[int, int] = {}
        """Number of a snapshot -> epoch of the bundle that it points to."""
        self._known, self._saved_s = 0, time.monotonic()
        self._restore()

    @property
    def bundle(self) -> Path | None:
        """Folder of the best adapter so far."""
        epoch = self.training.best_epoch
        return self.folder / f"bundle-{epoch}" if epoch else None

    def events(self, start: int = 0) -> Iterator[SessionEvent]:
        """Train to the end; the epochs that the folder has already are told, and not trained again.

        Args:
            start: Epochs that the caller has seen and does not want to be told again.

        Yields:
            What `fit` yields; nothing of an epoch is written before `Evaluated` was taken in. After that `EpochSaved`,
            and now and then within an epoch `SnapshotSaved`.

        Raises:
            TrainingDiverged: The loss is infinite or not a number.
        """
        for _, event in train_together([self], [start]):
            if isinstance(event, Diverged):
                raise TrainingDiverged(event.reason)
            yield event

    def replayed(self, start: int) -> Iterator[EpochSaved]:
        """Tell the epochs that the folder had when it was opened, but for the first `start`."""
        self._known, self._saved_s = len(self._reports), time.monotonic()
        yield from (self._told(number) for number in range(start, self._known))

    def taken_in(self, event: Event, start: int) -> Iterator[SessionEvent]:
        """Tell an event of the training, write what follows from it, and tell that."""
        if isinstance(event, StepDone):
            self._losses.append((event.step, event.loss, event.learning_rate))
        yield event
        is_due = self.workers.rank == 0 and time.monotonic() - self._saved_s > _SNAPSHOT_EVERY_S
        if isinstance(event, StepDone) and is_due:
            self.save()
            yield SnapshotSaved()
            self._saved_s = time.monotonic()
        elif isinstance(event, Evaluated):
            self._end_epoch(event)
            self._saved_s = time.monotonic()
            if event.epoch > start:
                yield self._told(-1)

    def save(self) -> None:
        """Write a snapshot, atomically, and remove what none of the last ones needs."""
        state = {
            "trained": trained(self.model, self.trial.settings.method),
            "training": self.training.state_dict(),
            "reports": [(asdict(evaluated), losses) for evaluated, losses in self._reports],
            "losses": self._losses,
        }
        number = max(self._snapshots(), default=0) + 1
        with new_file(self.folder / f"snapshot-{number}.pt") as draft:
            write_snapshot(draft, state)
        self._best_epochs[number] = self.training.best_epoch
        for old, before in sorted(self._snapshots().items())[:-_SNAPSHOTS]:
            before.unlink()
            self._best_epochs.pop(old, None)
        needed = {f"bundle-{epoch}" for epoch in self._best_epochs.values()}
        for bundle in self.folder.glob("bundle-*"):
            if bundle.name not in needed:
                shutil.rmtree(bundle)

    def close(self) -> None:
        """Give the base back as it was."""
        release(self.model, self.trial.settings.method)

    def entered(self) -> Mapping[str, Encoded]:
        """The job's rows, with what lies below the adapter where that is kept.

        What is not known of it is computed first, if an epoch is left; that is part of the epoch.
        """
        settings, names = self.trial.settings, ("train", "validation")
        if self.prefix is None or self.training.epoch > settings.engine.epochs:
            return self.job.encoded
        began, parts = time.perf_counter(), [self.job.encoded[name] for name in names]
        pooled = self.job.task.pooled
        known = self.prefix.known(self.model, settings.method, settings.engine, parts, pooled=pooled)
        if known is None:
            return self.job.encoded
        self.training.train_s += time.perf_counter() - began
        return dict(zip(names, known, strict=True))

    def _restore(self) -> None:
        number, state = self._newest()
        if state is None:
            return
        load_trained(self.model, self.trial.settings.method, state["trained"])
        self.training.load_state_dict(state["training"])
        self._reports = [(Evaluated(**evaluated), losses) for evaluated, losses in state["reports"]]
        self._losses = list(state["losses"])
        self._best_epochs = {number: self.training.best_epoch}
        log.info("%s goes on after %d epochs", self.trial.key, len(self._reports))

    def _told(self, number: int) -> EpochSaved:
        evaluated, losses = self._reports[number]
        went_on = evaluated.epoch < self._known
        return EpochSaved(evaluated=evaluated, losses=losses, bundle=self.bundle, went_on=went_on)

    def _end_epoch(self, evaluated: Evaluated) -> None:
        chosen = np.linspace(0, len(self._losses) - 1, min(_MOST_LOSSES, len(self._losses)), dtype=int)
        self._reports.append((evaluated, tuple(self._losses[i] for i in chosen)))
        self._losses = []
        if self.workers.rank == 0:
            if evaluated.best:
                self._write_bundle(evaluated)
            self.save()

    def _write_bundle(self, evaluated: Evaluated) -> None:
        settings = self.trial.settings
        record = BundleRecord(
            job=self.job.name,
            task=self.job.task.config,
            labels=list(self.job.task.labels),
            method=settled(settings.method, self.checkpoint.model_type),
            engine=settings.engine,
            rate=self.job.start.rate if self.job.start else 1.0,
            cold_epochs=self.job.start.cold_epochs if self.job.start else settings.engine.epochs,
            searched=self.job.searched,
            checkpoint=self.checkpoint.config,
            checkpoint_sha256=self.checkpoint.sha256,
            checkpoint_reading=self.checkpoint.reading,
            seed=self.trial.seed,
            epoch=evaluated.epoch,
            validation=evaluated.metrics,
            data=self.job.dataset.fingerprints,
            cut=self.job.dataset.cut,
            num_trained=self._num_trained,
            num_checkpoint=num_parameters(self.base),
        )
        folder = self.folder / f"bundle-{evaluated.epoch}"
        shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed before its snapshot
        write_bundle(folder, record, as_answered(self.model, trained(self.model, settings.method)))

    def _newest(self) -> tuple[int, dict[str, Any] | None]:
        """Read the last snapshot that is not damaged and has its bundle; remove those that are or have not."""
        for number, file in sorted(self._snapshots().items(), reverse=True):
            state = read_snapshot(file)
            if state is not None and self._has_bundle(state):
                return number, state
            log.warning("%s: %s, or its bundle, is damaged: the one before it is taken", self.trial.key, file)
            file.unlink()
        return 0, None

    def _has_bundle(self, state: dict[str, Any]) -> bool:
        """Whether the best adapter that a snapshot points to is there: later epochs may not write another one."""
        best = state["training"]["position"]["best_epoch"]
        try:
            return not best or bool(read_bundle(self.folder / f"bundle-{best}"))
        except BundleError:
            return False

    def _snapshots(self) -> dict[int, Path]:
        """Those that are there, by number."""
        return {int(file.stem.partition("-")[2]): file for file in self.folder.glob("snapshot-*.pt")}


def train_together(sessions: Sequence[Session], starts: Sequence[int]) -> Iterator[tuple[int, SessionEvent | Diverged]]:
    """Train candidates of one job on one base, those at the same step together.

    Args:
        sessions: One of any method, or several whose settings `pipeline.rules.packs` lets be trained together.
        starts: Of each the epochs that the caller has seen and does not want to be told again.

    Yields:
        With the number of the session, what `Session.events` does; or `Diverged`, after which the others go on.
    """
    job, pad_token_id, workers = sessions[0].job, sessions[0].pad_token_id, sessions[0].workers

    def evaluate(numbers: Sequence[int]) -> list[Scores]:
        models = [sessions[number].model for number in numbers]
        rows, config = job.dataset.validation.rows, sessions[0].trial.settings.engine
        return validate(models, job.task, rows, encoded["validation"], config, pad_token_id, workers)

    for number, (session, start) in enumerate(zip(sessions, starts, strict=True)):
        yield from ((number, told) for told in session.replayed(start))
    # What lies below the adapters of several is computed once a batch for all of them.
    encoded = sessions[0].entered() if len(sessions) == 1 else job.encoded
    trainings = [session.training for session in sessions]
    for number, event in fit(trainings, job.task, encoded["train"], pad_token_id, evaluate):
        if isinstance(event, Diverged):
            yield number, event
        else:
            yield from ((number, told) for told in sessions[number].taken_in(event, starts[number]))


def write_snapshot(file: Path, state: dict[str, Any]) -> None:
    """Write a training state, behind the sha256 of its bytes."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    with file.open("wb") as stream:
        stream.write(hashlib.sha256(content).digest())
        stream.write(content)


def read_snapshot(file: Path) -> dict[str, Any] | None:
    """Read what `write_snapshot` wrote, or return None if not every byte is as it was."""
    content = file.read_bytes()
    size = hashlib.sha256().digest_size
    if hashlib.sha256(content[size:]).digest() != content[:size]:
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(content[size:]), map_location="cpu", weights_only=True)
    return state


def test(
    base: "PreTrainedModel",
    checkpoint: Checkpoint,
    pad_token_id: int,
    job: Job,
    trial: Trial,
    folder: Path,
    workers: Workers = ALONE,
) -> JobTested:
    """Score the winner of a job on its test rows: the one time that they are touched.

    Args:
        base: The frozen base, without adapters; given back as it was.
        trial: The winner.
        folder: The winner's bundle.
        workers: Share the rows among them.
    """
    bundle = read_bundle(folder)
    model, _ = bundle_model(base, checkpoint, bundle)
    rows, encoded = job.dataset.test.rows, job.encoded["test"]
    try:
        answers = answer(model, job.task, rows, encoded, trial.settings.engine, pad_token_id, workers)
    finally:
        release(model, bundle.record.method)
    scores = job.task.score(rows, answers)
    untrained = _untrained(base, checkpoint, pad_token_id, job, trial, workers) if job.task.answers_untrained else 0.0
    is_higher = untrained > scores.baseline
    return JobTested(
        trial=trial,
        bundle=folder,
        validation=signed(job.task.config.primary, bundle.record.validation[job.task.config.primary]),
        scores=scores.metrics,
        primary=scores.primary,
        low=scores.low,
        high=scores.high,
        baseline=untrained if is_higher else scores.baseline,
        chance=scores.baseline if is_higher else None,
        predictions=tuple(
            {"origin": row.origin, "digest": row.digest, **row.fields, "predicted": given}
            for row, given in zip(rows, answers, strict=True)
        ),
        num_truncated=encoded.num_truncated,
        num_trained=bundle.record.num_trained,
    )


def _untrained(
    base: "PreTrainedModel", checkpoint: Checkpoint, pad_token_id: int, job: Job, trial: Trial, workers: Workers
) -> float:
    """Score the checkpoint as it is on the test rows, with a fresh head where it needs one."""
    engine, probe = trial.settings.engine, MethodConfig(name="probe")
    model = fresh_model(base, checkpoint, job.task, probe, engine, trial.seed)
    try:
        rows = job.dataset.test.rows
        return job.task.score(
            rows, answer(model, job.task, rows, job.encoded["test"], engine, pad_token_id, workers)
        ).primary
    finally:
        release(model, probe)

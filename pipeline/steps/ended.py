"""Jobs of a search that have a tested winner, kept in its folder: who goes on with the search trains them no more.

A trial that the time budget or ASHA has cut short could train on, and another winner be tested beside the first one.
"""

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipeline.core.engine.events import JobTested, Sink, SweepEvent, TrialEnded, TrialReported
from pipeline.core.engine.trials import Job
from pipeline.errors import SweepError
from pipeline.files import make_folder, new_file
from pipeline.rules.race import Outcome
from pipeline.tracking.spool import Told, decode, encode

_log = logging.getLogger(__name__)


def search_rest(
    run: Callable[[Sequence[Job], Sink], Outcome], jobs: Sequence[Job], folder: Path, sink: Sink
) -> Outcome:
    """Tell what is known of the jobs that have ended, and search the others.

    Args:
        run: Searches jobs, and tells a sink.
        jobs: Those that have ended, and the others.
        folder: The search's own.
        sink: Is told of all jobs, of those that have ended first.

    Returns:
        The outcome of all, the winners in the order of the jobs.

    Raises:
        SweepError: Nothing can be written to the folder.
    """
    before, told = _read(folder, jobs), dict[str, list[SweepEvent]]()

    def keeping(event: SweepEvent) -> None:
        known = told.setdefault(event.trial.job, [])
        if isinstance(event, TrialReported | TrialEnded | JobTested):
            known.append(event)
        if isinstance(event, JobTested):
            try:
                _keep(folder, known)  # before anybody else knows
            except OSError as error:
                where = error.filename or folder
                raise SweepError(f"Nothing can be written any more ({error.strerror}: {where})") from error
        sink(event)

    for events in before.values():
        for event in events:
            sink(event)
    left = [job for job in jobs if job.name not in before]
    outcome = run(left, keeping) if left else Outcome(winners=(), missing={})
    ended = [event for events in before.values() if isinstance(event := events[-1], JobTested)]
    winners = {winner.trial.job: winner for winner in [*ended, *outcome.winners]}
    return dataclasses.replace(outcome, winners=[winners[job.name] for job in jobs if job.name in winners])


def _keep(folder: Path, events: Sequence[SweepEvent]) -> None:
    """Write down all that was told of a job, the test of its winner last; an OSError where nothing can be written."""
    file = _file(folder, events[-1].trial.job)
    make_folder(file.parent)
    with new_file(file) as draft:
        draft.write_text("".join(f"{encode(Told(event=event, at_ms=0))}\n" for event in events), "utf-8")


def _read(folder: Path, jobs: Sequence[Job]) -> Mapping[str, Sequence[SweepEvent]]:
    """Job -> what was told of it, of those that have ended; one whose winner is gone from the disk has not."""
    found = {}
    for job in jobs:
        file = _file(folder, job.name)
        if not file.is_file():
            continue
        try:
            records = [decode(line) for line in file.read_text("utf-8").splitlines()]
        except (ValueError, LookupError, TypeError, OSError) as error:
            _log.warning("%s cannot be read, and its job is searched again: %s", file, error)
            continue
        events = [record.event for record in records if isinstance(record, Told)]
        if events and isinstance(tested := events[-1], JobTested) and tested.bundle.is_dir():
            found[job.name] = events
    return found


def _file(folder: Path, job: str) -> Path:
    return folder / "ended" / f"{job.replace('/', '.')}.jsonl"

"""The recorder of a search; of a sweep it is opened while the first trials run, since MLflow takes seconds to load."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, final

from rich.console import Console

from pipeline.config import SweepConfig, recorded
from pipeline.core.engine.events import SweepEvent
from pipeline.core.engine.trials import Job
from pipeline.errors import PipelineError
from pipeline.steps.prepare import Prepared
from pipeline.steps.workspace import Workspace, git_commit, package_versions
from pipeline.tracking.store import Store, open_store

if TYPE_CHECKING:
    from pipeline.tracking.recorder import SweepRecorder


def open_recorder(
    config: SweepConfig, prepared: Prepared, jobs: Sequence[Job], workspace: Workspace, store: Store, console: Console
) -> "SweepRecorder":
    """Record the jobs under the id of the workspace; what the user has to know of the store is shown."""
    from pipeline.tracking.recorder import SweepFacts, SweepRecorder

    facts = SweepFacts(
        id=workspace.id,
        jobs=jobs,
        checkpoint=prepared.checkpoint,
        config=recorded(config),
        seed=config.seed,
        git_commit=git_commit(),
        versions=package_versions(),
    )
    tell = partial(console.print, style="yellow", soft_wrap=True)
    return SweepRecorder(store, facts, workspace.folder, tell=tell)


@final
class Recording:
    """Sink that keeps the events of a sweep until its recorder is open, and then hands them on.

    Should the process be killed before, a sweep that is resumed tells them anew.
    """

    def __init__(self, opening: "Future[tuple[Store, SweepRecorder]]") -> None:
        self._opening = opening
        self._early: list[tuple[SweepEvent, int]] = []
        """Events, and when they were told, in milliseconds since 1970."""

    def __call__(self, event: SweepEvent) -> None:
        """Take in an event; what went wrong with the store is raised here, as by the recorder itself."""
        self._early.append((event, int(time.time() * 1000)))
        if self._opening.done():
            self.opened()

    def opened(self) -> "tuple[Store, SweepRecorder]":
        """Wait for the store and the recorder, which then has been told all events.

        Raises:
            UserError, TrackingError: The store cannot be used, or not by this sweep.
        """
        store, recorder = self._opening.result()
        while self._early:
            recorder(*self._early[0])
            self._early.pop(0)
        return store, recorder


@contextmanager
def recording(config: SweepConfig, prepared: Prepared, workspace: Workspace, console: Console) -> Iterator[Recording]:
    """Open the tracking store and the recorder in a thread; whatever ends the sweep, the recorder is closed."""

    def open_both() -> "tuple[Store, SweepRecorder]":
        store = open_store(config.tracking)
        from pipeline.tracking.registry import check_owners

        check_owners(store, {job.registered_name: job.dataset.task for job in prepared.jobs})
        recorder = open_recorder(config, prepared, prepared.jobs, workspace, store, console)
        import pipeline.steps.conclude  # noqa: F401 (what draws takes a second to load too)

        return store, recorder

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="opening") as pool, ExitStack() as ends:
        opening = pool.submit(open_both)

        def end(kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
            try:
                _, recorder = opening.result()
            except PipelineError:
                if error is None:
                    raise
                return  # the error that ended the sweep matters more, or is this one
            recorder.__exit__(kind, error, trace)

        ends.push(end)
        yield Recording(opening)

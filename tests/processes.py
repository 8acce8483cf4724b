"""Other processes for tests: forked from one that has imported what a sweep needs, which takes seconds, and no more."""

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import chdir
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import TypeVar
from unittest import mock

ROOT = Path(__file__).parents[1]
SWEEP = [
    f"pipeline.{name}"
    for name in ("steps.train", "steps.here", "steps.prepare", "steps.conclude", "steps.workspace", "steps.survey")
]
T = TypeVar("T")


def forked() -> ForkServerContext:
    """What makes such processes; the one that they are forked from is started once in a test process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*SWEEP, "pipeline.tracking.store", "transformers.modeling_utils"])
    with chdir(ROOT), mock.patch.dict(os.environ, {"PYTHONPATH": str(ROOT)}):
        forkserver.ensure_running()
    return context


def elsewhere(called: Callable[..., T], *arguments: object) -> T:
    """Call a function of a module in another process."""
    with ProcessPoolExecutor(1, mp_context=forked()) as pool:
        return pool.submit(called, *arguments).result()


def one_dies(threads: int, barrier: Barrier, connection: Connection) -> None:
    """One of two processes dies, and the other waits for it (in place of `pipeline.steps.measure._work`)."""
    connection.recv_bytes()
    if barrier.wait() == 0:
        os._exit(1)
    barrier.wait()

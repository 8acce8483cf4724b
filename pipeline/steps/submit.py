"""A command is sent to the head node of a Ray cluster, its log followed here, and stopped there on Ctrl-C."""

import os
import re
import secrets
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.commands import SubmitConfig
from pipeline.config.overrides import CONF
from pipeline.steps.ship import rewrite

if TYPE_CHECKING:
    from pipeline.cluster.head import Head

ROOT = CONF.parent


def submit(own: SubmitConfig, given: Sequence[str]) -> None:
    """Check, ship, submit and follow; leave with the exit code of the command."""
    words, folders, files, runs = rewrite(own, given)

    if any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        # Ray reads it when it is imported, and sends no token without it.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    from pipeline.cluster import head as cluster  # here: a bad config is refused before Ray is loaded

    job = f"{own.command}-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    log = Log()
    head = cluster.Head(own.address, job, log.show, log.note)
    install = own.environment == "constraints"
    if install:
        head.require_ray(cluster.pinned_ray(ROOT))
    with tempfile.TemporaryDirectory(prefix="submit-") as temporary:
        package = Path(temporary) / "package.zip"
        size = cluster.pack(package, ROOT, files, folders)
        log.note(f"Shipping {size / 1e6:,.1f} MB: {', '.join(['the code', *map(str, folders.values())])}")
        described = cluster.environment(ROOT, package, install=install)
        try:
            head.submit(cluster.entrypoint(own.command, words, runs=runs), described)
            log.note(f"Submitted {job} to {head.address}; Ctrl-C stops it. From elsewhere:")
            log.note(f"  ray job logs --follow --address {head.address} {job}")
            log.note(f"  ray job stop --address {head.address} {job}")
            ended = head.follow()
        except KeyboardInterrupt:
            stop(head, job, log)
            raise
    if code := ended.exit_code:
        log.note(f"{job} {'was stopped' if ended.status == 'STOPPED' else f'failed, exit code {code}'}.{log.how_on()}")
        sys.exit(code)


def stop(head: "Head", job: str, log: "Log") -> None:
    """Stop the job and wait until it has, or until Ctrl-C comes again."""
    log.note(f"\nStopping {job} ... (Ctrl-C again leaves it to that)")
    try:
        if head.stop():
            head.follow()
            log.note(f"Stopped.{log.how_on()}")
    except KeyboardInterrupt:
        log.note(f"Left while {job} was stopping.{log.how_on()}")


class Log:
    """What is shown: the job's log on standard output, what is said about it on standard error."""

    def __init__(self) -> None:
        self._line = ""
        self._sweep: str | None = None

    def show(self, text: str) -> None:
        """Show a piece of the log."""
        sys.stdout.write(text)
        sys.stdout.flush()
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            if found := re.match(r"(?:Sweep|Comparison) (\d{8}-\d{6}-\w+), log of the libraries", line):
                self._sweep = found.group(1)

    def note(self, text: str) -> None:
        """Say something about the job."""
        print(text, file=sys.stderr, flush=True)

    def how_on(self) -> str:
        """How the sweep that the log told of can be gone on with."""
        return f" Go on with the same command and RESUME={self._sweep}" if self._sweep else ""

"""`make submit`: a command on a Ray cluster; its log is followed here, and its exit code returned.

Everything is checked before anything is sent. Exit codes: those of the command; 2 not submitted, 130 stopped.
"""

import dataclasses
import os
import re
import secrets
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from runpy import run_module
from typing import TYPE_CHECKING

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from rich.console import Console

from pipeline.config import SweepConfig
from pipeline.config.commands import SubmitConfig, quoted
from pipeline.config.overrides import CONF, read_command
from pipeline.core.data.load import resolve
from pipeline.errors import ConfigError, Fault, Faults

if TYPE_CHECKING:
    from pipeline.cluster.head import Head

ROOT = CONF.parent


def main(own: SubmitConfig, given: Sequence[str], console: Console) -> None:
    """Check, ship, submit and follow; leave with the exit code of the command."""
    words, folders, runs = prepare(own, given)

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
        size = cluster.pack(package, ROOT, folders)
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


def prepare(own: SubmitConfig, given: Sequence[str]) -> tuple[list[str], dict[str, Path], str | None]:
    """Check what the command is given as it would itself, and rewrite it for the head node.

    Returns:
        Its overrides there; name in the shipped folder -> folder here; the folder for the sweep's own files.

    Raises:
        UserError: Something that the command would refuse, or that does not work from afar.
    """
    if own.command == "status":
        (config,) = read_command("status", given)
        check_tracking(config.tracking.uri)
        words, folders = shipped(None, given, own.ship)
        return words, folders, None
    arguments = list(given)
    if not names(arguments, "cluster"):
        arguments.append("cluster=existing")
    (config,) = read_command(own.command, arguments)
    faults = Faults()
    with faults.gathered():
        if not config.dryrun:
            check_tracking(config.tracking.uri)
    with faults.gathered():
        if own.ship and (config.tasks or config.resume is None):
            resolve(config.tasks, config.task, config.data)
    runs = own.runs
    if names(arguments, "runs"):  # as `Go on with: ...` says on the head
        with faults.gathered():
            runs = read_command("submit", [f"submit.runs={quoted(config.runs)}"])[0].runs
    faults.raise_any()
    words, folders = shipped(config, arguments, own.ship)
    return words, folders, runs


def shipped(config: SweepConfig | None, given: Sequence[str], ship: bool) -> tuple[list[str], dict[str, Path]]:
    """Rewrite the overrides that name folders here to their places in the shipped folder; `runs` goes its own way."""
    words, folders = [], {}
    dropped = {"runs"}
    replaced: list[str] = []
    if ship and config is not None and config.data.source not in ("starter", "hub"):
        folders["shipped/data"] = Path(config.data.source).expanduser().resolve()
        dropped |= {"data.source"} | ({"data"} if Path(chosen(given, "data")).expanduser().is_dir() else set())
        replaced.append(f"data.source={quoted('shipped/data')}")
    if ship and config is not None and config.checkpoint.source == "path":
        folders["shipped/checkpoint"] = Path(config.checkpoint.location).expanduser().resolve()
        dropped |= {"checkpoint"} if Path(chosen(given, "checkpoint")).expanduser().is_dir() else set()
        values = dataclasses.asdict(config.checkpoint) | {"location": "shipped/checkpoint"}
        replaced += [f"checkpoint.{key}={'null' if one is None else quoted(one)}" for key, one in values.items()]
        dropped |= {f"checkpoint.{key}" for key in values}
    for argument, override in zip(given, parsed(given), strict=True):
        key = override.key_or_group
        if key == "conf" and ship:
            folders["shipped/conf"] = Path(str(override.value())).expanduser().resolve()
            words.append(f"conf={quoted('shipped/conf')}")
        elif key not in dropped:
            words.append(argument)
    return [*words, *replaced], folders


def check_tracking(uri: str) -> None:
    """Refuse a store that would go with the job.

    Raises:
        ConfigError: It is a file.
    """
    if uri.startswith("sqlite:"):
        rule = "is a file, which from here would be one of a folder on the head node that goes with the job"
        remedy = "Record on a server that the cluster reaches: ARGS='tracking.uri=http://<server>:5000'"
        raise ConfigError(Fault(where="tracking.uri", value=uri, rule=rule, remedy=remedy))


def names(arguments: Sequence[str], key: str) -> bool:
    """Whether an override of the key is among the arguments, parsable or not."""
    return any(argument.partition("=")[0].lstrip("+") == key for argument in arguments)


def parsed(arguments: Sequence[str]) -> list[Override]:
    """Parse overrides that `read_config` has not refused, one by one."""
    parser = OverridesParser.create()
    return [parser.parse_override(argument) for argument in arguments]


def chosen(arguments: Sequence[str], key: str) -> str:
    """What the last override of a key says, or nothing."""
    values = [str(one.value()) for one in parsed(arguments) if one.key_or_group == key]
    return values[-1] if values else ""


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


if __name__ == "__main__":  # a manifest of before the one door calls this file: one release
    sys.argv.insert(1, "submit")
    run_module("jobs", run_name="__main__", alter_sys=True)

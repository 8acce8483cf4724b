"""The service of the champions: what is registered, a Ray, and the processes on it; started, shown and stopped."""

import functools
import json
import os
import shlex
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any, final

from rich.console import Console
from rich.table import Table as Columns

from pipeline.config import TrackingConfig
from pipeline.config.serve import ServeConfig
from pipeline.config.strict import nearest
from pipeline.errors import ConfigError, fault
from pipeline.reports.console import quiet
from pipeline.serving.bodies import example_of
from pipeline.serving.limits import digest_of
from pipeline.serving.state import Table
from pipeline.serving.table import matches
from pipeline.tracking.aliases import aliases, bundle_of
from pipeline.tracking.lookup import release
from pipeline.tracking.store import Store, open_store

TOKEN = "SERVE_TOKEN"
"""Variable of the environment with the token that clients have to send."""


@final
@dataclass(frozen=True, kw_only=True)
class Registry:
    """Reads the registry in whatever process it is sent to."""

    tracking: TrackingConfig
    """With an address that is the same in any folder."""

    def aliases(self) -> Mapping[str, Mapping[str, int]]:
        """Registered name -> alias -> version."""
        return aliases(_store(self.tracking))

    def bundle(self, name: str, version: int) -> Path:
        """Folder of a version's bundle on this machine."""
        return bundle_of(_store(self.tracking), name, version)

    def release(self, folder: Path) -> None:
        """Say that a bundle is needed no more."""
        release(folder)


_REGISTRY_S = "10"
"""How long the registry may take to answer."""


@functools.cache
def _store(tracking: TrackingConfig) -> Store:
    # A registry that does not answer is asked again soon: a promotion is followed within seconds.
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = _REGISTRY_S
    return open_store(tracking, create=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """What is to be served, looked through."""

    config: ServeConfig
    registry: Registry
    token_digest: str
    log_file: Path


def open_service(config: ServeConfig, console: Console) -> Service:
    """Look whether there is something to serve, and whether the port is free, before anything is started.

    Raises:
        ConfigError: No registered name is meant by TASKS, or the port is taken.
        TrackingError: The store cannot be read.
    """
    token = os.environ.pop(TOKEN, "")  # or each process of Ray would have it
    if token and not token.isprintable():
        raise ConfigError(fault(TOKEN, "", "holds characters that no header can have", "Set another token"))
    store = open_store(config.tracking, create=False)
    known = aliases(store)
    for pattern in config.tasks:
        if not any(matches(name, [pattern]) for name in known):
            remedy = f"Run `make sweep TASKS={pattern}` first" if pattern != "*" else "Run `make sweep` first"
            raise ConfigError(fault("TASKS", pattern, "has no champion yet", f"{remedy}. {nearest(pattern, [*known])}"))
    _require_free(config.serve.host, config.port)
    if config.serve.is_open and not token:
        note = f"Whoever reaches {config.serve.host} can ask: set {TOKEN} in the environment to have them send a token."
        console.print(note, style="yellow", soft_wrap=True)
    folder = Path(config.runs)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        rule, remedy = f"cannot be written ({error.strerror})", "Set runs to a folder that can be written"
        raise ConfigError(fault("runs", config.runs, rule, remedy)) from error
    return Service(
        config=config,
        registry=Registry(tracking=replace(config.tracking, uri=store.uri)),
        token_digest=digest_of(token),
        log_file=folder / f"serve-{datetime.now():%Y%m%d-%H%M%S}.txt",
    )


def _require_free(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        rule, remedy = (
            f"cannot be listened at on {host} ({os.strerror(error.errno or 0)})",
            "Give another one: PORT=8001",
        )
        raise ConfigError(fault("PORT", port, rule, remedy)) from error


@contextmanager
def asked_to_end() -> Iterator[threading.Event]:
    """Yield an event that is set by Ctrl-C or SIGTERM; a second one of them ends the command at once."""
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        if ended.is_set():
            raise KeyboardInterrupt
        ended.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def serving(service: Service, console: Console) -> Iterator[tuple[Table, Console, threading.Event]]:
    """Start the service, and stop it when what is under way is answered.

    Yields:
        Its table of tasks, a console, and what is set when the service is to end.
    """
    from pipeline.cluster.connection import connected, here  # here: a bad setting is told before Ray is loaded
    from pipeline.serving.running import Running

    config = service.config
    console.print(f"Starting, log: {service.log_file}", soft_wrap=True)
    shared = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4  # at most: it is taken as it is needed
    with quiet(service.log_file) as screen:
        begin = time.monotonic()

        def tell(what: str) -> None:
            screen.print(f"{time.monotonic() - begin:4.0f} s  {what}", soft_wrap=True)

        tell("Ray")
        with connected(config.cluster, shared_bytes=shared):
            is_own = config.cluster.name == "local"
            running = Running(
                service.registry,
                config,
                token_digest=service.token_digest,
                reserves=not is_own,
                node="" if is_own else here(),
                tell=tell,
            )
            with running, asked_to_end() as ended:  # behind Ray, which has handlers of signals of its own
                table = running.table(ended)
                if not ended.is_set():
                    tell("ready")
                yield table, screen, ended
                screen.print("Stopping: what is under way is answered, nothing further is taken.")
            screen.print("Stopped.")


def show(service: Service, table: Table, screen: Console) -> None:
    """Show the tasks, and for each kind a line that can be pasted into a shell."""
    columns = Columns("task", "kind", "version", "checkpoint", "state", box=None, pad_edge=False)
    for standing in table.tasks.values():
        one = standing.champion
        version, checkpoint = (str(one.version), one.checkpoint) if one else ("-", "-")
        state = (one.reason or "answers") if one else "has no champion"
        columns.add_row(standing.name, standing.kind, version, checkpoint, state)
    screen.print(columns)
    screen.print("")
    for line in asking(service.config, table, has_token=bool(service.token_digest)):
        screen.print(line, soft_wrap=True)


def asking(config: ServeConfig, table: Table, *, has_token: bool = False) -> Iterator[str]:
    """One line of curl for each kind that is served, and where the rest is told."""
    address = address_of(config)
    served = [one for one in table.tasks.values() if one.champion is not None and not one.champion.reason]
    header = f' -H "Authorization: Bearer ${TOKEN}"' if has_token else ""
    for kind in dict.fromkeys(one.kind for one in served):
        first = next(one for one in served if one.kind == kind)
        body = shlex.quote(json.dumps({"inputs": example_of(first.fields)}))
        yield f"curl {address}/v1/tasks/{first.name}/predict{header} -d {body}"
    yield f"\nAPI: {address}/docs   Tasks: {address}/v1/tasks   Metrics: {address}/metrics   (Ctrl-C stops it)"


def address_of(config: ServeConfig) -> str:
    """Where this machine reaches the service."""
    host = "127.0.0.1" if config.serve.host in ("0.0.0.0", "localhost") else config.serve.host
    return f"http://{f'[{host}]' if ':' in host else host}:{config.port}"


def application(arguments: Mapping[str, list[str]]) -> Any:
    """Make the application, as a RayService of `make manifests` names it; `words` are those behind `make serve`."""
    from pipeline.config.overrides import read_command
    from pipeline.serving.deployments import application_of

    (config,) = read_command("serve", arguments["words"])
    digest = digest_of(os.environ.pop(TOKEN, ""))
    return application_of(Registry(tracking=config.tracking), config.tasks, config.serve, token_digest=digest)

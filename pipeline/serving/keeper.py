"""The keeper: one process that follows the registry, and tells all others what to hold and who answers."""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, final

from pipeline.config import METHOD_TRAITS
from pipeline.config.serve import ServingConfig
from pipeline.core.adapters.checkpoint import Checkpoint, load_checkpoint, open_checkpoint, tensors_of
from pipeline.core.engine.bundle import BundleRecord, read_bundle
from pipeline.core.tasks.kinds import restore
from pipeline.errors import BundleError, CheckpointError, PipelineError, fault
from pipeline.serving.figures import kept, of_table, summed, text
from pipeline.serving.state import Facts, Key, Reader, Report, Table
from pipeline.serving.table import LOADING, matches, table_of, wanted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_log = logging.getLogger(__name__)
_GONE_S = 30.0
"""How long a process that says nothing still counts: its machine may be busy. Who asks it finds out at once."""
_SETTLING = 3
"""Times of `poll_s` that a keeper waits at first, for processes that are there already to say what they hold."""
_AGAIN_S = 30.0
"""How long what could not be opened is left alone before it is tried again."""


@dataclass(frozen=True, kw_only=True)
class Home:
    """A checkpoint as the processes of a deployment are given it."""

    checkpoint: Checkpoint
    tokenizer: "PreTrainedTokenizerBase"
    tensors: Any
    """What `Deployer.share` returned."""


class Deployer(Protocol):
    """Ray Serve as the keeper uses it."""

    def share(self, tensors: Mapping[str, Any]) -> Any:
        """Put tensors where the processes of every node can map them."""

    def start(self, home: str) -> None:
        """Begin to start the deployment of a checkpoint."""

    def stop(self, home: str) -> None:
        """End it."""


@final
class Keeper:
    """Registry, table, and what each process has said last; lives in one event loop, and reads in threads."""

    def __init__(self, reader: Reader, patterns: Collection[str], limits: ServingConfig, deployer: Deployer) -> None:
        """Know nothing yet; `follow` looks."""
        self._reader, self._patterns, self._limits, self._deployer = reader, patterns, limits, deployer
        self._aliases: Mapping[str, Mapping[str, int]] = {}
        self._facts: dict[Key, Facts] = {}
        self._opened: dict[str, Home | PipelineError] = {}
        """Config of a checkpoint, as text -> the checkpoint, or why it cannot be had."""
        self._homes: dict[str, Home] = {}
        self._tried: dict[str, float] = {}
        """When what could not be opened was tried."""
        self._reports: dict[str, tuple[float, Report]] = {}
        self._lost: list[Any] = []
        """Metrics of the processes that are gone."""
        self._lingering: dict[Key, float] = {}
        """Versions that answer no more -> until when they are held for what is under way."""
        self._started: dict[str, float] = {}
        """Deployments that run -> until when they stay, if nothing is to be held there any more."""
        self.table = Table(is_unread=True)
        self._is_draining = False
        self._since: float | None = None
        """When the registry was read first."""
        self._looking = asyncio.Lock()

    async def follow(self) -> None:
        """Look at the registry again and again."""
        while True:
            try:
                await self.look()
            except Exception:
                _log.exception("The registry could not be followed")
            await asyncio.sleep(self._limits.poll_s)

    async def look(self) -> str:
        """Look at the registry now; return why it does not answer, empty where it does."""
        async with self._looking:
            registry = ""
            try:
                aliases = await asyncio.to_thread(self._reader.aliases)
                self._aliases = {name: its for name, its in sorted(aliases.items()) if matches(name, self._patterns)}
                self._since = self._since or time.monotonic()
            except PipelineError as error:
                registry = str(error)
            await self._learn()
            self._publish(registry)
            return registry

    async def settled(self) -> None:
        """Wait until it is known who holds what: until all that is registered is held or refused, or for a while.

        A keeper that was started anew finds processes that hold everything, and must not say that nobody does. Where
        the registry does not answer, that is said.
        """
        while not self._is_whole() and not (self._since is None and self.table.registry):
            if self._since is not None and time.monotonic() > self._since + _SETTLING * self._limits.poll_s:
                return
            await asyncio.sleep(self._limits.poll_s / 10)

    def _is_whole(self) -> bool:
        standings = self.table.tasks.values()
        return bool(standings) and all(one.reason != LOADING for each in standings for one in each.versions)

    def bundle(self, name: str, version: int) -> dict[str, bytes]:
        """The files of a bundle, for a process on whatever node.

        Raises:
            BundleError: They are gone.
        """
        folder = Path(self._facts[name, version].folder)
        try:
            return {file.name: file.read_bytes() for file in folder.iterdir()}
        except OSError as error:
            raise BundleError(fault(folder, "", f"cannot be read ({error.strerror})", "Fetch it again")) from error

    def home(self, name: str) -> Home:
        """A checkpoint, for a process of its deployment."""
        return self._homes[name]

    def of_bank(self, report: Report) -> list[Key]:
        """Take what a process that answers says of itself; return what it shall hold."""
        self._take(report)
        self._publish(self.table.registry)
        return sorted(self._wanted().get(report.home, set()))

    async def of_ingress(self, report: Report) -> Table:
        """Take what an ingress says of itself; return the table, when it is known."""
        await self.settled()
        self._take(report)
        return self.table

    def close(self) -> None:
        """Leave nothing of what was fetched behind."""
        for facts in self._facts.values():
            self._release(facts)

    def _release(self, facts: Facts) -> None:
        if facts.folder:
            self._reader.release(Path(facts.folder))

    async def drain(self) -> None:
        """Let no ingress take further requests, and wait for those that are open."""
        self._is_draining = True
        self._publish(self.table.registry)
        began, until = time.monotonic(), time.monotonic() + self._limits.drain_s
        while time.monotonic() < until:
            ingresses = [(when, one) for when, one in self._reports.values() if not one.home]
            if all(when > began and one.is_draining and not one.num_open for when, one in ingresses):
                return
            await asyncio.sleep(self._limits.poll_s / 10)

    def metrics(self) -> str:
        """The metrics of all processes."""
        self._bury()
        alive = [report for _, report in self._reports.values()]
        replicas = {home: sum(one.home == home for one in alive) for home in self._homes}
        parts: list[Sequence[Any]] = [self._lost, *(one.figures for one in alive)]
        return text([*summed(parts), *of_table(self.table, replicas)])

    def _take(self, report: Report) -> None:
        self._reports[report.replica] = (time.monotonic(), report)
        self._bury()

    def _bury(self) -> None:
        """Leave out processes that say nothing any more; what they counted stays."""
        oldest = time.monotonic() - max(_GONE_S, 5 * self._limits.poll_s)
        for replica, (when, report) in list(self._reports.items()):
            if when < oldest:
                del self._reports[replica]
                self._lost = summed([self._lost, kept(report.figures)])

    def _resident(self) -> dict[str, dict[Key, int]]:
        found: dict[str, dict[Key, int]] = {}
        for _, report in self._reports.values():
            if report.home:
                found.setdefault(report.home, {}).update(report.resident)
        return found

    def _publish(self, registry: str) -> None:
        """Make the table anew, and note which versions it has let go."""
        before = self.table
        facts = dict(self._facts)
        for _, report in self._reports.values():
            for key, reason in report.refused.items():
                if key in facts:
                    facts[key] = dataclasses.replace(facts[key], reason=reason)
        now = table_of(self._aliases, facts, self._resident(), before, registry)
        self.table = dataclasses.replace(now, is_unread=self._since is None, is_draining=self._is_draining)
        at = time.monotonic()
        for key in _answering(before) - _answering(self.table):
            self._lingering[key] = at + self._limits.timeout_s + 2 * self._limits.poll_s

    def _wanted(self) -> dict[str, set[Key]]:
        now = time.monotonic()
        self._lingering = {key: until for key, until in self._lingering.items() if until > now}
        homes = wanted(self._aliases, self._facts, self.table)
        for key in self._lingering:
            if (known := self._facts.get(key)) is not None and known.home:
                homes.setdefault(known.home, set()).add(key)
        return homes

    async def _learn(self) -> None:
        """Read the bundles of versions that are new, and start the deployments that they need."""
        keys = {(name, version) for name, its in self._aliases.items() for version in its.values()}
        now = time.monotonic()
        for key in sorted(keys):
            known = self._facts.get(key)
            if known is None or (known.reason and now - self._tried.get(f"{key}", 0.0) > _AGAIN_S):
                self._tried[f"{key}"] = now
                if known is not None:
                    self._release(known)
                self._facts[key] = await asyncio.to_thread(self._read, *key)
                if home := self._facts[key].home:  # its processes begin to start while the others are read
                    await self._start(home)
        held = keys | _answering(self.table) | set(self._lingering)
        for key in [key for key in self._facts if key not in held]:
            self._release(self._facts.pop(key))
        wanted_now = self._wanted()
        for home in wanted_now:
            await self._start(home)
        for home in [home for home, until in self._started.items() if home not in wanted_now and until < now]:
            del self._started[home]
            await asyncio.to_thread(self._deployer.stop, home)

    async def _start(self, home: str) -> None:
        """Start the deployment of a checkpoint, or let it stay."""
        if home not in self._started:
            await asyncio.to_thread(self._deployer.start, home)
        self._started[home] = time.monotonic() + self._limits.timeout_s

    def _read(self, name: str, version: int) -> Facts:
        try:
            folder = self._reader.bundle(name, version)
            record = read_bundle(folder).record
        except PipelineError as error:
            return Facts(reason=str(error))
        task, restored = record.task, restore(record.task, record.labels)
        facts = Facts(
            kind=task.kind,
            ranks=restored.ranks,
            labels=tuple(restored.names()),
            fields=tuple(name for name in task.field_names if name != task.target),
            checkpoint=record.checkpoint.name,
            folder=str(folder),
        )
        try:
            if not METHOD_TRAITS[record.method.name].shares_base:
                rule, remedy = "is a whole copy of its checkpoint, not an adapter", "Ask it with make predict"
                raise BundleError(fault("method", record.method.name, rule, f"{remedy}, or train an adapter"))
            return dataclasses.replace(facts, home=self._home_of(record))
        except PipelineError as error:
            return dataclasses.replace(facts, reason=str(error))

    def _home_of(self, record: BundleRecord) -> str:
        """The deployment for a bundle's checkpoint, which is opened where it was not yet.

        Raises:
            CheckpointError: It is not there, or not the one that the bundle was trained on.
        """
        config = dataclasses.replace(record.checkpoint, pooling="auto")  # of a bundle's own
        where = repr(config)
        found = self._opened.get(where)
        if found is None or (
            isinstance(found, PipelineError) and time.monotonic() - self._tried.get(where, 0.0) > _AGAIN_S
        ):
            self._tried[where] = time.monotonic()
            try:
                resident = load_checkpoint(open_checkpoint(config))
                found = Home(
                    checkpoint=resident.checkpoint,
                    tokenizer=resident.tokenizer,
                    tensors=self._deployer.share(tensors_of(resident.base)),
                )
            except PipelineError as error:
                found = error
            self._opened[where] = found
        if isinstance(found, PipelineError):
            raise found
        checkpoint = found.checkpoint
        if record.checkpoint_sha256 != checkpoint.sha256:
            rule = f"has the weights {checkpoint.sha256[:16]}, and it was trained on {record.checkpoint_sha256[:16]}"
            raise CheckpointError(fault(config.name, config.location, rule, "Put those of the training there again"))
        home = f"bank-{checkpoint.sha256[:12]}-{checkpoint.reading[:8]}"
        self._homes.setdefault(home, found)
        return home


def _answering(table: Table) -> set[Key]:
    return {
        (name, one.version) for name, standing in table.tasks.items() for one in standing.versions if not one.reason
    }

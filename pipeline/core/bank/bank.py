"""The bank: any number of adapters beside one resident checkpoint, answering rows of any of them together."""

import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from pipeline.core.adapters.checkpoint import Resident
from pipeline.core.bank.adapter import Adapter
from pipeline.core.bank.trunk import Trunk
from pipeline.core.data.rows import Row
from pipeline.core.engine.bundle import Bundle
from pipeline.core.tasks.task import Answer, Encoded, Task
from pipeline.errors import BundleError, NotResident, fault

Key = tuple[str, str]
"""Name and version."""


@final
@dataclass(frozen=True, slots=True)
class Ask:
    """A row that an adapter is asked about."""

    name: str
    row: Row
    version: str = ""
    """Empty: the one that was admitted last by that name."""
    encoded: Encoded | None = None
    """The row, alone, as the adapter's task has encoded it already. None: it is encoded when its batch is computed."""


@final
@dataclass(frozen=True, slots=True)
class Answered:
    """What was answered."""

    version: str
    """Which one answered."""
    answer: Answer
    """Plain data, which goes into JSON as it is."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    version: str
    adapter: Adapter
    pinned: bool


@final
class Bank:
    """Adapters by name and version. Any thread may call; batches are computed one after another.

    A batch that has begun keeps its adapters, whatever is dropped or admitted meanwhile, and answers name the version
    that the batch began with.
    """

    def __init__(self, resident: Resident, *, budget: int | None = None) -> None:
        """Begin without adapters.

        Args:
            resident: The checkpoint; its base is as it was between two batches, and may be used by others who hold its
                lock.
            budget: Bytes that adapters may take together. None: nothing is ever evicted.
        """
        self.resident = resident
        self.budget = budget
        self.evictions = 0
        """How many adapters had to make room for others."""
        self._trunk = Trunk(resident)
        self._lock = threading.Lock()
        """Held for moments, never while something is read or computed."""
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        """The one that was used last stands last."""
        self._versions: dict[str, dict[str, None]] = {}
        """Name -> its versions, in the order of their admission."""
        self._running: Counter[Key] = Counter()
        """In how many calls each is asked at the moment."""
        self._num_bytes = 0

    def admit(self, name: str, version: str, bundle: Bundle, *, pinned: bool = False) -> None:
        """Make a bundle resident; one that is there by the same name and version is replaced.

        Args:
            name: Of the task.
            version: What answers are to name.
            pinned: It is never evicted.

        Raises:
            BundleError: It was trained on another checkpoint, is damaged, is none that shares a checkpoint, or has no
                room beside those that are pinned or asked at the moment. All others stay.
        """
        adapter = self._trunk.adapter(bundle)
        with self._lock:
            self._make_room((name, version), adapter)
            self._forget((name, version))
            self._entries[name, version] = _Entry(version, adapter, pinned)
            self._versions.setdefault(name, {})[version] = None
            self._num_bytes += adapter.num_bytes

    def drop(self, name: str, version: str) -> None:
        """Forget an adapter; a batch that has begun with it goes on.

        Raises:
            NotResident: It is not there.
        """
        with self._lock:
            self._entry(name, version)
            self._forget((name, version))

    def task(self, name: str, version: str = "") -> Task:
        """The task of an adapter, which parses items into rows.

        Raises:
            NotResident: It is not there.
        """
        with self._lock:
            return self._entry(name, version).adapter.task

    def sizes(self) -> Mapping[Key, int]:
        """The bytes of each resident adapter."""
        with self._lock:
            return {key: entry.adapter.num_bytes for key, entry in self._entries.items()}

    def answer(self, asks: Sequence[Ask]) -> list[Answered]:
        """Answer rows of any adapters together, in the order in which they are asked; targets are not looked at.

        Raises:
            NotResident: One of the adapters is not there; nothing was answered.
        """
        with self._lock:
            entries = [self._entry(ask.name, ask.version) for ask in asks]
            keys = {(ask.name, entry.version) for ask, entry in zip(asks, entries, strict=True)}
            self._running.update(keys)
            for key in keys:
                self._entries.move_to_end(key)
        try:
            asked = [(entry.adapter, ask.row) for ask, entry in zip(asks, entries, strict=True)]
            answers = self._trunk.answer(asked, [ask.encoded for ask in asks])
        finally:
            with self._lock:
                self._running.subtract(keys)
                self._running = +self._running
        return [Answered(entry.version, answer) for entry, answer in zip(entries, answers, strict=True)]

    def _entry(self, name: str, version: str) -> _Entry:
        versions = self._versions.get(name)
        if not versions:
            raise NotResident(f"no adapter {name!r} is resident")
        entry = self._entries.get((name, version or next(reversed(versions))))
        if entry is None:
            raise NotResident(f"version {version} of {name!r} is not resident; resident: {', '.join(versions)}")
        return entry

    def _forget(self, key: Key) -> None:
        """Take an adapter out, if it is there."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._num_bytes -= entry.adapter.num_bytes
            name, version = key
            del self._versions[name][version]
            if not self._versions[name]:
                del self._versions[name]

    def _make_room(self, key: Key, adapter: Adapter) -> None:
        """Evict those that were not used for the longest time until one more, in the place of its namesake, has room.

        Raises:
            BundleError: It has none; nothing was evicted.
        """
        if self.budget is None:
            return
        namesake = self._entries.get(key)
        excess = self._num_bytes + adapter.num_bytes - self.budget - (namesake.adapter.num_bytes if namesake else 0)
        evicted = []
        for other, entry in self._entries.items():
            if excess <= 0:
                break
            if other != key and not entry.pinned and not self._running[other]:
                evicted.append(other)
                excess -= entry.adapter.num_bytes
        if excess > 0:
            rule = f"needs {adapter.num_bytes:,} bytes, for which {self.budget:,} leave no room beside adapters that "
            rule += "are pinned or asked at the moment"
            raise BundleError(fault(adapter.bundle.folder, "", rule, "Raise the budget, or drop an adapter"))
        for other in evicted:
            self._forget(other)
        self.evictions += len(evicted)

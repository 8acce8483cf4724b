"""A process that answers: a bank of adapters on one checkpoint, a queue before it, and the keeper behind it."""

import asyncio
import contextlib
import hashlib
import shutil
import tempfile
import time
from collections.abc import Awaitable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, final

from pipeline.config.serve import ServingConfig
from pipeline.core.adapters.checkpoint import Resident
from pipeline.core.bank.bank import Ask, Bank
from pipeline.core.bank.encoded import num_tokens, one_by_one
from pipeline.core.data.rows import Row
from pipeline.core.engine.bundle import read_bundle
from pipeline.core.tasks.task import Answer, Encoded, Task
from pipeline.errors import DataError, NotResident, PipelineError
from pipeline.serving.figures import Figures
from pipeline.serving.queue import Queue, QueueFull
from pipeline.serving.state import Entry, Key, Problem, Reply, Report, Shown

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Keeping(Protocol):
    """The keeper, as a process that answers asks it."""

    def of_bank(self, report: Report) -> Awaitable[Sequence[Key]]:
        """As `Keeper.of_bank`."""

    def bundle(self, name: str, version: int) -> Awaitable[Mapping[str, bytes]]:
        """As `Keeper.bundle`."""


@final
class Answering:
    """Holds what the keeper says, and answers; knows nothing of Ray."""

    def __init__(
        self,
        replica: str,
        home: str,
        resident: Resident,
        tokenizer: "PreTrainedTokenizerBase",
        limits: ServingConfig,
        keeper: Keeping,
    ) -> None:
        """Hold nothing yet.

        Args:
            replica, home: Names of the process, and of its deployment.
            resident: The checkpoint.
            tokenizer: One of its own, which reads the texts of the next batch while the checkpoint's is used.
            limits: Of the queue and of batches.
            keeper: Says what is to be held.
        """
        self._replica, self._home, self._limits, self._keeper = replica, home, limits, keeper
        self.figures = Figures()
        self._bank = Bank(resident, budget=limits.bank_bytes)
        self._tokenizer = tokenizer
        self._computing, self._reading = ThreadPoolExecutor(1, "model"), ThreadPoolExecutor(1, "texts")
        self.queue = Queue(self._bank.answer, limits, self._computing, self.figures.batch)
        self._folder = tempfile.TemporaryDirectory(prefix="bundles-")
        self._held: dict[Key, int] = {}
        self._refused: dict[Key, str] = {}
        self._syncing = asyncio.Lock()

    async def follow(self) -> None:
        """Hold what the keeper says, from now on; where it is away, what there is."""
        while True:
            await asyncio.sleep(self._limits.poll_s / 2)
            with contextlib.suppress(Exception):  # it is started again, and asked again
                await self.sync()

    async def sync(self) -> None:
        """Ask the keeper what is to be held, and take and drop adapters."""
        async with self._syncing:
            wanted = set(await self._keeper.of_bank(self._report()))
            missing = sorted(wanted - {*self._held, *self._refused})
            for key in missing:
                await self._admit(key)
            for key in {*self._held, *self._refused} - wanted:
                self._refused.pop(key, None)
                if self._held.pop(key, None) is not None:
                    await asyncio.to_thread(self._dropped, key)
            if missing:  # so that it is told at once what is there now
                await self._keeper.of_bank(self._report())

    def _report(self) -> Report:
        self.figures.waiting(len(self.queue))
        return Report(
            replica=self._replica,
            home=self._home,
            resident=dict(self._held),
            refused=dict(self._refused),
            figures=self.figures.so_far(),
        )

    async def _admit(self, key: Key) -> None:
        try:
            files = await self._keeper.bundle(*key)
            self._held[key] = await asyncio.to_thread(self._admitted, key, files)
        except PipelineError as error:
            self._refused[key] = str(error)

    def _admitted(self, key: Key, files: Mapping[str, bytes] = MappingProxyType({})) -> int:
        """Check a bundle, and put it into the bank; return its bytes there. Without files it is here already."""
        (name, version), folder = key, self._folder_of(key)
        folder.mkdir(exist_ok=True)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        self._bank.admit(name, str(version), read_bundle(folder))
        return self._bank.sizes()[name, str(version)]

    def _dropped(self, key: Key) -> None:
        with contextlib.suppress(NotResident):  # it has made room for others
            self._bank.drop(key[0], str(key[1]))
        shutil.rmtree(self._folder_of(key), ignore_errors=True)

    def _folder_of(self, key: Key) -> Path:
        return Path(self._folder.name) / f"{key[1]}-{hashlib.sha256(key[0].encode()).hexdigest()[:32]}"

    async def answer(self, entries: Sequence[Entry], timeout_s: float) -> list[Reply]:
        """Answer entries, those of all of them in the same batches; a Reply with a problem where one cannot be."""
        async with asyncio.timeout(timeout_s):
            return list(await asyncio.gather(*(self._reply(entry) for entry in entries)))

    async def _reply(self, entry: Entry) -> Reply:
        key = entry.name, entry.version
        try:
            if key not in self._held and key not in self._refused:
                await self.sync()  # others may have it already
            try:
                return await self._answered(entry)
            except NotResident:
                if key not in self._held:
                    raise
            await asyncio.to_thread(self._admitted, key)  # it had to make room for others
            return await self._answered(entry)
        except DataError as error:
            problem = Problem(status=422, error_type="bad_input", error=str(error))
        except NotResident as error:
            problem = Problem(status=503, error_type="not_resident", error=str(error), retry_after_s=1)
        except QueueFull:
            told = f"{self._limits.max_queue_tokens} sub-tokens are waiting already. Ask again in a moment."
            problem = Problem(status=429, error_type="queue_full", error=told, retry_after_s=1)
        return Reply(problem=problem)

    async def _answered(self, entry: Entry) -> Reply:
        loop = asyncio.get_running_loop()
        task = self._bank.task(entry.name, str(entry.version))
        rows, encoded = await loop.run_in_executor(self._reading, self._read, task, entry)
        each = zip(rows, encoded, strict=True)
        asks = [Ask(entry.name, row, str(entry.version), one) for row, one in each]
        said = await self.queue.ask(asks, [num_tokens(one) for one in encoded])
        for one in said:
            if isinstance(one, BaseException):
                raise one
        shown = [_shown(task, row, one.answer) for row, one in zip(rows, said, strict=True)]
        cut = [place for place, one in enumerate(said) if "truncated" in one.answer]
        return Reply(version=int(said[0].version), answers=shown, truncated=cut)

    def _read(self, task: Task, entry: Entry) -> tuple[list[Row], list[Encoded]]:
        """The rows of an entry, and what the model is to read of each."""
        begin = time.monotonic()
        names = [f"{entry.where}[{number}]" for number in range(len(entry.items))]
        rows = [task.parse_item(item, where=name) for item, name in zip(entry.items, names, strict=True)]
        encoded = one_by_one(task.encode(rows, self._tokenizer))
        self.figures.tokenized(time.monotonic() - begin)
        return rows, encoded

    def close(self) -> None:
        """End its threads, and leave no file behind."""
        self._folder.cleanup()
        for pool in (self._computing, self._reading):
            pool.shutdown(wait=False, cancel_futures=True)
        self._folder.cleanup()


def _shown(task: Task, row: Row, answer: Answer) -> Shown:
    parts = task.parts(row, answer)
    return [{**one, "truncated": True} for one in parts] if answer.get("truncated") else parts

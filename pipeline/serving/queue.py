"""Rows that wait for the model, of all tasks together: bounded, and taken off in batches; nothing of Ray."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, final

from pipeline.config.serve import ServingConfig


class QueueFull(Exception):
    """So much waits already that nothing more is taken."""


@dataclass(eq=False, slots=True)
class Work:
    """A row that is to be answered."""

    ask: Any
    """What `answer` is given for it."""
    tokens: int
    """Sub-tokens that the model reads of it."""
    done: "asyncio.Future[Any]"
    since: float = field(default_factory=time.monotonic)
    """When it came."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """What a batch was, for the metrics."""

    rows: int
    tokens: int
    """Padding included."""
    queued_s: Sequence[float]
    """How long each row has waited."""
    inference_s: float


@final
class Queue:
    """One batch after another, as large as the limits allow: while one is computed, the next ones gather.

    A row that comes alone is computed at once. Where the batch before had several rows, others are about to come: it
    waits for them, no longer than `max_wait_ms`.

    Whoever waits for a row may be cancelled; the row is then never computed, unless it is in the batch that runs.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Any]], Sequence[Any]],
        limits: ServingConfig,
        executor: Executor,
        tell: Callable[[Batch], None] = lambda batch: None,
    ) -> None:
        """Set it up; `run` is what takes from it.

        Args:
            answer: Answers asks, in their order; called in the executor, one call at a time.
            limits: Of the queue and of a batch.
            executor: With one thread.
            tell: Is told of each batch.
        """
        self._answer, self._limits, self._executor, self._tell = answer, limits, executor, tell
        self._waiting: deque[Work] = deque()
        self._tokens = 0
        self._came = asyncio.Event()
        self._last = 1
        """Rows of the batch before."""

    def __len__(self) -> int:
        return len(self._waiting)

    async def ask(self, asks: Sequence[Any], tokens: Sequence[int]) -> list[Any]:
        """Wait until all asks are answered; an answer that is an exception is that one's alone.

        Raises:
            QueueFull: There is no room.
        """
        self._forget()
        if self._tokens >= self._limits.max_queue_tokens:
            raise QueueFull
        loop = asyncio.get_running_loop()
        works = [Work(ask, size, loop.create_future()) for ask, size in zip(asks, tokens, strict=True)]
        self._waiting += works
        self._tokens += sum(tokens)
        self._came.set()
        try:
            return await asyncio.gather(*(work.done for work in works), return_exceptions=True)
        finally:
            for work in works:
                work.done.cancel()  # which does nothing to one that is done

    async def run(self) -> None:
        """Answer what comes, until it is cancelled."""
        while True:
            await self._came.wait()
            await self._gathered()
            if batch := self._take():
                await self._compute(batch)
            if not self._waiting:
                self._came.clear()

    async def _gathered(self) -> None:
        """Wait for more until there are as many as before, or the oldest has waited long enough, or a batch is full."""
        limits = self._limits
        enough = min(self._last, limits.max_batch_rows)
        while self._waiting:
            left = self._waiting[0].since + limits.max_wait_ms / 1000 - time.monotonic()
            if left <= 0 or len(self._waiting) >= enough or self._tokens >= limits.max_batch_tokens:
                return
            self._came.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):  # before Python 3.12 `wait_for` may lose that it was cancelled
                    await self._came.wait()
            self._came.set()

    def _forget(self) -> None:
        """Leave out the rows that nobody waits for any more."""
        if any(work.done.done() for work in self._waiting):
            self._waiting = deque(work for work in self._waiting if not work.done.done())
            self._tokens = sum(work.tokens for work in self._waiting)

    def _take(self) -> list[Work]:
        """The oldest rows, as many as a batch may have; there is always one, if any waits."""
        self._forget()
        batch: list[Work] = []
        longest = 0
        while self._waiting and len(batch) < self._limits.max_batch_rows:
            longest = max(longest, self._waiting[0].tokens)
            if batch and longest * (len(batch) + 1) > self._limits.max_batch_tokens:
                break
            batch.append(self._waiting.popleft())
            self._tokens -= batch[-1].tokens
        self._last = len(batch)
        return batch

    async def _compute(self, batch: Sequence[Work]) -> None:
        begin = time.monotonic()
        loop = asyncio.get_running_loop()
        answers = await loop.run_in_executor(self._executor, self._answers, [work.ask for work in batch])
        for work, answer in zip(batch, answers, strict=True):
            if work.done.done():
                continue
            if isinstance(answer, Exception):
                work.done.set_exception(answer)
            else:
                work.done.set_result(answer)
        size = max(work.tokens for work in batch) * len(batch)
        queued = [begin - work.since for work in batch]
        self._tell(Batch(rows=len(batch), tokens=size, queued_s=queued, inference_s=time.monotonic() - begin))

    def _answers(self, asks: Sequence[Any]) -> Sequence[Any]:
        """The answers; where something is wrong with one, each row alone, so that no other suffers from it."""
        try:
            return self._answer(asks)
        except Exception as error:
            if len(asks) == 1:
                return [error]
            return [one for ask in asks for one in self._answers([ask])]

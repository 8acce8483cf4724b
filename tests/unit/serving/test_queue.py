"""The queue: batches of many tasks, bounds, clients that went away, and faults that stay alone."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from pipeline.config.serve import ServingConfig
from pipeline.serving.queue import Batch, Queue, QueueFull


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        yield made


def tried(
    pool: ThreadPoolExecutor,
    answer: Callable[[Sequence[Any]], Sequence[Any]],
    use: Callable[[Queue], Awaitable[Any]],
    tell: Callable[[Batch], None] = lambda batch: None,
    **limits: Any,
) -> Any:
    """Use a queue that runs, and end it."""

    async def whole() -> Any:
        queue = Queue(answer, ServingConfig(**limits), pool, tell)
        running = asyncio.create_task(queue.run())
        try:
            return await asyncio.wait_for(use(queue), 20)
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    return asyncio.run(whole())


def test_what_waits_together_is_answered_in_one_batch_in_its_order(pool: ThreadPoolExecutor) -> None:
    batches: list[list[str]] = []

    def answer(asks: Sequence[str]) -> list[str]:
        batches.append(list(asks))
        return [ask.upper() for ask in asks]

    async def use(queue: Queue) -> list[list[str]]:
        return list(await asyncio.gather(queue.ask(["a", "b"], [1, 1]), queue.ask(["c"], [1])))

    assert tried(pool, answer, use, max_wait_ms=20) == [["A", "B"], ["C"]]
    assert batches == [["a", "b", "c"]]


def test_a_batch_has_no_more_rows_and_padded_tokens_than_it_may(pool: ThreadPoolExecutor) -> None:
    told: list[Batch] = []

    async def use(queue: Queue) -> list[Any]:
        return await queue.ask(list("abcdef"), [2, 2, 8, 1, 1, 1])

    limits = {"max_batch_rows": 3, "max_batch_tokens": 8, "max_wait_ms": 0}
    assert tried(pool, lambda asks: asks, use, told.append, **limits) == list("abcdef")
    # Two of 2; the 8 would make it 24 with padding; alone it fills a batch; then three of 1.
    assert [(one.rows, one.tokens, len(one.queued_s)) for one in told] == [(2, 4, 2), (1, 8, 1), (3, 3, 3)]


def test_a_full_queue_takes_no_more_and_a_long_request_is_taken_when_there_is_any_room(
    pool: ThreadPoolExecutor,
) -> None:
    going, free = threading.Event(), threading.Event()

    def answer(asks: Sequence[str]) -> Sequence[str]:
        going.set()
        free.wait(10)
        return asks

    async def use(queue: Queue) -> list[Any]:
        first = asyncio.create_task(queue.ask(["a"], [1]))
        await asyncio.to_thread(going.wait, 10)
        long = asyncio.create_task(queue.ask(["b"] * 9, [9] * 9))
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await queue.ask(["c"], [1])
        free.set()
        return [*await first, *await long, *await queue.ask(["d"], [1])]

    assert tried(pool, answer, use, max_queue_tokens=10, max_wait_ms=0) == ["a", *["b"] * 9, "d"]


def test_rows_of_a_client_that_went_away_are_never_computed(pool: ThreadPoolExecutor) -> None:
    going, free = threading.Event(), threading.Event()
    seen: list[str] = []

    def answer(asks: Sequence[str]) -> Sequence[str]:
        seen.extend(asks)
        going.set()
        free.wait(10)
        return asks

    async def use(queue: Queue) -> int:
        first = asyncio.create_task(queue.ask(["a"], [1]))
        await asyncio.to_thread(going.wait, 10)
        gone = asyncio.create_task(queue.ask(["gone"], [1]))
        stays = asyncio.create_task(queue.ask(["stays"], [1]))
        await asyncio.sleep(0)
        gone.cancel()
        free.set()
        assert [*await first, *await stays] == ["a", "stays"]
        return len(queue)

    assert tried(pool, answer, use, max_wait_ms=0) == 0
    assert seen == ["a", "stays"]


def test_what_fails_fails_alone(pool: ThreadPoolExecutor) -> None:
    def answer(asks: Sequence[str]) -> Sequence[str]:
        if "bad" in asks:
            raise ValueError("bad")
        return asks

    async def use(queue: Queue) -> list[Any]:
        return await queue.ask(["a", "bad", "b"], [1, 1, 1])

    first, wrong, last = tried(pool, answer, use)
    assert (first, str(wrong), last) == ("a", "bad", "b")


def test_a_row_that_comes_alone_waits_for_nobody(pool: ThreadPoolExecutor) -> None:
    told: list[Batch] = []

    async def use(queue: Queue) -> list[Any]:
        return [await queue.ask(["a"], [1]), await queue.ask(["b"], [1])]

    tried(pool, lambda asks: asks, use, told.append, max_wait_ms=1000)
    assert max(one.queued_s[0] for one in told) < 0.5


def test_behind_a_batch_of_several_a_row_waits_for_others_no_longer_than_it_may(pool: ThreadPoolExecutor) -> None:
    told: list[Batch] = []

    async def use(queue: Queue) -> list[Any]:
        return [await queue.ask(["a", "b"], [1, 1]), await queue.ask(["c"], [1])]

    tried(pool, lambda asks: asks, use, told.append, max_wait_ms=50)
    assert told[0].queued_s[0] < 0.05
    assert told[1].queued_s[0] >= 0.05


def test_a_batch_begins_when_there_are_as_many_rows_as_before(pool: ThreadPoolExecutor) -> None:
    told: list[Batch] = []

    async def use(queue: Queue) -> list[Any]:
        await queue.ask(["a", "b"], [1, 1])
        return list(await asyncio.gather(queue.ask(["c"], [1]), queue.ask(["d"], [1])))

    tried(pool, lambda asks: asks, use, told.append, max_wait_ms=1000)
    assert [one.rows for one in told] == [2, 2]
    assert max(told[1].queued_s) < 0.5


def test_it_ends_when_it_is_cancelled_also_in_the_moment_in_which_a_row_comes(pool: ThreadPoolExecutor) -> None:
    async def ended(turns: int) -> bool:
        queue = Queue(lambda asks: asks, ServingConfig(max_wait_ms=60_000), pool)
        running = asyncio.create_task(queue.run())
        await queue.ask(["a", "b"], [1, 1])
        waiting = [asyncio.create_task(queue.ask(["c"], [1]))]  # for a second row
        await asyncio.sleep(0.01)
        waiting.append(asyncio.create_task(queue.ask(["d"], [1])))
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        ends, _ = await asyncio.wait([running], timeout=0.2)
        return bool(ends) and running.cancelled()

    async def whole() -> list[bool]:
        found = [await ended(turns) for turns in range(5)]
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        return found

    assert asyncio.run(whole()) == [True] * 5

"""An event loop in which waiting takes no time."""

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, final


@final
class Ahead(asyncio.SelectorEventLoop):
    """Where nothing is to be done but to wait for a moment, its clock is put there; what threads compute takes as long
    as it takes."""

    def __init__(self) -> None:
        self._ahead_s, self._in_threads = 0.0, 0
        super().__init__(_Hasty(self))

    def time(self) -> float:
        """Seconds, those that were left out among them."""
        return super().time() + self._ahead_s

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> Any:
        """As usual; meanwhile time goes on by itself."""
        self._in_threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._ended)
        return future

    def _ended(self, future: Any) -> None:
        self._in_threads -= 1

    def left_out(self, seconds: float) -> bool:
        """Whether so many seconds need not be waited for; then they are over."""
        if self._in_threads:
            return False
        self._ahead_s += seconds
        return True


@final
class _Hasty(selectors.DefaultSelector):
    def __init__(self, loop: Ahead) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if not timeout or timeout <= 0:
            return super().select(timeout)
        return super().select(0) or super().select(0 if self._loop.left_out(timeout) else timeout)

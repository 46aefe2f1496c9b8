"""Work that goes on beside requests."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["Scheduler"]


class Scheduler:
    """Run coroutines and delayed calls in the background, and know when none is left."""

    def __init__(self) -> None:
        self._pending: set[asyncio.Future[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine."""
        self._add(asyncio.create_task(work))

    def after(self, delay: float, action: Callable[[], None]) -> None:
        """Call `action` in `delay` seconds, without a task, as tests of programs look for tasks that remain."""

        def run() -> None:
            try:
                if not ended.cancelled():
                    action()
            finally:  # after the action, which may schedule another
                if not ended.cancelled():
                    ended.set_result(None)

        loop = asyncio.get_running_loop()
        ended, timer = loop.create_future(), loop.call_later(delay, run)
        ended.add_done_callback(lambda _: timer.cancel())
        self._add(ended)

    def _add(self, work: "asyncio.Future[None]") -> None:
        self._pending.add(work)
        work.add_done_callback(self._pending.discard)

    async def idle(self) -> None:
        """Return once nothing runs and nothing is scheduled."""
        while self._pending:
            await asyncio.wait(self._pending)

    async def aclose(self) -> None:
        """Cancel everything."""
        pending = [*self._pending]
        for work in pending:
            work.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

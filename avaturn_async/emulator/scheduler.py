"""Work that goes on beside requests."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["Scheduler"]


class Scheduler:
    """Run coroutines and delayed calls in the background, and know when none is left."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def after(self, delay: float, action: Callable[[], None]) -> None:
        """Call `action` in `delay` seconds."""

        async def wait() -> None:
            await asyncio.sleep(delay)
            action()

        self.start(wait())

    async def idle(self) -> None:
        """Return once nothing runs and nothing is scheduled."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def aclose(self) -> None:
        """Cancel everything."""
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _end(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            report = {"message": "the emulator failed in the background", "exception": error, "task": task}
            task.get_loop().call_exception_handler(report)

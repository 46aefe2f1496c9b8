"""A thread that does the jobs of one coroutine in turn, while the coroutine goes on."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue

__all__ = ["Worker"]


class Worker:
    """Does one job after another in a thread, which begins with the first and ends with `end`.

    Giving it a job costs a fraction of what `run_in_executor` does: the event loop is woken only where it waits, and
    futures are made only then. The thread is a daemon, so that a loop that was left in the middle holds up no exit.
    """

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        # Each is written by one thread alone: += on one that two threads write would lose counts.
        self._given = 0
        self._ended = 0
        self._waiting: tuple[int, asyncio.Future[None]] | None = None

    def give(self, job: Callable[[], None]) -> None:
        """Have `job` done after those before it, unless one of them fails."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="avaturn-download", daemon=True)
            self._thread.start()
        self._given += 1
        self._jobs.put(job)

    async def left(self, most: int) -> bool:
        """Wait until at most `most` jobs are left, even when cancelled, and say whether that happened."""
        cancelled = False
        count = self._given - most
        while self._ended < count:
            done = asyncio.get_running_loop().create_future()
            self._waiting = count, done
            if self._ended >= count:  # the thread may have looked just before
                break
            try:
                await done
            except asyncio.CancelledError:
                cancelled = True
        self._waiting = None
        return cancelled

    async def catch_up(self, most: int = 0) -> None:
        """Wait as `left` does, then be cancelled if that happened, or raise what a job has raised."""
        if await self.left(most):
            raise asyncio.CancelledError
        if self._error is not None:
            raise self._error

    def end(self) -> None:
        """End the thread once its jobs are done."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                if self._error is None:
                    job()
            except BaseException as error:  # noqa: BLE001  # it is raised where somebody waits
                self._error = error
            del job  # what it holds is not kept until the next
            self._ended += 1
            waiting = self._waiting  # once: the loop may take it away meanwhile
            if waiting is not None:
                self._tell(*waiting)

    def _tell(self, count: int, done: asyncio.Future[None]) -> None:
        if self._ended >= count:
            with contextlib.suppress(RuntimeError):  # the loop was closed
                done.get_loop().call_soon_threadsafe(_settle, done)


def _settle(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)

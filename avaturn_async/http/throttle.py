"""Decide when the next request may leave: slots, the rate limit and the hold-back after a 429."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..config import RateLimit

__all__ = ["Slots", "Throttle"]


class Slots:
    """A semaphore that is taken without a coroutine where it is free, as it is in the ordinary case.

    A slot that is given back goes straight to the first that waits, so while anybody waits none is free.
    """

    __slots__ = ("_free", "_waiting")

    def __init__(self, number: float) -> None:
        self._free = number
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """Take a slot if one is free, and say whether one was."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def wait(self) -> None:
        """Take a slot, in the order of those who ask."""
        if self.take():
            return
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(given)
        try:
            await given
        except BaseException:  # also GeneratorExit, of a coroutine that is closed
            if not given.cancel() and not given.cancelled():  # it was given before the cancellation arrived
                self.release()
            raise

    def release(self) -> None:
        """Give a slot back."""
        while self._waiting:
            given = self._waiting.popleft()
            if not given.done():  # else whoever waited was cancelled
                given.set_result(None)
                return
        self._free += 1


class Throttle:
    """Let the requests of one client leave one after another, each when it may.

    Only the first in the queue waits for the rate limit or the end of a hold-back, and it keeps no slot meanwhile. So
    one moment, `_opens_at`, is all that there is to know about both, and when it comes those who wait leave one by one.

    Args:
        slots: the most requests that are under way at once.
        rate: at most so many requests, evenly spaced.
        rest: sleeps for so many seconds, or raises where there is no more reason to wait.
    """

    def __init__(self, slots: int, rate: RateLimit | None, rest: Callable[[float], Awaitable[None]]) -> None:
        self._slots = Slots(slots)
        self._turn = asyncio.Lock()
        self._queued = 0
        self._spacing = rate.per_seconds / rate.requests if rate else 0.0
        self._opens_at = float("-inf")
        self._rest = rest

    def take(self) -> bool:
        """Take a slot if a request may leave at once, as a rule it may, and say so; then there is nothing to await."""
        if self._queued or self.remaining() > 0 or not self._slots.take():
            return False
        self._space()
        return True

    async def enter(self) -> None:
        """Take a slot when the rate limit and the hold-back allow it; nothing is awaited after they were looked at."""
        if not self.take():
            await self._queue()
            self._space()

    async def enter_unthrottled(self) -> None:
        """Take a slot for what the API's limits don't concern."""
        await self._slots.wait()

    def leave(self) -> None:
        """Give the slot back."""
        self._slots.release()

    def hold(self, seconds: float) -> None:
        """Let nothing leave for so many seconds."""
        self._opens_at = max(self._opens_at, _now() + seconds)

    def remaining(self) -> float:
        """Return the seconds until the next request may leave; none are left where this is not positive."""
        return self._opens_at - _now()

    def _space(self) -> None:
        if self._spacing:
            self._opens_at = _now() + self._spacing

    async def _queue(self) -> None:
        self._queued += 1
        try:
            async with self._turn:
                await self._wait_first()
        finally:
            self._queued -= 1

    async def _wait_first(self) -> None:
        while True:
            while (delay := self.remaining()) > 0:
                await self._rest(delay)
            await self._slots.wait()
            if self.remaining() <= 0:
                return
            self._slots.release()


def _now() -> float:
    return asyncio.get_running_loop().time()

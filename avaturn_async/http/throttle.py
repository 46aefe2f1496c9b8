"""Decide when the next request to the API may be sent: slots, the rate limit and the hold-back after a 429."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Self

from ..config import RateLimit

__all__ = ["Throttle"]


class Throttle:
    """A context manager around each request to the API; requests enter in the order in which they ask.

    Of the requests that have a slot, only the first in the queue waits for the rate limit or the end of a hold-back.

    Args:
        slots: requests sent at once.
        rate: at most this many requests, evenly spaced.
        sleep: sleeps for a number of seconds, or raises once waiting is pointless.
    """

    def __init__(self, slots: int, rate: RateLimit | None, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._slots = asyncio.Semaphore(slots)
        self._queue = asyncio.Lock()
        self._spacing = rate.per_seconds / rate.requests if rate else 0.0
        self._opens_at = float("-inf")
        self._sleep = sleep

    async def __aenter__(self) -> Self:
        await self._slots.acquire()
        if not (self._spacing or self._queue.locked() or self.remaining() > 0):
            return self
        try:
            async with self._queue:
                while (delay := self.remaining()) > 0:
                    await self._sleep(delay)
                if self._spacing:
                    self._opens_at = asyncio.get_running_loop().time() + self._spacing
        except BaseException:
            self._slots.release()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._slots.release()

    def hold(self, seconds: float) -> None:
        """Let no request enter for a number of seconds."""
        self._opens_at = max(self._opens_at, asyncio.get_running_loop().time() + seconds)

    def remaining(self) -> float:
        """Return the seconds until the next request may enter; none if not positive."""
        return self._opens_at - asyncio.get_running_loop().time()

"""Delayed calls."""

import asyncio
from collections.abc import Callable

__all__ = ["Scheduler"]


class Scheduler:
    """Call functions after delays, and know when none is left."""

    def __init__(self) -> None:
        self._timers: set[asyncio.TimerHandle] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def empty(self) -> bool:
        """Whether no call is scheduled."""
        return self._empty.is_set()

    async def emptied(self) -> None:
        """Return once no call is scheduled."""
        await self._empty.wait()

    def after(self, delay: float, action: Callable[[], None]) -> None:
        """Call `action` in `delay` seconds."""

        def run() -> None:
            try:
                action()
            finally:  # after the action, which may schedule another
                self._timers.discard(timer)
                if not self._timers:
                    self._empty.set()

        timer = asyncio.get_running_loop().call_later(delay, run)
        self._timers.add(timer)
        self._empty.clear()

    def clear(self) -> None:
        """Cancel all scheduled calls."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._empty.set()

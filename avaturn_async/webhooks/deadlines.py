"""Many deadlines of the same length, under one timer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Deadlines"]

K = TypeVar("K")


class Deadlines(Generic[K]):
    """Calls `expired` for each key that was not lifted within so many seconds of being set.

    All take equally long, so they end in the order in which they were set: to set and to lift one is a change of a
    dict, where a timer of its own would cost ten times that.
    """

    def __init__(self, seconds: float, expired: Callable[[K], object]) -> None:
        self._seconds = seconds
        self._expired = expired
        self._ends: dict[K, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def set(self, key: K) -> None:
        """Give `key` its time, from now on."""
        loop = asyncio.get_running_loop()
        self._ends.pop(key, None)  # the new one is to stand at the end
        self._ends[key] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._look)

    def lift(self, key: K) -> None:
        """Forget the deadline of `key`, if there is one."""
        self._ends.pop(key, None)

    def clear(self) -> None:
        """Forget all."""
        self._ends.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __len__(self) -> int:
        return len(self._ends)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        while self._ends:
            key, end = next(iter(self._ends.items()))
            if end > loop.time():
                if self._timer is None:  # what ends may have set another
                    self._timer = loop.call_at(end, self._look)
                return
            del self._ends[key]
            self._expired(key)

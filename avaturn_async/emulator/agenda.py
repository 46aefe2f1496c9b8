"""Things to do later, on one timer."""

import asyncio
import heapq
import itertools
from collections.abc import Callable

__all__ = ["Agenda"]


class Agenda:
    """Run functions after delays, in order of time and then of entry; tens of thousands cost one timer of the loop."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    def after(self, delay: float, action: Callable[[], None]) -> None:
        """Run `action` in `delay` seconds."""
        entry = (asyncio.get_running_loop().time() + delay, next(self._numbers), action)
        heapq.heappush(self._heap, entry)
        self._empty.clear()
        if self._heap[0] is entry:
            self._arm()

    async def emptied(self) -> None:
        """Return once nothing is left to do."""
        await self._empty.wait()

    @property
    def empty(self) -> bool:
        """Say whether nothing is left to do."""
        return not self._heap

    def clear(self) -> None:
        """Forget everything."""
        self._heap.clear()
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap:
            self._timer = asyncio.get_running_loop().call_at(self._heap[0][0], self._run)
        else:
            self._empty.set()

    def _run(self) -> None:
        now = asyncio.get_running_loop().time()
        try:
            # The loop may wake a timer early by its clock's resolution: the head is always due.
            while self._heap:
                heapq.heappop(self._heap)[2]()
                if not self._heap or self._heap[0][0] > now:
                    break
        finally:
            self._arm()

"""Callbacks for events: run after the reply, drained at the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from .events import Event, UnknownEvent

__all__ = ["Callback", "Callbacks"]

logger = logging.getLogger(__name__)

Callback: TypeAlias = Callable[[Any], Awaitable[object]]

#: Callbacks that run at once, and that may be under way or wait to run.
_AT_ONCE = 100
_MOST = 10_000


class Callbacks:
    """The callbacks of one receiver.

    They run on the receiver's home loop. Without one, which is only where `handle` is called by hand on a receiver that
    was not entered, they are awaited before the reply: a loop that ends with the request would lose them.
    """

    def __init__(self) -> None:
        self._known: dict[str, list[Callback]] = {}
        self._home: asyncio.AbstractEventLoop | None = None
        self._gate: asyncio.Semaphore | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._coming = 0

    def add(self, name: str, callback: Callback) -> None:
        """Call `callback` for events of this name."""
        self._known.setdefault(name, []).append(callback)

    def bind(self) -> None:
        """Make the running loop the home of the callbacks, unless there is one that still runs."""
        if self._home is None or self._home.is_closed():
            self._home = asyncio.get_running_loop()
            self._gate = asyncio.Semaphore(_AT_ONCE)
            self._tasks = set()
            self._coming = 0

    @property
    def full(self) -> bool:
        """Say whether so many are under way that no further event should be accepted."""
        return len(self._tasks) + self._coming >= _MOST

    async def start(self, name: str, event: Event | UnknownEvent) -> None:
        """Have the callbacks for `event` run."""
        callbacks = self._known.get(name)
        if not callbacks:
            return
        home = self._home
        if home is None or home.is_closed():
            await asyncio.gather(*(_run(callback, event) for callback in callbacks))
        elif home is asyncio.get_running_loop():
            self._spawn(callbacks, event)
        else:
            self._coming += 1
            home.call_soon_threadsafe(self._arrive, callbacks, event)

    def _arrive(self, callbacks: list[Callback], event: Event | UnknownEvent) -> None:
        self._coming -= 1
        self._spawn(callbacks, event)

    def _spawn(self, callbacks: list[Callback], event: Event | UnknownEvent) -> None:
        for callback in callbacks:
            task = asyncio.get_running_loop().create_task(self._gated(callback, event))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _gated(self, callback: Callback, event: Event | UnknownEvent) -> None:
        assert self._gate is not None  # noqa: S101
        async with self._gate:
            await _run(callback, event)

    async def drain(self, seconds: float) -> None:
        """Wait for what is under way, so many seconds at most; then cancel the rest and say so in the log."""
        if self._home is not asyncio.get_running_loop():
            return
        deadline = self._home.time() + seconds
        while (self._tasks or self._coming) and self._home.time() < deadline:
            left = deadline - self._home.time()
            await (asyncio.wait(self._tasks, timeout=left) if self._tasks else asyncio.sleep(0.001))
        if self._tasks:
            logger.error("%d callbacks were cancelled: they were not over after %g s", len(self._tasks), seconds)
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.wait(self._tasks)


async def _run(callback: Callback, event: Event | UnknownEvent) -> None:
    try:
        await callback(event)
    except Exception:
        logger.exception("a callback for webhooks raised")

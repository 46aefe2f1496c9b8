"""Callbacks for events: run after the reply, drained at the end."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from .events import Event, UnknownEvent

__all__ = ["Callback", "Callbacks"]

logger = logging.getLogger(__name__)

Callback: TypeAlias = Callable[[Any], Awaitable[object]]

#: Callbacks that run at once; events that may be under way, and callbacks that may be or wait to run.
_AT_ONCE = 100
_MOST = 10_000

#: Seconds that cancelled callbacks have to clean up.
_GRACE = 1.0


class Callbacks:
    """The callbacks of one receiver, and the count of what is under way.

    They run on the receiver's home loop. Without one, which is only where `handle` is called by hand on a receiver that
    was not entered, they are awaited before the reply: a loop that ends with the request would lose them.

    An event counts from `admit` to `leave`, a callback from `start` to its end, so that `drain` misses no callback of
    what is answered with a 2xx, on whichever thread. (An event that is kept at once and has none does not count.)

    Attributes:
        known: the callbacks by the names of their events.
        closing: whether the end has come.
    """

    def __init__(self) -> None:
        self.known: dict[str, list[Callback]] = {}
        self._home: asyncio.AbstractEventLoop | None = None
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._lock = threading.Lock()
        self._events: list[None] = []  # a list for a number: its append and pop need no lock
        self._running = 0
        self.closing = False
        self._drains: list[asyncio.Future[None]] = []

    def add(self, name: str, callback: Callback) -> None:
        """Call `callback` for events of this name."""
        self.known.setdefault(name, []).append(callback)

    def bind(self) -> None:
        """Make the running loop the home of the callbacks, unless there is one that still runs."""
        if self._home is None or self._home.is_closed():
            self._home = asyncio.get_running_loop()
            self._gate = asyncio.Semaphore(_AT_ONCE)
            with self._lock:
                self._running = 0  # what a closed loop left behind, or never began
                self._tasks = set()

    def open(self) -> None:
        """Admit events again, after `drain`."""
        self.closing = False

    def admit(self) -> bool:
        """Count an event in, or say that it has to come again: too many are under way, or the end has come."""
        self._events.append(None)  # before the look at `closing`, so that `drain` sees the event or the event sees it
        if self.closing or len(self._events) > _MOST:
            self.leave()
            return False
        return True

    def leave(self) -> None:
        """Count an event out."""
        self._events.pop()
        if self._drains:
            self._count_out()

    def _count_out(self, *, running: int = 0) -> None:
        with self._lock:
            self._running -= running
            if not self._drains or self._events or self._running:
                return
            drains, self._drains = self._drains, []
        for drained in drains:
            with suppress(RuntimeError):  # its loop is closed: nobody waits there any more
                drained.get_loop().call_soon_threadsafe(_resolve, drained)

    async def start(self, name: str, event: Event | UnknownEvent) -> bool:
        """Have the callbacks for `event` run, or say that it has to come again: too many wait to run."""
        known = self.known.get(name, ())
        if known and self._running >= _MOST:
            return False
        for callback in known:
            if not self._send_home(callback, event):
                await _run(callback, event)
        return True

    def _send_home(self, callback: Callback, event: Event | UnknownEvent) -> bool:
        """Start a callback on the home loop; say False where there is none."""
        home = self._home
        if home is None or home.is_closed():
            return False
        with self._lock:
            self._running += 1
        if home is asyncio.get_running_loop():
            self._spawn(callback, event)
            return True
        try:
            home.call_soon_threadsafe(self._spawn, callback, event)
        except RuntimeError:  # closed just now
            self._count_out(running=1 if home is self._home else 0)
            return False
        return True

    def _spawn(self, callback: Callback, event: Event | UnknownEvent) -> None:
        task = asyncio.get_running_loop().create_task(self._gated(callback, event))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task in self._tasks:
            self._tasks.discard(task)
            self._count_out(running=1)

    async def _gated(self, callback: Callback, event: Event | UnknownEvent) -> None:
        async with self._gate:
            await _run(callback, event)

    async def drain(self, seconds: float) -> None:
        """Admit no more and wait for what is under way, so many seconds at most; cancel the rest with a log."""
        drained = asyncio.get_running_loop().create_future()
        with self._lock:
            self.closing = True
            self._drains.append(drained)  # before the look at what is under way, so that its end is not missed
            if not (self._events or self._running) or (self._home is not None and self._home.is_closed()):
                self._drains.remove(drained)
                return
        try:
            async with asyncio.timeout(seconds):
                await drained
        except TimeoutError:
            await self._cancel(seconds)
        finally:
            self._forget(drained)

    def _forget(self, drained: asyncio.Future[None]) -> None:
        with self._lock:
            if drained in self._drains:
                self._drains.remove(drained)

    async def _cancel(self, seconds: float) -> None:
        home, tasks = self._home, tuple(self._tasks)
        if home is None or not tasks:
            return
        logger.error("%d callbacks were cancelled: they were not over after %g s", len(tasks), seconds)
        if home is not asyncio.get_running_loop():
            with suppress(RuntimeError):
                home.call_soon_threadsafe(_cancel_all, tasks)
            return
        _cancel_all(tasks)
        await asyncio.wait(tasks, timeout=_GRACE)


def _cancel_all(tasks: tuple[asyncio.Task[None], ...]) -> None:
    for task in tasks:
        task.cancel()


def _resolve(drained: asyncio.Future[None]) -> None:
    if not drained.done():
        drained.set_result(None)


async def _run(callback: Callback, event: Event | UnknownEvent) -> None:
    try:
        await callback(event)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        logger.exception("a callback for webhooks awaited something that was cancelled")
    except Exception:
        logger.exception("a callback for webhooks raised")

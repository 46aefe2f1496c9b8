"""Callbacks for events: they run after the reply, and `drain` waits for them."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

from ..http.tasks import is_async, is_cancelled

if TYPE_CHECKING:
    from .events import Event, UnknownEvent

__all__ = ["Callback", "Callbacks"]

logger: logging.Logger = logging.getLogger(__name__)

Callback: TypeAlias = Callable[[Any], Awaitable[object]]

_MAX_RUNNING = 100
_MAX_QUEUED = 10_000

#: Seconds that cancelled callbacks have to clean up.
_GRACE = 1.0


class Callbacks:
    """The callbacks of one receiver, in `by_name` by the name of their event.

    Callbacks run on the loop that `bind` was last called on, whichever thread an event arrives on. Without one, they
    run to their end before the reply: the loop of a WSGI request or a Lambda invocation ends with it.

    Events count from `admit` to `count_out` and callbacks from `start` to their end, so that `drain` waits for every
    callback of an event that was answered with a 2xx.
    """

    def __init__(self) -> None:
        self.by_name: dict[str, list[Callback]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._slots = asyncio.Semaphore(_MAX_RUNNING)
        self._tasks: set[asyncio.Task[None]] = set()
        self._lock = threading.Lock()  # of the numbers below
        self._events = 0
        self._queued = 0
        self._closing = False
        self._drains: list[asyncio.Future[None]] = []

    def add(self, name: str, callback: Callback) -> None:
        """Call `callback` for events of this name; TypeError if it is not an async function."""
        if not is_async(callback):
            raise TypeError(f"a callback must be an async function, not {callback!r}")
        self.by_name.setdefault(name, []).append(callback)

    def bind(self, *, reopen: bool) -> None:
        """Run callbacks on the current loop, unless they have one that still runs; `reopen` admits events again."""
        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.get_running_loop()
            self._slots = asyncio.Semaphore(_MAX_RUNNING)
            with self._lock:
                self._queued = 0  # a closed loop runs none of them
                self._tasks = set()
        if reopen:
            self._closing = False

    def admit(self) -> bool:
        """Count an event in, or return False while closing."""
        with self._lock:
            if self._closing:
                return False
            self._events += 1
        return True

    async def start(self, name: str, event: Event | UnknownEvent) -> bool:
        """Start the callbacks of a name, which has some, for `event`; return False if too many are queued."""
        if self._queued >= _MAX_QUEUED:
            return False
        for callback in self.by_name[name]:
            if not self._send_to_loop(callback, event):
                await _run(callback, event)
        return True

    def _send_to_loop(self, callback: Callback, event: Event | UnknownEvent) -> bool:
        loop = self._loop
        if loop is None or loop.is_closed():
            return False
        with self._lock:
            self._queued += 1
        try:
            # Not a task yet: an eager one (3.12+) would begin before the reply.
            loop.call_soon_threadsafe(self._spawn, callback, event)
        except RuntimeError:  # the loop was closed just now
            self.count_out(queued=1 if loop is self._loop else 0)
            return False
        return True

    def _spawn(self, callback: Callback, event: Event | UnknownEvent) -> None:
        task = asyncio.ensure_future(self._run_in_turn(callback, event))
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    async def _run_in_turn(self, callback: Callback, event: Event | UnknownEvent) -> None:
        async with self._slots:
            await _run(callback, event)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        if task in self._tasks:
            self._tasks.discard(task)
            self.count_out(queued=1)

    def count_out(self, *, events: int = 0, queued: int = 0) -> None:
        """Count events and callbacks out that ended."""
        with self._lock:
            self._events -= events
            self._queued -= queued
            if not self._drains or self._events or self._queued:
                return
            drains, self._drains = self._drains, []
        for drained in drains:
            with suppress(RuntimeError):  # its loop is closed
                drained.get_loop().call_soon_threadsafe(_resolve, drained)

    async def drain(self, seconds: float) -> None:
        """Admit no more events, wait for those in flight, and cancel callbacks that take longer than `seconds`."""
        drained = asyncio.get_running_loop().create_future()
        with self._lock:
            self._closing = True
            if not (self._events or self._queued) or (self._loop is not None and self._loop.is_closed()):
                return
            self._drains.append(drained)
        try:
            await asyncio.wait([drained], timeout=seconds)
            if self._queued and self._loop is not None:
                logger.error("%d callbacks were cancelled: they did not end within %g s", self._queued, seconds)
                with suppress(RuntimeError):  # the loop was closed just now
                    self._loop.call_soon_threadsafe(self._cancel_all)
                await asyncio.wait([drained], timeout=_GRACE)
        finally:
            with self._lock, suppress(ValueError):
                self._drains.remove(drained)

    def _cancel_all(self) -> None:
        for task in self._tasks:
            task.cancel()


def _resolve(drained: asyncio.Future[None]) -> None:
    if not drained.done():
        drained.set_result(None)


async def _run(callback: Callback, event: Event | UnknownEvent) -> None:
    try:
        await callback(event)
    except asyncio.CancelledError:
        if is_cancelled():
            raise
        logger.exception("a webhook callback awaited something that was cancelled")
    except Exception:
        logger.exception("a webhook callback raised")

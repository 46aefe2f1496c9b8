"""A mailbox within one process."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import attrs

from ..errors import ClientClosedError
from .events import Event, key_of
from .mailbox import Delivery

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MemoryMailbox"]

_Waiter = asyncio.Future[Delivery]

#: Rows that nobody awaits of events that were not authenticated: mere hints, of which anyone can send any number.
_MOST_HINTS = 1000


@attrs.define
class _Row:
    delivery: Delivery
    expires: float


class MemoryMailbox:
    """The default mailbox: bounded, within one process; `deliver` may be called from any thread and loop.

    Args:
        ttl: seconds that a row lives; 15 minutes, as long as the link of a render (contract).
        max_rows: beyond it the oldest rows that nobody awaits are evicted, exports and avatars before renders.
            Of events that were not authenticated at most 1,000 are kept.
    """

    def __init__(
        self, *, ttl: float = 900, max_rows: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not ttl > 0:
            raise ValueError(f"ttl must be a positive number of seconds, not {ttl!r}")
        if max_rows < 1:
            raise ValueError(f"max_rows must be at least 1, not {max_rows!r}")
        self._ttl = ttl
        self._max_rows = max_rows
        self._clock = clock
        self._lock = threading.Lock()
        self._jobs: OrderedDict[str, _Row] = OrderedDict()
        self._renders: OrderedDict[str, _Row] = OrderedDict()
        self._waiters: dict[str, dict[_Waiter, None]] = {}
        self._hints: OrderedDict[str, None] = OrderedDict()
        self._ids = itertools.count(1)
        self._prefix = f"{time.time_ns():x}"
        self._closed = False

    async def deliver(self, event: Event, *, authenticated: bool = True) -> None:
        """Store `event` and wake who awaits it.

        A render's row is written once, but an authenticated event replaces one that was not. An event that was not
        authenticated never replaces one that was.

        Raises:
            ClientClosedError: the mailbox was closed.
        """
        key = key_of(event)
        with self._lock:
            self._check_open()
            delivery = self._store(key, event, authenticated=authenticated)
            waiters = self._waiters.pop(key, {}) if delivery is not None else {}
        for waiter in waiters:
            _wake(waiter, delivery)

    async def position(self, key: str) -> str:
        """Return the id of the row that stands under `key`, or ``""``."""
        with self._lock:
            self._check_open()
            row = self._row(key)
            return "" if row is None else row.delivery.id

    def wait(self, key: str, after: str) -> asyncio.Future[Delivery]:
        """Return a future for the key's row as soon as its id differs from `after`; cancelling it forgets it.

        Raises:
            ClientClosedError: the mailbox was closed; also from a future that was waiting.
        """
        waiter: _Waiter = asyncio.get_running_loop().create_future()
        with self._lock:
            self._check_open()
            row = self._row(key)
            if row is None or row.delivery.id == after:
                self._waiters.setdefault(key, {})[waiter] = None
                waiter.add_done_callback(partial(self._forget, key))
            else:
                waiter.set_result(row.delivery)
        return waiter

    async def aclose(self) -> None:
        """Forget all rows; who still waits gets ClientClosedError. Calling it again does nothing."""
        with self._lock:
            self._closed = True
            left = [waiter for waiters in self._waiters.values() for waiter in waiters]
            self._waiters.clear()
            self._jobs.clear()
            self._hints.clear()
            self._renders.clear()
        for waiter in left:
            _wake(waiter, None)

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosedError("the mailbox is closed")

    def _rows(self, key: str) -> OrderedDict[str, _Row]:
        return self._renders if key.startswith("render:") else self._jobs

    def _row(self, key: str) -> _Row | None:
        row = self._rows(key).get(key)
        return row if row is not None and row.expires > self._clock() else None

    def _store(self, key: str, event: Event, *, authenticated: bool) -> Delivery | None:
        rows, standing = self._rows(key), self._row(key)
        if standing is not None and not _replaces(key, standing.delivery, authenticated=authenticated):
            return None
        only = standing is None or (authenticated and not standing.delivery.authenticated)
        if not authenticated:
            event = attrs.evolve(event, extra={})  # a forger's ballast; nobody reads more than that it came
        delivery = Delivery(f"{self._prefix}-{next(self._ids)}", event, authenticated, only)
        rows[key] = _Row(delivery, self._clock() + self._ttl)
        rows.move_to_end(key)
        self._hints.pop(key, None)
        if not authenticated:
            self._hints[key] = None
        self._sweep()
        return delivery

    def _sweep(self) -> None:
        """Drop expired rows, which stand first, and evict what is too many."""
        now = self._clock()
        for rows in (self._jobs, self._renders):
            while rows and (first := next(iter(rows.items())))[1].expires <= now:
                self._drop(first[0])
        if len(self._hints) > _MOST_HINTS:
            self._evict_hint()
        while len(self._jobs) + len(self._renders) > self._max_rows:
            if not (self._evict(self._jobs) or self._evict(self._renders)):
                break

    def _evict_hint(self) -> None:
        for _ in range(len(self._hints)):
            key = next(iter(self._hints))
            if key not in self._waiters:
                self._drop(key)
                break
            self._hints.move_to_end(key)  # not to be looked at again for each that comes

    def _evict(self, rows: OrderedDict[str, _Row]) -> bool:
        key = next((key for key in rows if key not in self._waiters), None)
        if key is not None:
            self._drop(key)
        return key is not None

    def _drop(self, key: str) -> None:
        del self._rows(key)[key]
        self._hints.pop(key, None)

    def _forget(self, key: str, waiter: _Waiter) -> None:
        with self._lock:
            waiters = self._waiters.get(key)
            if waiters is not None:
                waiters.pop(waiter, None)
                if not waiters:
                    del self._waiters[key]


def _replaces(key: str, standing: Delivery, *, authenticated: bool) -> bool:
    if standing.authenticated:
        return authenticated and not key.startswith("render:")
    return authenticated or not key.startswith("render:")


def _wake(waiter: _Waiter, delivery: Delivery | None) -> None:
    with suppress(RuntimeError):  # its loop is closed: nobody waits there any more
        waiter.get_loop().call_soon_threadsafe(_resolve, waiter, delivery)


def _resolve(waiter: _Waiter, delivery: Delivery | None) -> None:
    if waiter.done():
        return
    if delivery is None:
        waiter.set_exception(ClientClosedError("the mailbox was closed while this was awaited"))
        waiter.exception()  # whoever waits may be gone: no log for it
    else:
        waiter.set_result(delivery)

"""A mailbox within one process."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from ..errors import ClientClosedError
from .events import Event, key_of
from .mailbox import Delivery

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MemoryMailbox"]

_Waiter = asyncio.Future[Delivery]

#: Rows of events that were not authenticated: mere hints, of which anyone can send any number.
_MOST_HINTS = 1000

#: Characters of a hint's field that are kept, or none of them.
_LONG = 128

#: Which rows are evicted first: hints, then what can be read again, then renders, which can't.
_HINT, _JOB, _RENDER = range(3)


@attrs.define
class _Row:
    delivery: Delivery
    expires: float
    rank: int


class MemoryMailbox:
    """The default mailbox: bounded, within one process; `deliver` may be called from any thread and loop.

    Args:
        ttl: seconds that a row lives; 15 minutes, as long as the link of a render (contract).
        max_rows: beyond it the oldest rows that nobody awaits are evicted, exports and avatars before renders.
            Of events that were not authenticated at most 1,000 are kept, and none at the cost of one that was.
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
        self._rows: OrderedDict[str, _Row] = OrderedDict()  # the first to expire comes first
        self._idle: tuple[OrderedDict[str, None], ...] = (OrderedDict(), OrderedDict(), OrderedDict())
        self._hints = 0
        self._waiters: dict[str, dict[_Waiter, None]] = {}
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
            self._rest(key)
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
                self._stir(key)
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
            self._rows.clear()
            for idle in self._idle:
                idle.clear()
        for waiter in left:
            _wake(waiter, None)

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosedError("the mailbox is closed")

    def _row(self, key: str) -> _Row | None:
        row = self._rows.get(key)
        return row if row is not None and row.expires > self._clock() else None

    def _store(self, key: str, event: Event, *, authenticated: bool) -> Delivery | None:
        standing = self._row(key)
        if standing is not None and not _replaces(key, standing.delivery, authenticated=authenticated):
            return None
        only = standing is None or (authenticated and not standing.delivery.authenticated)
        if not authenticated:
            event = _bare(event)
        delivery = Delivery(f"{self._prefix}-{next(self._ids)}", event, authenticated, only)
        self._drop(key)
        rank = _HINT if not authenticated else _RENDER if key.startswith("render:") else _JOB
        self._rows[key] = _Row(delivery, self._clock() + self._ttl, rank)
        self._hints += rank == _HINT
        self._sweep(self._idle[:1] if rank == _HINT else self._idle)
        return delivery

    def _sweep(self, evictable: tuple[OrderedDict[str, None], ...]) -> None:
        """Drop expired rows, and evict what is too many of what may make room."""
        now = self._clock()
        while self._rows and (first := next(iter(self._rows.items())))[1].expires <= now:
            self._drop(first[0])
        if self._hints > _MOST_HINTS:
            self._evict(self._idle[_HINT])
        while len(self._rows) > self._max_rows and any(self._evict(idle) for idle in evictable):
            pass

    def _evict(self, idle: OrderedDict[str, None]) -> bool:
        key = next(iter(idle), None)
        if key is not None:
            self._drop(key)
        return key is not None

    def _drop(self, key: str) -> None:
        self._stir(key)
        row = self._rows.pop(key, None)
        self._hints -= row is not None and row.rank == _HINT

    def _rest(self, key: str) -> None:
        """Note that nobody awaits what follows the row of `key`, so that it may be evicted."""
        row = self._rows.get(key)
        if row is not None and key not in self._waiters:
            self._idle[row.rank].setdefault(key)

    def _stir(self, key: str) -> None:
        row = self._rows.get(key)
        if row is not None:
            self._idle[row.rank].pop(key, None)

    def _forget(self, key: str, waiter: _Waiter) -> None:
        with self._lock:
            waiters = self._waiters.get(key)
            if waiters is not None:
                waiters.pop(waiter, None)
                if not waiters:
                    del self._waiters[key]
                    self._rest(key)


def _bare(event: Event) -> Event:
    """Return `event` without a forger's ballast: of a hint nobody reads more than that it came."""
    fields: dict[str, Any] = attrs.asdict(event, recurse=False)
    long = {name: "" for name, value in fields.items() if isinstance(value, str) and len(value) > _LONG}
    return type(event)(**fields | long | {"extra": {}})


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

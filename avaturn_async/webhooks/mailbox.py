"""The mailbox: where a receiver stores events and pending objects wait for them. The default keeps them in memory."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from operator import attrgetter
from typing import Any, Protocol
from weakref import WeakSet

import attrs

from ..errors import ClientClosedError
from ..models import RenderReadyWebhook
from ..observe.dispatch import Observers
from .events import Event, keys_of

__all__ = ["Delivery", "Mailbox", "MemoryMailbox", "observe", "strip_untrusted"]

#: Text fields of an unauthenticated event that are longer, in characters, are emptied.
_LONGEST_TEXT = 128

#: Rows of unauthenticated events that are kept without an awaiter.
_MAX_UNAUTHENTICATED = 1000

#: The order of eviction. Exports and avatars can also be polled, renders can't.
_UNAUTHENTICATED, _POLLABLE, _RENDER = range(3)

#: Bytes of a row and its event besides the event's texts and unknown fields, measured.
_ROW_OVERHEAD = 600

#: The fields of any length, by the name of the event.
_TEXTS = {
    "avatar.ready": attrgetter("user_id", "session_id", "status"),
    "render.ready": attrgetter("user_id", "status", "render_url"),
    "export.ready": attrgetter("user_id", "status", "export_url"),
}


@attrs.frozen
class Delivery:
    """An event in a mailbox.

    Attributes:
        id: Unique to this delivery.
        event: The event.
        authenticated: Whether the sender of the event was verified.
        traceparent: The W3C trace context in which the receiver took it, or None.
    """

    id: str
    event: Event
    authenticated: bool = True
    traceparent: str | None = None


class Mailbox(Protocol):
    """Stores the last event of each key and wakes the awaiters of the key.

    Keys are ``export:{avatar_id}``, ``avatar:{avatar_id}`` and ``render:{render_id}``. An avatar's event that names its
    session is stored under ``session:{session_id}``, too, as the same delivery; a mailbox may leave that out, which
    makes waits for sessions slower (`keys_of` returns both). To keep events in a store of
    your own, implement these four methods and test them with `avaturn_async.testing.mailbox_contract`. A method whose
    store can't be used raises. If it raises `TransportError`, it is expected to have logged the outage; the receiver
    and the client log any other error.

    A mailbox that processes share can have a fifth method, ``async claim(name, owner, seconds)``. It returns whether
    `owner` holds `name`, as the first one to claim it does for so many seconds. With it, processes that resume one
    token set a customization once.
    """

    async def deliver(self, event: Event, *, authenticated: bool = True) -> None:
        """Store `event` under its key, with a fresh delivery id, and wake all awaiters of the key.

        A mailbox that keeps trace contexts has a further parameter, ``traceparent: str | None = None``.

        An event of an export or avatar replaces the stored one. The first event of a render stays, unless it was
        unauthenticated and `event` is authenticated. An unauthenticated event never replaces an authenticated one.
        Events are kept for some 15 minutes. This may be called from any thread that runs an event loop.
        """

    async def position(self, key: str) -> str:
        """Return the id of the delivery that is stored under `key`, or ``""``."""

    def wait(self, key: str, after: str) -> Awaitable[Delivery]:
        """Return an awaitable of the delivery under `key`, once its id differs from `after`.

        Deliveries before the call count. Cancelling the awaitable leaves nothing behind in the mailbox.
        """

    async def aclose(self) -> None:
        """End all waits, and all later calls, with `ClientClosedError`. Closing again does nothing."""


def observe(mailbox: object, observers: Observers) -> None:
    """Have a mailbox tell `observers` of its outages, if it is one that logs them."""
    if isinstance(groups := getattr(mailbox, "observers", None), WeakSet):
        groups.add(observers)


def strip_untrusted(event: Event) -> Event:
    """Return an unauthenticated event without unknown fields and long texts, which a forger could fill memory with."""
    fields: dict[str, Any] = attrs.asdict(event, recurse=False)
    long = {name: "" for name, value in fields.items() if isinstance(value, str) and len(value) > _LONGEST_TEXT}
    return type(event)(**fields | long | {"extra": {}})


class _Row:
    """A delivery under one key; a plain class, since making one with attrs would slow down the import of a client."""

    __slots__ = ("delivery", "expires", "rank", "size")

    def __init__(self, delivery: Delivery, expires: float, rank: int, size: int) -> None:
        self.delivery, self.expires, self.rank, self.size = delivery, expires, rank, size


class _Waiter(asyncio.Future[Delivery]):
    """The wait for a delivery. A done callback instead of `cancel` would take 170 bytes for each."""

    __slots__ = ("key", "mailbox")

    def __init__(self, mailbox: MemoryMailbox, key: str) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self.mailbox, self.key = mailbox, key

    def cancel(self, msg: Any = None) -> bool:
        cancelled = super().cancel(msg)
        if cancelled:
            self.mailbox._forget(self)
        return cancelled

    def end(self, delivery: Delivery | None) -> None:
        """Resolve on the loop of the wait; without a delivery, fail because the mailbox was closed."""
        loop = self.get_loop()
        if loop is not asyncio.get_running_loop():
            with suppress(RuntimeError):  # the loop is closed, and nothing waits on it any more
                loop.call_soon_threadsafe(self.end, delivery)
        elif delivery is not None and not self.done():
            self.set_result(delivery)
        elif not self.done():
            self.set_exception(ClientClosedError("the mailbox was closed while this was awaited"))
            self.exception()  # marks it as retrieved: an abandoned wait is no error to log


class MemoryMailbox:
    """The default mailbox: within one process, bounded in rows and bytes.

    Beyond a bound, the oldest events without an awaiter are evicted: unauthenticated ones first, then those of exports
    and avatars, then those of renders. At most 1,000 unauthenticated events are kept, and never at the expense of an
    authenticated one. All methods may be called from any thread and event loop.

    Args:
        ttl: Seconds that an event is kept. 15 minutes is as long as the url of a render is valid (contract).
        max_rows: The most events that are kept.
        max_bytes: The most memory that events take, as estimated.
        clock: Returns the current time in seconds.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        *,
        ttl: float = 900,
        max_rows: int = 10_000,
        max_bytes: int = 64 * 2**20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not ttl > 0:
            raise ValueError(f"ttl must be a positive number of seconds, not {ttl!r}")
        for name, value in (("max_rows", max_rows), ("max_bytes", max_bytes)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value!r}")
        self._ttl = ttl
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.RLock()  # a signal may cancel a wait in the midst of another call, as Ctrl-C does
        self._rows: OrderedDict[str, _Row] = OrderedDict()  # oldest first, which is also the first to expire
        self._evictable: tuple[OrderedDict[str, None], ...] = (OrderedDict(), OrderedDict(), OrderedDict())
        self._bytes = 0
        self._id_prefix = f"{time.time_ns():x}"  # resume tokens keep ids beyond the life of a process
        self._serials = itertools.count(1)
        self._waiters: dict[str, tuple[_Waiter, ...]] = {}
        self._closed = False

    async def deliver(self, event: Event, *, authenticated: bool = True, traceparent: str | None = None) -> None:
        """Store `event` under its key and wake all awaiters of the key; see `Mailbox.deliver`.

        Raises:
            ClientClosedError: The mailbox is closed.
        """
        is_render, rank = isinstance(event, RenderReadyWebhook), _UNAUTHENTICATED
        if authenticated:
            rank = _RENDER if is_render else _POLLABLE
        else:
            event = strip_untrusted(event)
        delivery = Delivery(f"{self._id_prefix}-{next(self._serials)}", event, authenticated, traceparent)
        size = _ROW_OVERHEAD + _size_of(event)
        for key in keys_of(event):
            with self._lock:
                row = _Row(delivery, self._check_open() + self._ttl, rank, size)
                stored = self._rows.get(key)
                if stored is not None:
                    if stored.rank > rank or (stored.rank == rank and is_render):
                        continue
                    self._remove(key)
                waiters = self._waiters.pop(key, ())
                if self._make_room(rank, size) or waiters:
                    self._rows[key] = row
                    self._evictable[rank][key] = None
                    self._bytes += size
            for waiter in waiters:
                waiter.end(delivery)

    async def position(self, key: str) -> str:
        """Return the id of the delivery that is stored under `key`, or ``""``.

        Raises:
            ClientClosedError: The mailbox is closed.
        """
        with self._lock:
            self._check_open()
            row = self._rows.get(key)
            return "" if row is None else row.delivery.id

    def wait(self, key: str, after: str) -> asyncio.Future[Delivery]:
        """Return a future of the delivery under `key`, once its id differs from `after`.

        Raises:
            ClientClosedError: The mailbox is closed, or (from the future) was closed meanwhile.
        """
        waiter = _Waiter(self, key)
        with self._lock:
            self._check_open()
            row = self._rows.get(key)
            if row is not None and row.delivery.id != after:
                waiter.set_result(row.delivery)
                return waiter
            if row is not None:
                self._evictable[row.rank].pop(key, None)
            self._waiters[key] = (*self._waiters.get(key, ()), waiter)
        return waiter

    async def aclose(self) -> None:
        """Drop all events and end all waits with `ClientClosedError`. Closing again does nothing."""
        with self._lock:
            self._closed = True
            waiters = [waiter for group in self._waiters.values() for waiter in group]
            self._waiters.clear()
            self._rows.clear()
            for keys in self._evictable:
                keys.clear()
        for waiter in waiters:
            waiter.end(None)

    def _check_open(self) -> float:
        """Raise if the mailbox is closed, drop expired rows and return the time; every method begins with this."""
        if self._closed:
            raise ClientClosedError("the mailbox is closed")
        now = self._clock()
        while self._rows and next(iter(self._rows.values())).expires <= now:
            self._remove(next(iter(self._rows)))
        return now

    def _make_room(self, rank: int, size: int) -> bool:
        """Evict the oldest rows that nobody awaits until a row of this rank and size fits; return whether it does."""
        unauthenticated = self._evictable[_UNAUTHENTICATED]
        if rank == _UNAUTHENTICATED and len(unauthenticated) >= _MAX_UNAUTHENTICATED:
            self._remove(next(iter(unauthenticated)))
        while len(self._rows) >= self._max_rows or self._bytes + size > self._max_bytes:
            ranks = self._evictable[: 1 if rank == _UNAUTHENTICATED else None]
            keys = next((each for each in ranks if each), None)
            if keys is None:
                return False
            self._remove(next(iter(keys)))
        return True

    def _remove(self, key: str) -> None:
        row = self._rows.pop(key)
        self._evictable[row.rank].pop(key, None)
        self._bytes -= row.size

    def _forget(self, waiter: _Waiter) -> None:
        """Drop a cancelled waiter; its key's event can be evicted again if no other is left."""
        key = waiter.key
        with self._lock:
            waiters = self._waiters.get(key, ())
            if waiter not in waiters:
                return
            self._waiters[key] = tuple(each for each in waiters if each is not waiter)
            if not self._waiters[key]:
                del self._waiters[key]
                if key in self._rows:
                    self._evictable[self._rows[key].rank][key] = None


def _size_of(event: Event) -> int:
    """Estimate the bytes of memory that an event takes, whatever JSON is in its unknown fields."""
    size = sum(map(sys.getsizeof, _TEXTS[event.event](event)))
    values: list[Any] = [dict(event.extra)] if event.extra else []
    while values:
        value = values.pop()
        size += sys.getsizeof(value)
        if isinstance(value, dict):
            values += value.keys()
            values += value.values()
        elif isinstance(value, list):
            values += value
    return size

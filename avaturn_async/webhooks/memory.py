"""A mailbox within one process."""

from __future__ import annotations

import asyncio
import itertools
import re
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import ClientClosedError
from ..models import ExportReadyWebhook, RenderReadyWebhook
from .hints import bare
from .mailbox import Delivery

if TYPE_CHECKING:
    from collections.abc import Callable

    from .events import Event

__all__ = ["MemoryMailbox"]

#: Rows of events that were not authenticated: mere hints, of which anyone can send any number.
_MOST_HINTS = 1000

#: Which rows are evicted first: hints, then what can be read again, then renders, which can't.
_HINT, _JOB, _RENDER = range(3)

#: What a row stands under: the bytes of a key's UUID and a letter for its kind, since to write a key costs more than
#: all else that a delivery does. Bytes and no number: whose hash, unlike theirs, anybody can make collide.
_Place: TypeAlias = bytes | str

_LETTERS = {"export": b"e", "avatar": b"a", "render": b"r"}
_CANONICAL = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class _Row(Delivery):
    """A delivery, and what the mailbox notes about it: one object, since each event makes one."""

    __slots__ = ("aside", "expires", "key")

    key: _Place
    expires: float
    aside: bool  # out of its queue, as it is awaited; set where it was ever true

    @property
    def rank(self) -> int:
        """Which queue it stands in."""
        if not self.authenticated:
            return _HINT
        return _RENDER if isinstance(self.event, RenderReadyWebhook) else _JOB

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Delivery) and _fields(self) == _fields(other)

    __hash__ = Delivery.__hash__


_set_key, _set_expires, _set_aside = (getattr(_Row, name).__set__ for name in ("key", "expires", "aside"))


class _Waiter(asyncio.Future[Delivery]):
    """Somebody who waits for the next row of a key; a subclass, since a callback for each would cost more than it."""

    __slots__ = ("_key", "_mailbox")

    def __init__(self, mailbox: MemoryMailbox, key: _Place) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self._mailbox = mailbox
        self._key = key

    def cancel(self, msg: Any = None) -> bool:
        """Cancel, and be forgotten; soon, since a garbage collector may call this while the mailbox is locked."""
        cancelled = super().cancel(msg)
        if cancelled and not self.get_loop().is_closed():
            self.get_loop().call_soon(self._mailbox._forget, self._key, self)
        return cancelled


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
        self._rows: dict[_Place, _Row] = {}
        self._queues: tuple[deque[_Row], ...] = (deque(), deque(), deque())  # of each rank; the oldest row first
        self._hints = 0
        self._sweep_at = float("-inf")
        # One for a key, as a rule: a dict would be twice its size.
        self._waiters: dict[_Place, _Waiter | dict[_Waiter, None]] = {}
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
        self._put(event, authenticated)

    def _put(self, event: Event, authenticated: bool) -> None:
        key = _place_of(event)
        with self._lock:
            if self._closed:
                raise _closed()
            row = self._store(key, event, authenticated)
            waiting = None if row is None else self._waiters.pop(key, None)
        if waiting is not None:
            _wake(waiting, row)

    async def position(self, key: str) -> str:
        """Return the id of the row that stands under `key`, or ``""``."""
        with self._lock:
            self._check_open()
            row = self._row(_place(key))
            return "" if row is None else row.id

    def wait(self, key: str, after: str) -> asyncio.Future[Delivery]:
        """Return a future for the key's row as soon as its id differs from `after`; cancelling it forgets it.

        Raises:
            ClientClosedError: the mailbox was closed; also from a future that was waiting.
        """
        place = _place(key)
        waiter = _Waiter(self, place)
        with self._lock:
            self._check_open()
            row = self._row(place)
            if row is None or row.id == after:
                self._enlist(place, waiter)
            else:
                waiter.set_result(row)
        return waiter

    async def aclose(self) -> None:
        """Forget all rows; who still waits gets ClientClosedError. Calling it again does nothing."""
        with self._lock:
            self._closed = True
            left = list(self._waiters.values())
            self._waiters.clear()
            self._rows.clear()
            for queue in self._queues:
                queue.clear()
        for waiting in left:
            _wake(waiting, None)

    def _check_open(self) -> None:
        if self._closed:
            raise _closed()

    def _row(self, key: _Place) -> _Row | None:
        row = self._rows.get(key)
        return row if row is not None and row.expires > self._clock() else None

    def _store(self, key: _Place, event: Event, authenticated: bool) -> _Row | None:
        now, rows = self._clock(), self._rows
        standing = rows.get(key)
        only = True
        if standing is not None:
            if standing.expires > now:
                if not _replaces(event, standing, authenticated=authenticated):
                    return None
                only = authenticated and not standing.authenticated
            self._hints -= not standing.authenticated
        if not authenticated:
            event = bare(event)
            self._hints += 1
        row = rows[key] = _Row(f"{self._prefix}-{next(self._ids)}", event, authenticated, only)
        _set_key(row, key)
        _set_expires(row, now + self._ttl)
        rank = _JOB if authenticated and type(event) is ExportReadyWebhook else row.rank
        if now >= self._sweep_at or len(rows) > self._max_rows or self._hints > _MOST_HINTS:
            self._make_room(now, rank)
        queue = self._queues[rank]
        queue.append(row)
        if len(queue) > 2 * len(rows) + 16:
            self._tidy(queue)
        return row

    def _make_room(self, now: float, rank: int) -> None:
        """Drop expired rows, and evict what is too many of what may make room for a row of this rank."""
        if now >= self._sweep_at:
            self._sweep(now)
        if self._hints > _MOST_HINTS:
            self._evict(_HINT)
        while len(self._rows) > self._max_rows and self._evict_for(rank):
            pass

    def _evict_for(self, rank: int) -> bool:
        if self._hints and self._evict(_HINT):
            return True
        return rank != _HINT and (self._evict(_JOB) or self._evict(_RENDER))

    def _sweep(self, now: float) -> None:
        for queue in self._queues:
            while queue and queue[0].expires <= now:
                self._drop(queue.popleft())
        self._sweep_at = min((queue[0].expires for queue in self._queues if queue), default=now + self._ttl)

    def _evict(self, rank: int) -> bool:
        """Drop the oldest row of this rank that nobody awaits; those that are awaited leave the queue meanwhile."""
        queue = self._queues[rank]
        while queue:
            row = queue.popleft()
            if self._rows.get(row.key) is not row:
                continue
            if row.key not in self._waiters:
                self._drop(row)
                return True
            _set_aside(row, True)
        return False

    def _drop(self, row: _Row) -> None:
        if self._rows.get(row.key) is row:
            del self._rows[row.key]
            self._hints -= not row.authenticated

    def _tidy(self, queue: deque[_Row]) -> None:
        """Forget the rows that were replaced, which are the most by now."""
        standing = [each for each in queue if self._rows.get(each.key) is each]
        queue.clear()
        queue.extend(standing)

    def _enlist(self, key: _Place, waiter: _Waiter) -> None:
        others = self._waiters.setdefault(key, waiter)
        if isinstance(others, dict):
            others[waiter] = None
        elif others is not waiter:
            self._waiters[key] = {others: None, waiter: None}

    def _forget(self, key: _Place, waiter: _Waiter) -> None:
        with self._lock:
            waiting = self._waiters.get(key)
            if isinstance(waiting, dict):
                waiting.pop(waiter, None)
            if waiting is waiter or waiting == {}:
                del self._waiters[key]
                row = self._rows.get(key)
                if row is not None and getattr(row, "aside", False):
                    _set_aside(row, False)
                    self._queues[row.rank].append(row)


def _place(key: str) -> _Place:
    """Return where the row of a key stands; a key of an unknown form stands under itself."""
    kind, _, text = key.partition(":")
    letter = _LETTERS.get(kind)
    if letter is None or not _CANONICAL.fullmatch(text):
        return key
    return bytes.fromhex(text.replace("-", "")) + letter


def _place_of(event: Event) -> bytes:
    """Return where the row of an event stands; this is `_place(key_of(event))`, without the text."""
    if isinstance(event, ExportReadyWebhook):
        return event.avatar_id.int.to_bytes(16, "big") + b"e"
    if isinstance(event, RenderReadyWebhook):
        return event.id.int.to_bytes(16, "big") + b"r"
    return event.avatar_id.int.to_bytes(16, "big") + b"a"


def _replaces(event: Event, standing: Delivery, *, authenticated: bool) -> bool:
    if standing.authenticated:
        return authenticated and not isinstance(event, RenderReadyWebhook)
    return authenticated or not isinstance(event, RenderReadyWebhook)


def _wake(waiting: _Waiter | dict[_Waiter, None], delivery: Delivery | None) -> None:
    here = asyncio._get_running_loop()
    if type(waiting) is _Waiter and delivery is not None and waiting.get_loop() is here:  # as it is, as a rule
        if not waiting.done():
            waiting.set_result(delivery)
        return
    for waiter in waiting if isinstance(waiting, dict) else (waiting,):
        loop = waiter.get_loop()
        if loop is here:
            _resolve(waiter, delivery)
            continue
        with suppress(RuntimeError):  # its loop is closed: nobody waits there any more
            loop.call_soon_threadsafe(_resolve, waiter, delivery)


def _resolve(waiter: _Waiter, delivery: Delivery | None) -> None:
    if waiter.done():
        return
    if delivery is None:
        waiter.set_exception(ClientClosedError("the mailbox was closed while this was awaited"))
        waiter.exception()  # whoever waits may be gone: no log for it
    else:
        waiter.set_result(delivery)


def _fields(delivery: Delivery) -> tuple[object, ...]:
    return delivery.id, delivery.event, delivery.authenticated, delivery.only


def _closed() -> ClientClosedError:
    return ClientClosedError("the mailbox is closed")

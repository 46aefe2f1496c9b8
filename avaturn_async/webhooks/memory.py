"""A mailbox within one process."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..errors import ClientClosedError
from ..models import RenderReadyWebhook
from .hints import bare
from .mailbox import Delivery
from .rows import AUTHENTICATED, EXPIRES, ONLY, PLACE, RENDERS_END, SERIAL, event_in, make_row, place_of, place_under

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from .events import Event
    from .rows import Place, Row

__all__ = ["MemoryMailbox"]

#: Rows of events that were not authenticated: mere hints, of which anyone can send any number.
_MOST_HINTS = 1000

#: Which rows are evicted first: hints, then what can be read again, then renders, which can't.
_HINT, _JOB, _RENDER = range(3)

_new = object.__new__
_set_id, _set_event, _set_authenticated, _set_only = (
    getattr(Delivery, name).__set__ for name in ("id", "event", "authenticated", "only")
)


class _Waiter(asyncio.Future[Any]):
    """Somebody who waits for the next row of a key; a subclass, since a callback for each would cost more than it.

    It is resolved with a row, and makes the delivery for who asks: one that was made at once would only burden the
    garbage collector until then.
    """

    __slots__ = ("_event", "_key", "_mailbox")

    def __init__(self, mailbox: MemoryMailbox, key: Place) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self._mailbox = mailbox
        self._key = key

    def wake(self, row: Row, event: Event) -> None:
        """Resolve it with a row and the event in it."""
        self._event = event
        self.set_result(row)

    def result(self) -> Delivery:
        """Return the delivery."""
        return self._mailbox._delivery(super().result(), self._event)

    def __await__(self) -> Generator[Any, None, Delivery]:
        yield from super().__await__()
        return self.result()

    __iter__ = __await__

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
        self._rows: dict[Place, Row] = {}
        self._queues: tuple[deque[Row], ...] = (deque(), deque(), deque())  # of each rank; the oldest row first
        self._aside: set[Place] = set()  # of rows that are out of their queue, as they are awaited
        self._hints = 0
        self._sweep_at = float("-inf")
        # One for a key, as a rule: a dict would be twice its size.
        self._waiters: dict[Place, _Waiter | dict[_Waiter, None]] = {}
        self._serials = itertools.count(1)
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
        place = place_of(event)
        with self._lock:
            self._check_open()
            row = self._store(place, event, authenticated)
            waiting = None if row is None else self._waiters.pop(place, None)
        if row is not None and waiting is not None:
            _wake(waiting, row, event if authenticated else event_in(row))

    async def position(self, key: str) -> str:
        """Return the id of the row that stands under `key`, or ``""``."""
        with self._lock:
            self._check_open()
            row = self._row(place_under(key))
            return "" if row is None else self._id(row)

    def wait(self, key: str, after: str) -> asyncio.Future[Delivery]:
        """Return a future for the key's row as soon as its id differs from `after`; cancelling it forgets it.

        Raises:
            ClientClosedError: the mailbox was closed; also from a future that was waiting.
        """
        place = place_under(key)
        waiter = _Waiter(self, place)
        with self._lock:
            self._check_open()
            row = self._row(place)
            if row is None or self._id(row) == after:
                self._enlist(place, waiter)
            else:
                waiter.wake(row, event_in(row))
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
            _tell(waiting, _refuse)

    def _check_open(self) -> None:
        if self._closed:
            raise _closed()

    def _row(self, place: Place) -> Row | None:
        row = self._rows.get(place)
        return row if row is not None and row[EXPIRES] > self._clock() else None

    def _id(self, row: Row) -> str:
        return f"{self._prefix}-{row[SERIAL]}"

    def _delivery(self, row: Row, event: Event) -> Delivery:
        delivery = _new(Delivery)
        _set_id(delivery, self._id(row))
        _set_event(delivery, event)
        _set_authenticated(delivery, row[AUTHENTICATED])
        _set_only(delivery, row[ONLY])
        return delivery

    def _store(self, place: bytes, event: Event, authenticated: bool) -> Row | None:
        now, rows = self._clock(), self._rows
        standing = rows.get(place)
        only = True
        if standing is not None:
            if standing[EXPIRES] > now:
                if not _replaces(event, standing, authenticated=authenticated):
                    return None
                only = authenticated and not standing[AUTHENTICATED]
            self._forget_row(standing)
        if not authenticated:
            event = bare(event)
            self._hints += 1
        row = rows[place] = make_row(place, now + self._ttl, next(self._serials), authenticated, only, event)
        rank = _rank_of(row)
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
            while queue and queue[0][EXPIRES] <= now:
                self._drop(queue.popleft())
        self._sweep_at = min((queue[0][EXPIRES] for queue in self._queues if queue), default=now + self._ttl)

    def _evict(self, rank: int) -> bool:
        """Drop the oldest row of this rank that nobody awaits; those that are awaited leave the queue meanwhile."""
        queue = self._queues[rank]
        while queue:
            row = queue.popleft()
            if self._rows.get(row[PLACE]) is not row:
                continue
            if row[PLACE] not in self._waiters:
                self._drop(row)
                return True
            self._aside.add(row[PLACE])
        return False

    def _drop(self, row: Row) -> None:
        if self._rows.get(row[PLACE]) is row:
            del self._rows[row[PLACE]]
            self._forget_row(row)

    def _forget_row(self, row: Row) -> None:
        """Count no more a row that was dropped or replaced."""
        self._hints -= not row[AUTHENTICATED]
        self._aside.discard(row[PLACE])

    def _tidy(self, queue: deque[Row]) -> None:
        """Forget the rows that were replaced, which are the most by now."""
        standing = [each for each in queue if self._rows.get(each[PLACE]) is each]
        queue.clear()
        queue.extend(standing)

    def _enlist(self, key: Place, waiter: _Waiter) -> None:
        others = self._waiters.setdefault(key, waiter)
        if isinstance(others, dict):
            others[waiter] = None
        elif others is not waiter:
            self._waiters[key] = {others: None, waiter: None}

    def _forget(self, key: Place, waiter: _Waiter) -> None:
        with self._lock:
            waiting = self._waiters.get(key)
            if isinstance(waiting, dict):
                waiting.pop(waiter, None)
            if waiting is waiter or waiting == {}:
                del self._waiters[key]
                if key in self._aside:
                    self._aside.remove(key)
                    row = self._rows[key]
                    self._queues[_rank_of(row)].append(row)


def _rank_of(row: Row) -> int:
    """Say which queue a row stands in."""
    if not row[AUTHENTICATED]:
        return _HINT
    return _RENDER if row[PLACE][-1] == RENDERS_END else _JOB


def _replaces(event: Event, standing: Row, *, authenticated: bool) -> bool:
    if standing[AUTHENTICATED]:
        return authenticated and not isinstance(event, RenderReadyWebhook)
    return authenticated or not isinstance(event, RenderReadyWebhook)


def _wake(waiting: _Waiter | dict[_Waiter, None], row: Row, event: Event) -> None:
    if type(waiting) is _Waiter and waiting.get_loop() is asyncio._get_running_loop():  # as it is, as a rule
        _resolve(waiting, row, event)
    else:
        _tell(waiting, _resolve, row, event)


def _tell(waiting: _Waiter | dict[_Waiter, None], function: Callable[..., None], *arguments: Any) -> None:
    """Call a function with each waiter, on the waiter's loop."""
    here = asyncio._get_running_loop()
    for waiter in waiting if isinstance(waiting, dict) else (waiting,):
        loop = waiter.get_loop()
        if loop is here:
            function(waiter, *arguments)
            continue
        with suppress(RuntimeError):  # its loop is closed: nobody waits there any more
            loop.call_soon_threadsafe(function, waiter, *arguments)


def _resolve(waiter: _Waiter, row: Row, event: Event) -> None:
    if not waiter.done():
        waiter.wake(row, event)


def _refuse(waiter: _Waiter) -> None:
    if not waiter.done():
        waiter.set_exception(ClientClosedError("the mailbox was closed while this was awaited"))
        waiter.exception()  # whoever waits may be gone: no log for it


def _closed() -> ClientClosedError:
    return ClientClosedError("the mailbox is closed")

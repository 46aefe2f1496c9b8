"""What the mailboxes in Redis and Postgres share.

The row of a key is the truth. A notification only says that a row is new, so a lost one costs nothing but time: a row
is read when a wait for its key begins, when its key is notified, when the subscription is established anew, and every
few seconds in any case.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import partial
from itertools import islice
from typing import ClassVar, Protocol, TypeVar
from weakref import WeakSet

from ..errors import AvaturnError, ClientClosedError, TransportError, WrongLoopError
from ..http import codec
from ..http.delays import backoff
from ..http.tasks import is_cancelled
from ..models import RenderReadyWebhook
from ..observe.dispatch import Observers, tell_once, valid_traceparent
from ..observe.observer import MailboxInfo
from ..redact import Secret
from .events import Event, UnknownEvent, keys_of, parse_event
from .mailbox import Delivery, strip_untrusted

__all__ = ["Store", "StoreMailbox", "StoredRow"]

logger: logging.Logger = logging.getLogger(__name__)

T = TypeVar("T")
_Waiter = asyncio.Future[Delivery]

#: The version of the row format. Readers ignore fields that they don't know; it changes only if that is not enough.
_ROW_VERSION = 1
#: Seconds that an unauthenticated event is kept: a flood of them leaves no more than that of the last minute.
_UNAUTHENTICATED_TTL = 60.0
#: Seconds between two deletions of expired rows by one process.
_SWEEP_EVERY = 10.0
#: Rows that are read at once.
_CHUNK = 500
#: Seconds: the bounds of the delay before the store is tried again.
_BACKOFF_BASE, _BACKOFF_CAP = 0.1, 5.0
_MAX_SECONDS = 366 * 86_400
#: Unusable rows that are logged; if there are more, these tell enough.
_MAX_REPORTED = 20


class StoredRow:
    """A delivery as it is written to a store."""

    def __init__(self, event: Event, *, authenticated: bool, ttl: float, traceparent: str | None = None) -> None:
        self.key: str = keys_of(event)[0]
        self.is_render: bool = isinstance(event, RenderReadyWebhook)
        self.authenticated = authenticated
        self.ttl: float = ttl if authenticated else min(ttl, _UNAUTHENTICATED_TTL)
        body = codec.dumps(event if authenticated else strip_untrusted(event)).decode()
        fields = {"v": _ROW_VERSION, "id": uuid.uuid4().hex, "authenticated": authenticated, "event": body}
        if traceparent is not None:
            fields["traceparent"] = traceparent
        self.text: Secret = Secret(codec.dumps(fields).decode())  # it has the signed url: no traceback may show it


class _Claim(StoredRow):
    """A row that keeps its owner until it expires, as the first event of a render is kept."""

    def __init__(self, name: str, owner: str, ttl: float) -> None:
        self.key, self.is_render, self.authenticated, self.ttl = f"render:{name}", True, True, ttl
        self.text = Secret(codec.dumps({"authenticated": True, "owner": owner}).decode())


def _delivery_in(key: str, text: str | bytes) -> Delivery:
    """Parse a row; raise ValueError if another program, or an incompatible release, wrote it."""
    try:
        fields = codec.parse_json(text)
        event = parse_event(fields["event"])
        traceparent = valid_traceparent(fields.get("traceparent"))  # not written by 0.1
        delivery = Delivery(fields["id"], event, fields["authenticated"], traceparent)  # type: ignore[arg-type]
        known = fields["v"] == _ROW_VERSION and not isinstance(event, UnknownEvent) and key in keys_of(event)
        if known and isinstance(delivery.id, str) and isinstance(delivery.authenticated, bool):
            return delivery
    except (AvaturnError, LookupError, TypeError, ValueError):
        pass
    raise ValueError("unknown format")


class Store(Protocol):
    """A connection to the store, for one event loop."""

    #: What the driver raises if the store can't be reached or refuses.
    errors: tuple[type[Exception], ...]
    #: Those of them after which nothing is known of the store.
    connection_errors: tuple[type[Exception], ...]

    async def write(self, row: StoredRow) -> None:
        """Write `row` unless the stored one takes precedence (`Mailbox.deliver`), and notify its key."""

    async def read(self, keys: Sequence[str]) -> Mapping[str, str | bytes | Exception]:
        """Return the rows of `keys`, without those that don't exist; an error concerns its own key alone."""

    async def sweep(self) -> None:
        """Delete expired rows, unless the store does so by itself."""

    def notifications(self) -> AsyncGenerator[str | None, None]:
        """Subscribe; yield None whenever the subscription is established, and each key that is notified."""

    def concerns_key(self, error: Exception) -> bool:
        """Return whether an error of `write` is about the row's key and not about the store."""

    async def aclose(self) -> None:
        """Close the connection, unless it is borrowed."""


class StoreMailbox(ABC):
    """The base of mailboxes whose rows are in a store that processes share.

    Waits belong to one event loop. Deliveries and positions may be asked for on any loop; on another one than that of
    the waits, each opens a connection of its own.
    """

    _store_name: ClassVar[str]

    def __init__(self, *, borrowed: bool, ttl: float, timeout: float, ping_every: float, reread_every: float) -> None:
        options = {"ttl": ttl, "timeout": timeout, "reread_every": reread_every, "ping_every": ping_every}
        for name, seconds in options.items():
            if not 0 < seconds <= _MAX_SECONDS:
                raise ValueError(f"{name} must be a positive number of seconds of at most a year, not {seconds!r}")
        self._borrowed = borrowed
        self._ttl = ttl
        self._timeout = timeout
        self._ping_every = ping_every
        self._reread_every = reread_every
        self._home: _Watch | None = None
        self._health = _Health(self._store_name, type(self).__name__)
        self.observers: WeakSet[Observers] = self._health.observers
        self._closed = False
        self._sweep_at = 0.0

    @abstractmethod
    def _connect(self, *, brief: bool = False) -> Store:
        """Make a connection of the running loop, which is opened when it is first used; `brief` is for one call."""

    async def deliver(self, event: Event, *, authenticated: bool = True, traceparent: str | None = None) -> None:
        """Store `event` under its key and wake all awaiters of the key, in every process; see `Mailbox.deliver`.

        Raises:
            ClientClosedError: The mailbox is closed.
            TransportError: The store can't be used. The event may have been stored nevertheless.
            WrongLoopError: The connection is borrowed and belongs to another event loop.
        """
        row = StoredRow(event, authenticated=authenticated, ttl=self._ttl, traceparent=traceparent)
        for row.key in keys_of(event):  # the same delivery under each
            await self._call("write", lambda store: store.write(row), f"use the row of {row.key}")
        if time.monotonic() >= self._sweep_at:
            self._sweep_at = time.monotonic() + _SWEEP_EVERY
            with suppress(AvaturnError):  # it is logged, and the event is stored
                await self._call("sweep", lambda store: store.sweep(), "delete expired rows")

    async def position(self, key: str) -> str:
        """Return the id of the delivery that is stored under `key`, or ``""``.

        Raises:
            ClientClosedError, TransportError, WrongLoopError: As from `deliver`.
        """
        rows = await self._call("read", lambda store: store.read([key]), f"use the row of {key}")
        delivery = self._health.check(key, rows.get(key))
        return "" if delivery is None else delivery.id

    async def claim(self, name: str, owner: str, seconds: float) -> bool:
        """Return whether `owner` holds `name`: for so many seconds the first one does that claimed it, in any process.

        It raises as `deliver` does.
        """
        row = _Claim(name, owner, seconds)
        await self._call("write", lambda store: store.write(row), f"use the row of {row.key}")
        rows = await self._call("read", lambda store: store.read([row.key]), f"use the row of {row.key}")
        return rows.get(row.key) in (row.text, row.text.encode())

    def wait(self, key: str, after: str) -> asyncio.Future[Delivery]:
        """Return a future of the delivery under `key`, once its id differs from `after`.

        While the store can't be used the future stays pending.

        Raises:
            ClientClosedError: The mailbox is closed, or (from the future) was closed meanwhile.
            WrongLoopError: There are waits on another event loop.
        """
        return self._at_home(to_wait=True).wait(key, after)

    async def aclose(self) -> None:
        """Close the connections and end all waits with `ClientClosedError`. Rows stay. Closing again does nothing."""
        self._closed = True
        home, self._home = self._home, None
        if home is not None and home.loop.is_running():
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(home.aclose(), home.loop))

    def _at_home(self, *, to_wait: bool = False) -> _Watch:
        """Return the connection and waits of the home loop: the first one used, or later the first one that waits."""
        loop, old = asyncio.get_running_loop(), self._home
        if self._closed:
            raise ClientClosedError("the mailbox is closed")
        if old is not None and (old.loop is loop or not (to_wait or old.loop.is_closed())):
            return old
        if old is not None and not old.loop.is_closed():
            if old.waiters or self._borrowed:
                raise WrongLoopError("the mailbox is in use on another event loop; make one for each loop that waits")
            if old.loop.is_running():
                asyncio.run_coroutine_threadsafe(old.aclose(), old.loop)
        self._home = _Watch(self._connect(), self._health, timeout=self._timeout, reread_every=self._reread_every)
        return self._home

    async def _call(self, use: str, call: Callable[[Store], Awaitable[T]], deed: str) -> T:
        """Make one exchange with the store; errors of its driver become a TransportError without cause and context."""
        home = self._at_home()
        away = home.loop is not asyncio.get_running_loop()
        if away and self._borrowed:
            raise WrongLoopError("the mailbox borrows a connection of another event loop")
        store = self._connect(brief=True) if away else home.store
        if not away:
            await home.close_with_loop()
        try:
            async with asyncio.timeout(self._timeout):
                result = await call(store)
            self._health.succeeded(use, "connection")
            return result
        except store.errors as error:
            problem = type(error).__name__
            if isinstance(error, store.connection_errors):
                self._health.failed("connection", problem)
            elif use == "sweep" or store.concerns_key(error):
                self._health.report(deed, error)
            else:
                self._health.failed(use, problem)
        finally:
            if away:
                await store.aclose()
        raise TransportError(f"the mailbox's {self._store_name} can't be used ({problem})")


class _Health:
    """What fails at present, so that each outage is logged once, and each unusable row once.

    The uses of a store are "listener" and "rows", the two tasks of a watch, "connection", all other calls, and
    "subscription", "read" and "write", which the store may refuse though it can be reached.
    """

    def __init__(self, store_name: str, mailbox_name: str) -> None:
        self._store_name = store_name
        self._mailbox_name = mailbox_name
        self.observers: WeakSet[Observers] = WeakSet()
        self._failing: set[str] = set()
        self._reported: set[str] = set()

    def failed(self, use: str, problem: str) -> None:
        """Note that a use of the store fails, and log the first one: an outage begins."""
        if not self._failing:
            logger.warning("the mailbox's %s can't be used (%s); waits go on by polling", self._store_name, problem)
            self._tell("mailbox_failed", error=problem)
        self._failing.add(use)

    def succeeded(self, *uses: str) -> None:
        """Note that uses of the store work, and log if nothing fails any more."""
        if self._failing and self._failing.issubset(uses):
            logger.info("the mailbox's %s can be used again", self._store_name)
            self._tell("mailbox_recovered")
        self._failing.difference_update(uses)

    def _tell(self, what: str, **facts: str) -> None:
        tell_once(list(self.observers), what, MailboxInfo(mailbox=self._mailbox_name, **facts))

    def suspend(self, *uses: str) -> None:
        """Note that uses ended; if one of them failed, the outage goes on until anything else works."""
        if not self._failing.isdisjoint(uses):
            self._failing.difference_update(uses)
            self._failing.add("connection")

    def check(self, key: str, row: str | bytes | Exception | None) -> Delivery | None:
        """Return the delivery in a row that was read; an unusable row is logged, and is like none."""
        if row is None:
            return None
        if isinstance(row, Exception):
            problem = row
        else:
            try:
                return _delivery_in(key, row)
            except ValueError as error:
                problem = error
        self.report(f"use the row of {key}", problem)
        return None

    def report(self, deed: str, problem: Exception) -> None:
        """Log what can't be done although the store can be used, each deed once, and at most 20 of them."""
        if deed in self._reported or len(self._reported) >= _MAX_REPORTED:
            return
        self._reported.add(deed)
        reason = str(problem) if type(problem) is ValueError else type(problem).__name__
        logger.warning("the mailbox in %s can't %s (%s)", self._store_name, deed, reason)


class _Watch:
    """The waits of one event loop, and the two tasks that serve them while there are any."""

    def __init__(self, store: Store, health: _Health, *, timeout: float, reread_every: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.store = store
        self.waiters: dict[str, dict[_Waiter, str]] = {}
        self._health = health
        self._timeout = timeout
        self._reread_every = reread_every
        self._tasks: list[asyncio.Task[None]] = []
        self._ending: set[asyncio.Task[None]] = set()
        self._unread: set[str] = set()
        self._has_unread = asyncio.Event()
        self._subscribed = False
        self._closing: AsyncGenerator[None, None] | None = None

    def wait(self, key: str, after: str) -> _Waiter:
        """Register a waiter; its row is read afterwards, so that no delivery is missed."""
        waiter: _Waiter = self.loop.create_future()
        self.waiters.setdefault(key, {})[waiter] = after
        waiter.add_done_callback(partial(self._forget, key))
        if self._subscribed:
            self._mark_unread((key,))
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(each, name="avaturn-async mailbox") for each in (self._listen(), self._read())
            ]
        return waiter

    async def close_with_loop(self) -> None:
        """Have `asyncio.run` close the connection when its loop ends, for apps that deliver on short-lived loops."""
        if self._closing is None:
            self._closing = self._close_at_the_end()
            await anext(self._closing)

    async def _close_at_the_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:  # by loop.shutdown_asyncgens()
            await self.store.aclose()

    async def aclose(self) -> None:
        """End all waits with ClientClosedError, and close the connection."""
        for waiter in [each for waiters in self.waiters.values() for each in waiters if not each.done()]:
            waiter.set_exception(ClientClosedError("the mailbox was closed while this was awaited"))
            waiter.exception()  # marks it as retrieved: an abandoned wait is no error to log
        self.waiters.clear()
        self._stop_if_idle()
        await asyncio.gather(*self._ending, return_exceptions=True)
        if self._closing is None:
            await self.store.aclose()
        else:
            await self._closing.aclose()

    def _forget(self, key: str, waiter: _Waiter) -> None:
        waiters = self.waiters.get(key, {})
        waiters.pop(waiter, None)
        if not waiters:
            self.waiters.pop(key, None)
        if not self.waiters:  # soon, as those who were woken may wait again at once
            self.loop.call_soon(self._stop_if_idle)

    def _stop_if_idle(self) -> None:
        if self.waiters:
            return
        for task in self._tasks:
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
        self._tasks = []
        self._subscribed = False
        self._health.suspend("listener", "rows")

    def _mark_unread(self, keys: Iterable[str]) -> None:
        self._unread.update(key for key in keys if key in self.waiters)
        self._has_unread.set()

    async def _listen(self) -> None:
        """Keep the subscription established, and mark the rows of notified keys as unread."""
        failures = 0
        while True:
            try:
                async with aclosing(self.store.notifications()) as notifications:
                    async for key in notifications:
                        _raise_if_cancelled()
                        if key is None:
                            failures, self._subscribed = 0, True
                            self._health.succeeded("subscription", "listener")
                        self._mark_unread(self.waiters if key is None else (key,))
            except Exception as error:  # noqa: BLE001 - whatever the driver raises, waits go on
                _raise_if_cancelled()
                self._note_failure(error, "listener", "subscription")
            self._subscribed = False
            failures += 1
            await asyncio.sleep(backoff(failures, base=_BACKOFF_BASE, cap=_BACKOFF_CAP))

    async def _read(self) -> None:
        """Read unread rows, and every `reread_every` seconds those of all waiters."""
        failures, reread_at = 0, self.loop.time() + self._reread_every
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(reread_at):
                    await self._has_unread.wait()
            if self.loop.time() >= reread_at:
                self._unread.update(self.waiters)
                reread_at = self.loop.time() + self._reread_every
            self._has_unread.clear()
            try:
                while self._unread:
                    await self._read_some()
                failures = 0
            except Exception as error:  # noqa: BLE001 - whatever the driver raises, waits go on
                _raise_if_cancelled()
                self._note_failure(error, "rows", "read")
                failures += 1
                await asyncio.sleep(backoff(failures, base=_BACKOFF_BASE, cap=_BACKOFF_CAP))
                self._has_unread.set()

    def _note_failure(self, error: Exception, broken: str, refused: str) -> None:
        use = broken if isinstance(error, self.store.connection_errors) else refused
        self._health.failed(use, type(error).__name__)

    async def _read_some(self) -> None:
        keys = list(islice(self._unread, _CHUNK))
        self._unread.difference_update(keys)  # before the read: a notification that comes meanwhile is about a new row
        try:
            async with asyncio.timeout(self._timeout):
                rows = await self.store.read(keys)
        except BaseException:
            self._unread.update(keys)
            raise
        _raise_if_cancelled()
        self._health.succeeded("rows", "read", "connection")
        for key, row in rows.items():
            delivery = self._health.check(key, row)
            for waiter, after in self.waiters.get(key, {}).items():
                if delivery is not None and after != delivery.id and not waiter.done():
                    waiter.set_result(delivery)


def _raise_if_cancelled() -> None:
    """Raise a cancellation that the driver swallowed, as `asyncio.wait_for` does on 3.11 if a result came just then."""
    if is_cancelled():
        raise asyncio.CancelledError

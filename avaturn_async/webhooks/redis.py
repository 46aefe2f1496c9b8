"""A mailbox in Redis, for apps of many processes: the webhook reaches one, the waiter is in another.

The row of a key is the truth. Pub/sub carries the key alone and only wakes, so a lost message costs nothing: whenever
the subscription stands anew, the rows of all who wait are read again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import AvaturnError, ClientClosedError, TransportError, WrongLoopError
from ..http import codec
from ..redact import Secret
from .events import Event, UnknownEvent, key_of, parse_event
from .mailbox import Delivery, strip_untrusted

try:
    from redis.asyncio import BlockingConnectionPool, Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import RedisError
except ImportError as error:
    raise ImportError('RedisMailbox needs redis-py: pip install "avaturn-async[redis]"') from error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from redis.asyncio import RedisCluster

__all__ = ["RedisMailbox"]

logger = logging.getLogger(__name__)

T = TypeVar("T")
_Waiter = asyncio.Future[Delivery]

#: Connections of one process, where further calls queue; rows that are read in one round trip.
_MOST_CONNECTIONS, _CHUNK = 32, 500
#: Seconds before the first try to reach a lost server again, and at most before any.
_FIRST_DELAY, _LAST_DELAY = 0.1, 5.0
#: Seconds that a hint lives at most: who awaits it is woken at once, and who comes later looks anyway.
_HINT_TTL = 60.0

# KEYS: the row. ARGV: the new row, "1" where rows are written once, the ttl in ms, the channel, the key.
# A row that stands under the id of the new one was written by a try whose answer was lost.
_DELIVER = """
local told, standing = pcall(cjson.decode, redis.call('GET', KEYS[1]) or '')
if not told or type(standing) ~= 'table' then standing = nil end
local row, once = cjson.decode(ARGV[1]), ARGV[2] == '1'
if not standing or standing.id ~= row.id then
  if standing and (once or standing.authenticated) and (standing.authenticated and once or not row.authenticated) then
    return 0
  end
  redis.call('SET', KEYS[1], cjson.encode(row), 'PX', ARGV[3])
end
redis.call('PUBLISH', ARGV[4], ARGV[5])
return 1
"""


class RedisMailbox:
    """Keeps events in Redis, where every process of an app finds them; waits go on by polling while it is away.

    A process has one subscriber connection, while anybody waits in it. Waits belong to one event loop, deliveries to
    none. Each outage is told by one warning.

    Events that were not authenticated are mere hints, of which anyone can send any number: they are kept without their
    ballast, a few kB at most, and for a minute. What a flood leaves in Redis is that of its last minute.

    Args:
        url: a ``redis://``, ``rediss://`` or ``unix://`` url, with redis-py's options.
        prefix: what rows and the channel are named by; those of different prefixes never see each other.
        ttl: seconds that a row lives; 15 minutes, as long as the link of a render (contract).
        client: instead, a client of ``redis.asyncio``, as of a Sentinel or Cluster: borrowed, of one event loop.
        timeout: seconds that a read or a delivery may take.
        ping_every: seconds of silence after which the subscriber pings, and without a pong in as long reconnects.

    Raises:
        ValueError: the url can't be understood, or not exactly one of `url` and `client` was given.
    """

    #: Whoever gets a TransportError from here need not log it.
    tells_outages = True

    def __init__(
        self,
        url: str | None = None,
        *,
        prefix: str = "avaturn:",
        ttl: float = 900,
        client: Redis | RedisCluster | None = None,
        timeout: float = 5,
        ping_every: float = 5,
    ) -> None:
        self._url = None if url is None else Secret(url)
        del url  # a traceback that shows locals must not show it
        if (self._url is None) == (client is None):
            raise ValueError("give either url or client")
        for name, seconds in (("ttl", ttl), ("timeout", timeout), ("ping_every", ping_every)):
            if not seconds > 0:
                raise ValueError(f"{name} must be a positive number of seconds, not {seconds!r}")
        self._prefix = prefix
        self._ttl = max(1, round(ttl * 1000))
        self._hint_ttl = min(self._ttl, round(_HINT_TTL * 1000))
        self._borrowed = client
        self._timeout = timeout
        self._ping_every = ping_every
        self._home: _Watch | None = None
        self._outage = _Outage()
        self._closed = False
        self._connect()  # to learn now whether the url is understood: nothing is sent

    async def deliver(self, event: Event, *, authenticated: bool = True) -> None:
        """Store `event` and wake who awaits it, in whichever process.

        What stands is replaced as in a `MemoryMailbox`.

        Raises:
            ClientClosedError: the mailbox was closed.
            TransportError: Redis can't be used; the event may or may not be stored.
        """
        key = key_of(event)
        kept, ttl = (event, self._ttl) if authenticated else (strip_untrusted(event), self._hint_ttl)
        row = {"id": uuid.uuid4().hex, "authenticated": authenticated, "event": codec.dumps(kept).decode()}
        args = [codec.dumps(row), int(key.startswith("render:")), ttl, self._prefix + "wake", key]
        await self._ask(lambda client: client.register_script(_DELIVER)([self._prefix + key], args))

    async def position(self, key: str) -> str:
        """Return the id of the row that stands under `key`, or ``""``.

        Raises:
            ClientClosedError, TransportError: as from `deliver`.
        """
        try:
            delivery = _delivery_of(await self._ask(lambda client: client.get(self._prefix + key)))
        except TransportError as error:
            self._outage.begin("position", str(error))
            raise
        self._outage.end("position")
        return "" if delivery is None else delivery.id

    def wait(self, key: str, after: str) -> asyncio.Future[Delivery]:
        """Return a future for the key's row as soon as its id differs from `after`; cancelling it forgets it.

        While Redis can't be used the future is merely pending.

        Raises:
            ClientClosedError: the mailbox was closed; also from a future that was waiting.
            WrongLoopError: others wait on another event loop.
        """
        return self._at_home(to_wait=True).wait(key, after)

    async def aclose(self) -> None:
        """Give up the connections; who still waits gets ClientClosedError. Rows stay. Calling it again does nothing."""
        self._closed = True
        home, self._home = self._home, None
        if home is not None and not home.loop.is_closed():
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._leave(home), home.loop))

    def __repr__(self) -> str:
        return f"<RedisMailbox prefix={self._prefix!r}>"

    # The event loop that it is at home on, and its client there.

    def _connect(self, connections: int = _MOST_CONNECTIONS) -> Any:
        if self._url is None:
            return self._borrowed
        options: dict[str, Any] = dict.fromkeys(("timeout", "socket_timeout", "socket_connect_timeout"), self._timeout)
        options["retry"] = Retry(NoBackoff(), 1)  # a pooled connection may have died in its sleep
        options["driver_info"] = None  # making one reads files on the event loop
        try:
            return Redis.from_pool(BlockingConnectionPool.from_url(self._url, max_connections=connections, **options))
        except (ValueError, TypeError):
            pass  # its text may quote the password
        raise ValueError("url is not one that redis-py understands: redis://, rediss:// or unix://")

    def _at_home(self, *, to_wait: bool = False) -> _Watch:
        """Return the home; where there is none or only its waits moved on, make the running loop home."""
        loop, old = asyncio.get_running_loop(), self._home
        if self._closed:
            raise ClientClosedError("the mailbox is closed")
        if old is not None and (old.loop is loop or not (to_wait or old.loop.is_closed())):
            return old
        if old is not None and not old.loop.is_closed():
            if old.waiters or self._url is None:
                raise WrongLoopError("the mailbox is in use on another event loop; make one for each loop that waits")
            asyncio.run_coroutine_threadsafe(self._leave(old), old.loop)
        self._home = _Watch(self._connect(), self._outage, self._prefix, self._timeout, self._ping_every)
        return self._home

    async def _leave(self, home: _Watch) -> None:
        await home.aclose()
        if self._url is not None:
            await home.client.aclose()

    async def _ask(self, call: Callable[[Any], Awaitable[T]]) -> T:
        """Make one exchange; whatever redis-py raises becomes a TransportError without cause and context."""
        home = self._at_home()
        away = home.loop is not asyncio.get_running_loop()
        if away and self._url is None:
            raise WrongLoopError("the client that the mailbox borrows serves another event loop")
        client = self._connect(1) if away else home.client  # another loop may be as short-lived as this call
        try:
            async with asyncio.timeout(self._timeout):
                return await call(client)
        except (RedisError, OSError) as error:
            problem = type(error).__name__
        finally:
            if away:
                await client.aclose()
        raise TransportError(_unusable(problem))


class _Outage:
    """What of a mailbox's use fails now: one warning says that something does, and one line that nothing does."""

    def __init__(self) -> None:
        self._failing: set[str] = set()

    def begin(self, use: str, problem: str) -> None:
        """Note that `use` fails."""
        if not self._failing:
            logger.warning("%s; waits go on by polling", problem)
        self._failing.add(use)

    def forget(self, use: str) -> None:
        """Note that nobody knows any more whether `use` fails."""
        self._failing.discard(use)

    def end(self, *uses: str) -> None:
        """Note that `uses` do not fail, or not any more."""
        if self._failing and self._failing.issubset(uses):
            logger.info("the mailbox's Redis can be used again")
        self._failing.difference_update(uses)


class _Watch:
    """Those who wait on one event loop, and the one subscription that serves them all."""

    def __init__(self, client: Any, outage: _Outage, prefix: str, timeout: float, ping_every: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.client = client
        self.waiters: dict[str, dict[_Waiter, str]] = {}
        self._outage = outage
        self._prefix = prefix
        self._timeout = timeout
        self._ping_every = ping_every
        self._task: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()  # that one, and those before it which are closing
        self._unread: set[str] = set()
        self._wanted = asyncio.Event()
        self._subscribed = False
        self._failures = 0

    def wait(self, key: str, after: str) -> _Waiter:
        """Register a future before anything is read, so that no delivery falls between."""
        waiter: _Waiter = self.loop.create_future()
        self.waiters.setdefault(key, {})[waiter] = after
        waiter.add_done_callback(partial(self._forget, key))
        if self._subscribed:
            self._want((key,))
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="avaturn-async redis mailbox")
            self._tasks.add(self._task)
            self._task.add_done_callback(self._tasks.discard)
        return waiter

    async def aclose(self) -> None:
        """End all waits with ClientClosedError, and the task."""
        for waiter in [each for waiters in self.waiters.values() for each in waiters if not each.done()]:
            waiter.set_exception(ClientClosedError("the mailbox was closed while this was awaited"))
            waiter.exception()  # whoever waits may be gone: no log for it
        self.waiters.clear()
        self._stop_if_idle()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _forget(self, key: str, waiter: _Waiter) -> None:
        waiters = self.waiters.get(key, {})
        waiters.pop(waiter, None)
        if not waiters:
            self.waiters.pop(key, None)
        if not self.waiters:  # whoever was woken may wait again at once
            self.loop.call_soon(self._stop_if_idle)

    def _stop_if_idle(self) -> None:
        if not self.waiters and self._task is not None:
            self._task.cancel()
            self._task, self._subscribed = None, False
            self._outage.forget("watch")

    async def _run(self) -> None:
        """Serve those who wait, whatever becomes of the server, until this is cancelled."""
        while True:
            try:
                await self._serve()
            except Exception as error:  # noqa: BLE001 - whatever redis-py raises, waits go on
                _obey()
                self._note_failure(error)
            delay = min(_LAST_DELAY, _FIRST_DELAY * 2 ** min(self._failures - 1, 10))
            await asyncio.sleep(delay * random.uniform(0.5, 1))

    def _note_failure(self, error: Exception) -> None:
        self._subscribed = False
        self._failures += 1
        kind = type(error.exceptions[0] if isinstance(error, ExceptionGroup) else error)
        self._outage.begin("watch", _unusable(kind.__name__))

    async def _serve(self) -> None:
        async with self.client.pubsub() as pubsub, asyncio.TaskGroup() as group:
            group.create_task(self._read_rows())
            await pubsub.subscribe(self._prefix + "wake")
            await self._listen(pubsub)

    async def _listen(self, pubsub: Any) -> None:
        pinged = False
        while True:
            message = await pubsub.get_message(timeout=self._ping_every)
            _obey()
            if message is not None:
                self._heed(message)
            elif pinged:
                raise TimeoutError("no pong")
            else:
                await pubsub.ping()
            pinged = message is None

    def _heed(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscribe":  # also after a reconnection within redis-py
            self._subscribed = True
            self._want(self.waiters)
        elif message["type"] == "message":
            data = message["data"]
            self._want((data.decode() if isinstance(data, bytes) else data,))

    def _want(self, keys: Iterable[str]) -> None:
        self._unread.update(key for key in keys if key in self.waiters)
        self._wanted.set()

    async def _read_rows(self) -> None:
        while await self._wanted.wait():
            while keys := list(islice(self._unread, _CHUNK)):
                self._unread.difference_update(keys)
                rows = await self._fetch(keys)
                for key, row in zip(keys, rows, strict=True):
                    self._hand_out(key, _delivery_of(row))
                self._failures = 0
                self._outage.end("watch", "position")  # both read rows
            self._wanted.clear()

    async def _fetch(self, keys: list[str]) -> list[Any]:
        async with asyncio.timeout(self._timeout), self.client.pipeline(transaction=False) as pipeline:
            for key in keys:  # not MGET, which a Cluster refuses for keys of several slots
                pipeline.get(self._prefix + key)
            rows: list[Any] = await pipeline.execute()
        _obey()
        return rows

    def _hand_out(self, key: str, delivery: Delivery | None) -> None:
        for waiter, after in self.waiters.get(key, {}).items():
            if delivery is not None and after != delivery.id and not waiter.done():
                waiter.set_result(delivery)


def _unusable(problem: str) -> str:
    return f"the mailbox's Redis can't be used ({problem})"


def _obey() -> None:
    """Raise the cancellation of this task that redis-py swallowed, as it can where an answer came just then."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _delivery_of(row: Any) -> Delivery | None:
    """Read a row; one that we did not write is as good as none."""
    try:
        kept = codec.parse_json(row or b"null")
        event = parse_event(kept["event"])
        if isinstance(event, UnknownEvent):
            return None
        return Delivery(kept["id"], event, kept["authenticated"])
    except (AvaturnError, LookupError, TypeError, ValueError):
        return None

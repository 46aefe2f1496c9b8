"""A mailbox in Redis, for apps of several processes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from ..redact import Secret
from .store import StoreMailbox

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from redis.asyncio import Redis, RedisCluster

    from .store import StoredRow
else:  # for typing.get_type_hints
    Redis = RedisCluster = Any

__all__ = ["RedisMailbox"]

logger: logging.Logger = logging.getLogger(__name__)

#: Connections of one process besides its subscriber; further calls queue for them.
_MAX_CONNECTIONS = 32

#: What the script returns if the key had a value of another type. It is overwritten: names with the prefix are ours.
_REPLACED = 2

# KEYS: the row. ARGV: the new row, "1" if it is authenticated, "1" if it is a render's, ttl in ms, channel, key.
_DELIVER = """
local stored, result = redis.pcall('GET', KEYS[1]), 1
if type(stored) == 'table' then
  if not string.find(stored.err, 'WRONGTYPE', 1, true) then return stored end
  stored, result = nil, 2
end
local ok, row = pcall(cjson.decode, stored or '')
if ok and type(row) == 'table' and type(row.authenticated) == 'boolean' then
  local authenticated = ARGV[2] == '1'
  local replaces = authenticated
  if authenticated == row.authenticated then replaces = ARGV[3] ~= '1' end
  if not replaces then return 0 end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[4])
redis.call('PUBLISH', ARGV[5], ARGV[6])
return result
"""


class RedisMailbox(StoreMailbox):
    """Stores events in Redis, so that a webhook that reaches one process resolves a wait in another.

    Each process has one subscriber connection while it has waits. While Redis can't be used, waits go on by polling,
    and each outage is one warning in the log. Unauthenticated events are kept for a minute, without unknown fields.

    Args:
        url: A ``redis://``, ``rediss://`` or ``unix://`` url, with redis-py's options.
        prefix: The beginning of the names of all keys and of the channel. Apps that share a Redis need one each;
            a value of another kind under such a name is overwritten.
        ttl: Seconds that an event is kept. 15 minutes is as long as the url of a render is valid (contract).
        client: A `redis.asyncio` client instead of `url`, such as that of a Sentinel or Cluster. It is borrowed: never
            closed, and used on its own event loop only.
        timeout: Seconds that a read or a delivery may take.
        ping_every: Seconds of silence after which the subscriber connection is pinged; without an answer within as many
            seconds, it is replaced.
        reread_every: Seconds after which the rows of all waits are read again, in case a notification was lost.

    Raises:
        ConfigurationError: redis-py is not installed.
        ValueError: `url` can't be parsed, not exactly one of `url` and `client` was given, or a number of seconds is
            out of range.
    """

    _store_name = "Redis"

    def __init__(
        self,
        url: str | None = None,
        *,
        prefix: str = "avaturn:",
        ttl: float = 900,
        client: Redis | RedisCluster | None = None,
        timeout: float = 5,
        ping_every: float = 5,
        reread_every: float = 10,
    ) -> None:
        self._prefix = prefix
        self._url = None if url is None else Secret(url)
        del url  # it may have a password, which a traceback with locals would show
        try:
            import redis  # noqa: F401
        except ImportError:
            raise ConfigurationError('RedisMailbox needs redis-py: pip install "avaturn-async[redis]"') from None
        if (self._url is None) == (client is None):
            raise ValueError("give either url or client")
        borrowed = client is not None
        super().__init__(borrowed=borrowed, ttl=ttl, timeout=timeout, ping_every=ping_every, reread_every=reread_every)
        self._client = client
        self._connect()  # parses the url; nothing is sent yet

    def __repr__(self) -> str:
        return f"<RedisMailbox prefix={self._prefix!r}>"

    def _connect(self, *, brief: bool = False) -> _RedisStore:
        client: Any = self._client
        if self._url is not None:
            client = _client_of(self._url, self._timeout, 1 if brief else _MAX_CONNECTIONS)
        return _RedisStore(client, self._prefix, self._ping_every, owned=self._url is not None)


def _client_of(url: str, timeout: float, max_connections: int) -> Any:
    import redis
    from redis.asyncio import BlockingConnectionPool, Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    options: dict[str, Any] = dict.fromkeys(("timeout", "socket_timeout", "socket_connect_timeout"), timeout)
    # A pooled connection may have died while it was idle.
    options |= {"retry": Retry(NoBackoff(), 1), "retry_on_error": [redis.ConnectionError]}
    if redis.VERSION >= (8,):
        options["driver_info"] = None  # by default it reads files, on the event loop
    try:
        return Redis.from_pool(BlockingConnectionPool.from_url(url, max_connections=max_connections, **options))
    except (ValueError, TypeError):
        pass  # the message may quote the password
    raise ValueError("url is not one that redis-py understands: redis://, rediss:// or unix://")


class _RedisStore:
    """A Redis client, on one event loop."""

    def __init__(self, client: Any, prefix: str, ping_every: float, *, owned: bool) -> None:
        from redis import exceptions

        self.errors: tuple[type[Exception], ...] = (exceptions.RedisError, OSError)
        self.connection_errors: tuple[type[Exception], ...] = (
            exceptions.ConnectionError,
            exceptions.TimeoutError,
            OSError,
        )
        self._refused, self._response_error = exceptions.NoPermissionError, exceptions.ResponseError
        self._client = client
        self._prefix = prefix
        # Channels ignore database numbers, rows don't.
        self._channel = f"{prefix}wake:{client.get_connection_kwargs().get('db') or 0}"
        self._ping_every = ping_every
        self._owned = owned
        self._deliver = client.register_script(_DELIVER)

    def concerns_key(self, error: Exception) -> bool:
        return isinstance(error, self._refused)

    async def write(self, row: StoredRow) -> None:
        name, ttl = self._prefix + row.key, max(1, round(row.ttl * 1000))
        arguments = [row.text, int(row.authenticated), int(row.is_render), ttl, self._channel, row.key]
        if await self._deliver([name], arguments) == _REPLACED:
            logger.warning("the mailbox replaced a value of another type under %s", name)

    async def read(self, keys: Sequence[str]) -> Mapping[str, str | bytes | Exception]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for key in keys:  # not MGET, which a Cluster refuses for keys of several slots
                pipeline.get(self._prefix + key)
            found = await pipeline.execute(raise_on_error=False)
        rows = {key: row for key, row in zip(keys, found, strict=True) if row is not None}
        for key, row in rows.items():
            if isinstance(row, self._refused):
                continue
            if isinstance(row, self._response_error) and str(row).startswith("WRONGTYPE"):
                rows[key] = ValueError("a value of another type")
            elif isinstance(row, Exception):
                raise row
        return rows

    async def sweep(self) -> None:
        """Do nothing: Redis expires keys by itself."""

    async def notifications(self) -> AsyncGenerator[str | None, None]:
        async with self._client.pubsub() as pubsub:
            await pubsub.subscribe(self._channel)
            pinged = False
            while True:
                try:
                    message = await pubsub.get_message(timeout=self._ping_every)
                except UnicodeDecodeError:  # a client that decodes answers can't get past such a message
                    await pubsub.aclose()
                    await pubsub.subscribe(self._channel)
                    continue
                if message is None and pinged:
                    raise TimeoutError("no answer to a ping")
                pinged = message is None
                if message is None:
                    await pubsub.ping()
                elif message["type"] == "subscribe":  # also when redis-py reconnected by itself
                    yield None
                elif message["type"] == "message":
                    data = message["data"]
                    yield data.decode(errors="replace") if isinstance(data, bytes) else data

    async def aclose(self) -> None:
        if self._owned:
            await self._client.aclose()

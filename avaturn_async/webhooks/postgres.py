"""A mailbox in Postgres, for apps of several processes."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import ConfigurationError
from ..redact import Secret
from .store import StoreMailbox

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

    from asyncpg import Pool

    from .store import StoredRow
else:  # for typing.get_type_hints
    Pool = Any

__all__ = ["PostgresMailbox"]

T = TypeVar("T")

#: Connections of one process besides the listening one; further calls queue for them.
_MAX_CONNECTIONS = 4
#: Rows that one transaction writes.
_MAX_ROWS = 500
#: Seconds that the listening connection may take to close.
_CLOSE_TIMEOUT = 1.0
#: Bytes of an identifier; Postgres cuts longer ones.
_MAX_IDENTIFIER = 63

_SCHEMA = """\
CREATE TABLE IF NOT EXISTS {table} (
    key text PRIMARY KEY,
    delivery text NOT NULL,
    authenticated boolean NOT NULL,
    expires_at timestamptz NOT NULL,
    UNIQUE (expires_at, key)
);
"""

# Two processes that create the same table at once fail on its type; the lock serializes them.
_CREATE = "SELECT pg_advisory_xact_lock(7205759403792793); {schema}"

_DELIVER = """
WITH written AS (
    INSERT INTO {table} AS stored (key, delivery, authenticated, expires_at)
    SELECT key, delivery, authenticated, now() + make_interval(secs => ttl)
    FROM unnest($1::text[], $2::text[], $3::boolean[], $4::float8[]) AS row (key, delivery, authenticated, ttl)
    ON CONFLICT (key) DO UPDATE SET
        delivery = excluded.delivery, authenticated = excluded.authenticated, expires_at = excluded.expires_at
    WHERE stored.expires_at <= now() OR CASE
        WHEN excluded.authenticated <> stored.authenticated THEN excluded.authenticated
        ELSE NOT starts_with(stored.key, 'render:') END
    RETURNING key
)
SELECT pg_notify($5, key) FROM written
"""

_READ = "SELECT key, delivery FROM {table} WHERE key = ANY($1::text[]) AND expires_at > now()"

# A row that another process locks is skipped, so that a sweep neither waits nor deadlocks with deliveries.
_SWEEP = """
DELETE FROM {table} WHERE key IN (SELECT key FROM {table} WHERE expires_at <= now() FOR UPDATE SKIP LOCKED)
"""


class PostgresMailbox(StoreMailbox):
    """Stores events in Postgres, so that a webhook that reaches one process resolves a wait in another.

    Each process has one listening connection while it has waits, and up to four more for reads and deliveries. While
    Postgres can't be used, waits go on by polling, and each outage is one warning in the log. Unauthenticated events
    are kept for a minute, without unknown fields. Expired rows are deleted by the processes that deliver.

    The table is created when it is first missed; run `schema` yourself if the app may not create tables. PgBouncer
    works in any mode, but in transaction mode it loses notifications, so that an event is seen after up to
    `reread_every` seconds: connect to Postgres directly where that is too slow.

    Args:
        dsn: A ``postgresql://`` url, with asyncpg's options.
        pool: An `asyncpg` pool instead of `dsn`. It is borrowed: never closed, and used on its own event loop only. One
            of its connections is taken for as long as there are waits.
        table: The table of the events; ``schema.table`` is possible. Apps that share a database need one each. Spell it
            alike in all processes of an app: notifications go by this name.
        ttl: Seconds that an event is kept. 15 minutes is as long as the url of a render is valid (contract).
        timeout: Seconds that a read or a delivery may take.
        ping_every: Seconds of silence after which the listening connection is checked; without an answer within as many
            seconds, it is replaced.
        reread_every: Seconds after which the rows of all waits are read again, in case a notification was lost.

    Raises:
        ConfigurationError: asyncpg is not installed.
        ValueError: `dsn` is no url of Postgres, not exactly one of `dsn` and `pool` was given, `table` is no name of a
            table, or a number of seconds is out of range.
    """

    _store_name = "Postgres"

    def __init__(
        self,
        dsn: str | None = None,
        *,
        pool: Pool | None = None,
        table: str = "avaturn_events",
        ttl: float = 900,
        timeout: float = 5,
        ping_every: float = 5,
        reread_every: float = 10,
    ) -> None:
        self._table = table
        self._dsn = None if dsn is None else Secret(dsn)
        del dsn  # it may have a password, which a traceback with locals would show
        try:
            import asyncpg  # noqa: F401
        except ImportError:
            raise ConfigurationError('PostgresMailbox needs asyncpg: pip install "avaturn-async[postgres]"') from None
        if (self._dsn is None) == (pool is None):
            raise ValueError("give either dsn or pool")
        if self._dsn is not None and not self._dsn.startswith(("postgresql://", "postgres://")):
            raise ValueError("dsn must be a postgresql:// url")
        borrowed = pool is not None
        super().__init__(borrowed=borrowed, ttl=ttl, timeout=timeout, ping_every=ping_every, reread_every=reread_every)
        self._quoted_table = _quoted(table)
        self._pool = pool

    def __repr__(self) -> str:
        return f"<PostgresMailbox table={self._table!r}>"

    @staticmethod
    def schema(table: str = "avaturn_events") -> str:
        """Return the SQL that creates the table, for migrations.

        Raises:
            ValueError: `table` is no name of a table.
        """
        return _SCHEMA.format(table=_quoted(table))

    def _connect(self, *, brief: bool = False) -> _PostgresStore:
        return _PostgresStore(
            self._dsn,
            self._pool,
            self._quoted_table,
            max_connections=1 if brief else _MAX_CONNECTIONS,
            timeout=self._timeout,
            ping_every=self._ping_every,
        )


def _quoted(table: str) -> str:
    """Return the name of a table, or of a schema and a table, as SQL; any characters are safe in it."""
    parts = table.split(".")
    if len(parts) > 2 or not all(0 < len(part.encode()) <= _MAX_IDENTIFIER and "\0" not in part for part in parts):
        raise ValueError(f"table must be a name or schema.name, of at most 63 bytes each, not {table!r}")
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


class _PostgresStore:
    """A pool of connections to Postgres, on one event loop."""

    def __init__(
        self, dsn: str | None, pool: Any, table: str, *, max_connections: int, timeout: float, ping_every: float
    ) -> None:
        import asyncpg

        # ValueError: a dsn that asyncpg can't parse
        broken = (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, ValueError)
        self.errors: tuple[type[Exception], ...] = (asyncpg.PostgresError, *broken)
        self.connection_errors: tuple[type[Exception], ...] = (
            asyncpg.PostgresConnectionError,
            asyncpg.OperatorInterventionError,  # shut down, or starting up
            asyncpg.InsufficientResourcesError,  # too many connections
            asyncpg.InvalidAuthorizationSpecificationError,
            asyncpg.InvalidCatalogNameError,
            *broken,
        )
        self._transient = (
            asyncpg.PostgresConnectionError,
            asyncpg.OperatorInterventionError,
            asyncpg.TransactionRollbackError,  # a deadlock, or a conflict of serializable transactions
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
            ConnectionError,
        )
        self._undefined_table = asyncpg.UndefinedTableError
        self._dsn = dsn
        self._pool = pool
        self._owned = pool is None
        self._opening = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._unwritten: dict[StoredRow, None] = {}  # an ordered set
        self._max_connections = max_connections
        self._timeout = timeout
        self._ping_every = ping_every
        self._create = _CREATE.format(schema=_SCHEMA.format(table=table))
        self._deliver, self._read, self._sweep = (sql.format(table=table) for sql in (_DELIVER, _READ, _SWEEP))
        self._channel = "avaturn_" + hashlib.sha256(table.encode()).hexdigest()[:32]  # names of channels are short

    def concerns_key(self, error: Exception) -> bool:
        return False

    async def write(self, row: StoredRow) -> None:
        # Postgres serializes transactions that notify, so rows that come during one share the next.
        self._unwritten[row] = None
        try:
            async with self._writing:
                while row in self._unwritten:
                    await self._write_some()
        finally:
            self._unwritten.pop(row, None)

    async def _write_some(self) -> None:
        """Write the first unwritten row of each key, in an order in which processes do not deadlock."""
        batch: dict[str, StoredRow] = {}
        for row in islice(self._unwritten, _MAX_ROWS):
            batch.setdefault(row.key, row)
        rows = [batch[key] for key in sorted(batch)]
        columns = zip(*((row.key, row.text, row.authenticated, row.ttl) for row in rows), strict=True)
        arguments = (*map(list, columns), self._channel)
        await self._run(lambda connection: connection.execute(self._deliver, *arguments))
        for row in rows:
            self._unwritten.pop(row, None)

    async def read(self, keys: Sequence[str]) -> Mapping[str, str | bytes | Exception]:
        found = await self._run(lambda connection: connection.fetch(self._read, list(keys)))
        return dict(found)

    async def sweep(self) -> None:
        await self._run(lambda connection: connection.execute(self._sweep))

    async def notifications(self) -> AsyncGenerator[str | None, None]:
        notified: asyncio.Queue[str | None] = asyncio.Queue()

        def on_notification(*arguments: Any) -> None:
            notified.put_nowait(arguments[-1])

        def on_termination(_: Any) -> None:
            notified.put_nowait(None)

        connection = await self._open_listener()
        try:
            connection.add_termination_listener(on_termination)
            async with asyncio.timeout(self._timeout):
                await connection.add_listener(self._channel, on_notification)
            yield None
            while True:
                try:
                    async with asyncio.timeout(self._ping_every):
                        key = await notified.get()
                except TimeoutError:
                    await connection.execute("SELECT 1", timeout=self._ping_every)
                    continue
                if key is None:
                    raise ConnectionResetError("the listening connection was closed")
                yield key
        finally:
            await self._close_listener(connection, on_notification, on_termination)

    async def aclose(self) -> None:
        if self._owned and self._pool is not None:
            with suppress(*self.errors):
                async with asyncio.timeout(self._timeout):  # after which the pool terminates its connections
                    await self._pool.close()

    async def _run(self, work: Callable[[Any], Awaitable[T]]) -> T:
        """Run `work` on a connection of the pool, and once more if the connection broke meanwhile."""
        with suppress(*self._transient):
            return await self._run_once(work)
        return await self._run_once(work)

    async def _run_once(self, work: Callable[[Any], Awaitable[T]]) -> T:
        pool = await self._open_pool()
        connection = await pool.acquire(timeout=self._timeout)
        try:
            try:
                return await work(connection)
            except self._undefined_table:
                await connection.execute(self._create)
                return await work(connection)
        except (TimeoutError, asyncio.CancelledError):
            connection.terminate()  # to release it would mean to wait for the server
            raise
        finally:
            await _release(pool, connection, self._timeout)

    async def _open_pool(self) -> Any:
        import asyncpg

        class Connection(asyncpg.Connection):  # type: ignore[misc]
            def get_reset_query(self) -> str:
                return ""  # calls leave nothing to reset: a round trip less for each

        async with self._opening:
            if self._pool is None:
                options = {"max_size": self._max_connections, "connection_class": Connection, **self._options()}
                self._pool = await asyncpg.create_pool(self._dsn, min_size=0, **options)
        return self._pool

    def _options(self) -> dict[str, Any]:
        # Named prepared statements do not survive PgBouncer's transaction mode.
        return {"statement_cache_size": 0, "timeout": self._timeout}

    async def _open_listener(self) -> Any:
        import asyncpg

        if self._owned:
            return await asyncpg.connect(self._dsn, **self._options())
        return await self._pool.acquire(timeout=self._timeout)

    async def _close_listener(self, connection: Any, on_notification: Any, on_termination: Any) -> None:
        try:
            connection.remove_termination_listener(on_termination)
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                if self._owned:
                    await connection.close()
                else:
                    await connection.remove_listener(self._channel, on_notification)
        except self.errors:
            with suppress(*self.errors):
                connection.terminate()
        finally:
            if not self._owned:
                await _release(self._pool, connection, _CLOSE_TIMEOUT)


async def _release(pool: Any, connection: Any, timeout: float) -> None:
    with suppress(Exception):  # the pool replaces what it can't take back
        if connection.is_closed():
            connection.terminate()  # asyncpg before 0.32 does not free the pool's slot of a connection that broke
        await pool.release(connection, timeout=timeout)

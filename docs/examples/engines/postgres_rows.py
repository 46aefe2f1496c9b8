"""Export the avatars in a table of your own Postgres, with any number of workers on any number of machines.

Each worker claims rows with ``FOR UPDATE SKIP LOCKED``, feeds them to a batch, and writes the outcomes back. While an
export is under way its worker renews the lease on the row. If a worker dies, its leases expire, and other workers claim
the rows: then a model may be saved twice, but never half, and none is missing.

Start a Postgres (``apt install postgresql``), and then any number of workers on any machines::

    pip install "avaturn-async[obstore,postgres]"
    export DATABASE_URL=postgresql://localhost/shop MODELS_URL=s3://models AVATURN_API_TOKEN=...
    python postgres_rows.py enqueue 7f1c... 0b52...                   # or insert rows with SQL of your own
    python postgres_rows.py worker

A worker ends when no row is left to export. A client's `RateLimit` counts the requests of its own process: divide your
limit by the number of workers.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
from obstore.store import from_url

from avaturn_async import AvaturnClient, AvaturnError, BatchOutcome, ObjectStoreSink

LEASE = float(os.environ.get("LEASE_SECONDS", "60"))
MAX_ATTEMPTS = 5

SCHEMA = """
CREATE TABLE IF NOT EXISTS avatar_exports (
    avatar_id uuid PRIMARY KEY,
    state text NOT NULL DEFAULT 'waiting',  -- waiting, done, failed
    attempts integer NOT NULL DEFAULT 0,
    worker uuid,
    leased_until timestamptz NOT NULL DEFAULT '-infinity',
    error text
)
"""
CLAIM = """
UPDATE avatar_exports SET worker = $1, attempts = attempts + 1, leased_until = now() + make_interval(secs => $2)
WHERE avatar_id = (
    SELECT avatar_id FROM avatar_exports WHERE state = 'waiting' AND leased_until < now()
    ORDER BY leased_until LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING avatar_id
"""
RENEW = """
UPDATE avatar_exports SET leased_until = now() + make_interval(secs => $2)
WHERE worker = $1 AND state = 'waiting' AND leased_until > now()
"""
FINISH = "UPDATE avatar_exports SET state = $3, error = $4, worker = NULL WHERE worker = $1 AND avatar_id = $2"
RETRY = """
UPDATE avatar_exports SET state = CASE WHEN attempts < $4 THEN 'waiting' ELSE 'failed' END, error = $3, worker = NULL,
    leased_until = now() + make_interval(secs => attempts)
WHERE worker = $1 AND avatar_id = $2
"""


async def claimed(pool: asyncpg.Pool, worker: UUID) -> AsyncIterator[UUID]:
    """Claim one row after another, as the batch has room, until all are done or failed."""
    while True:
        avatar_id = await pool.fetchval(CLAIM, worker, LEASE)
        if avatar_id is not None:
            yield avatar_id
        elif await pool.fetchval("SELECT EXISTS (SELECT FROM avatar_exports WHERE state = 'waiting')"):
            await asyncio.sleep(LEASE / 20)  # others are at work on them, or they wait for another attempt
        else:
            return


async def renew(pool: asyncpg.Pool, worker: UUID) -> None:
    """Renew the leases on the rows that are under way, three times per lease."""
    while True:
        await asyncio.sleep(LEASE / 3)
        await pool.execute(RENEW, worker, LEASE)


async def release(pool: asyncpg.Pool, worker: UUID, outcome: BatchOutcome) -> None:
    """Write an outcome to its row; a failure that may pass is tried again, by any worker."""
    error = outcome.error
    if error is None:
        await pool.execute(FINISH, worker, outcome.avatar_id, "done", None)
    elif isinstance(error, AvaturnError) and error.retryable:
        await pool.execute(RETRY, worker, outcome.avatar_id, str(error), MAX_ATTEMPTS)
    else:
        await pool.execute(FINISH, worker, outcome.avatar_id, "failed", str(error))


async def work() -> None:
    """Run a worker until no row is left."""
    worker = uuid4()
    sink = ObjectStoreSink(from_url(os.environ["MODELS_URL"]))
    async with (
        asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=1, max_size=4) as pool,
        AvaturnClient() as client,
    ):
        renewing = asyncio.create_task(renew(pool, worker))
        try:
            async with client.exports.batch(claimed(pool, worker), sink=sink) as batch:
                async for outcome in batch:
                    await release(pool, worker, outcome)
                    print(outcome.avatar_id, outcome.error or "done", flush=True)
        finally:
            renewing.cancel()


async def enqueue(avatar_ids: list[str]) -> None:
    """Insert a row for each avatar that has none."""
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=1, max_size=1) as pool:
        await pool.execute(SCHEMA)
        rows = [(UUID(avatar_id),) for avatar_id in avatar_ids]
        await pool.executemany("INSERT INTO avatar_exports (avatar_id) VALUES ($1) ON CONFLICT DO NOTHING", rows)


if __name__ == "__main__":
    asyncio.run(work() if sys.argv[1] == "worker" else enqueue(sys.argv[2:]))

"""The example of workers on a Postgres table: every model is saved, also where workers are killed."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from avaturn_async.emulator import Emulator, Faults, Timing
from tests.chaos.kit import SEED, scaled
from tests.webhooks.postgres.server import Server

from .kit import Recorder, avatars, downloaded, exported, is_whole

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "engines" / "postgres_rows.py"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


async def start_worker(avaturn: Emulator, server: Server, folder: Path, lease: float) -> asyncio.subprocess.Process:
    """Start a worker as its user would."""
    environment = {
        **os.environ,
        "AVATURN_BASE_URL": avaturn.url,
        "AVATURN_API_TOKEN": avaturn.token,
        "DATABASE_URL": server.dsn(),
        "LEASE_SECONDS": str(lease),
        "PYTHONPATH": str(ROOT),
    }
    return await asyncio.create_subprocess_exec(
        sys.executable,
        EXAMPLE,
        folder,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@asynccontextmanager
async def table(count: int) -> AsyncIterator[tuple[Emulator, Server]]:
    """Run an emulator with avatars, and a Postgres with a row for each."""
    async with AsyncExitStack() as stack:
        timing = Timing(scan=0, export=0.5, jitter=0.5)
        avaturn, _, ids = await stack.enter_async_context(avatars(count, seed=SEED, timing=timing))
        server = await asyncio.to_thread(Server)
        stack.callback(server.__exit__, None, None, None)
        await asyncio.to_thread(server.start)
        schema = EXAMPLE.read_text().split('SCHEMA = """')[1].split('"""')[0]
        rows = ", ".join(f"('{each}')" for each in ids)
        await asyncio.to_thread(server.sql, f"{schema}; INSERT INTO avatar_exports (avatar_id) VALUES {rows}")
        yield avaturn, server


async def test_one_worker_exports_every_row(tmp_path: Path) -> None:
    """Each once; a row that fails for good is told as failed."""
    async with table(20) as (avaturn, server):
        await asyncio.to_thread(server.sql, "INSERT INTO avatar_exports (avatar_id) VALUES (gen_random_uuid())")
        worker = await start_worker(avaturn, server, tmp_path, 60)
        _, complaints = await worker.communicate()
        assert (0, b"") == (worker.returncode, complaints)
        states = await asyncio.to_thread(
            server.sql, "SELECT state, count(*), max(attempts), count(worker) FROM avatar_exports GROUP BY 1 ORDER BY 1"
        )
        assert ["done|20|1|0", "failed|1|1|0"] == states
        assert 20 == len(downloaded(avaturn.requests))
    assert 20 == len(list(tmp_path.iterdir()))
    assert all(map(is_whole, tmp_path.iterdir()))


async def test_workers_that_are_killed_lose_nothing(tmp_path: Path) -> None:
    """While they are killed (-9) and restarted, and the API fails: all rows are done, every model is complete."""
    print(f"seed {SEED}")
    count, rng = scaled(2_000, 120), random.Random(SEED)
    async with table(count) as (avaturn, server):
        recorder = Recorder(avaturn)
        avaturn.faults = Faults(server_errors=0.05)
        workers = [await start_worker(avaturn, server, tmp_path, 2) for _ in range(scaled(4, 3))]
        for _ in range(scaled(12, 4)):
            victim = rng.randrange(len(workers))
            stdout = workers[victim].stdout
            assert stdout is not None
            for _ in range(rng.randrange(1, count // 15)):
                await stdout.readline()
            if workers[victim].returncode is None:
                workers[victim].kill()
            await workers[victim].communicate()
            workers[victim] = await start_worker(avaturn, server, tmp_path, 2)
            print(f"{len(recorder.requests)} requests")
        for worker in workers:
            _, complaints = await worker.communicate()
            assert (0, b"") == (worker.returncode, complaints)
        states = await asyncio.to_thread(server.sql, "SELECT state, count(*) FROM avatar_exports GROUP BY 1")
        assert [f"done|{count}"] == states
    requests = recorder.requests
    files = [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
    assert count == len(files)
    assert all(map(is_whole, files))
    print(f"{len(downloaded(requests)) - count} models downloaded twice")
    assert len(exported(requests)) <= 4 * count

"""The example of workers on a Postgres table, whose rows tell how each export ended."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from uuid import uuid4

import pytest

from avaturn_async.emulator import Timing
from tests.batch.kit import avatars, downloaded, is_whole
from tests.webhooks.postgres.server import Server

from .kit import Processes, api

pytestmark = pytest.mark.slow


async def test_one_worker_exports_every_row(tmp_path: Path) -> None:
    """It saves each model once, and notes which avatar failed for good."""
    models, logs = tmp_path / "models", tmp_path / "logs"
    models.mkdir()
    logs.mkdir()
    async with avatars(20, timing=Timing(scan=0, export=0.5, jitter=0.5)) as (avaturn, _, ids):
        server = await asyncio.to_thread(Server)
        with server:
            environment = {**os.environ, **api(avaturn), "DATABASE_URL": server.dsn(), "MODELS_URL": models.as_uri()}
            with Processes(logs, environment) as processes:
                enqueue = f"postgres_rows.py enqueue {uuid4()} {' '.join(map(str, ids))}"
                for command in (enqueue, enqueue, "postgres_rows.py worker"):
                    await asyncio.to_thread(processes.run, command)
            states = server.sql(
                "SELECT state, count(*), max(attempts), count(worker) FROM avatar_exports GROUP BY 1 ORDER BY 1"
            )
        assert ["done|20|1|0", "failed|1|1|0"] == states
        assert 20 == len(downloaded(avaturn.requests))
    assert {f"{each}.glb" for each in ids} == {path.name for path in models.iterdir()}
    assert all(map(is_whole, models.iterdir()))

"""Run ``avaturn batch`` on an API of this process, where one export of twenty fails, and print its peak memory."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from avaturn_async import Download
from avaturn_async.batch.export_batch import ExportBatch
from avaturn_async.cli import app, batch
from avaturn_async.errors import ServerError

NUMBERS = count()


class Pending:
    """Stands for the pending export, and for the export, of an avatar."""

    resume_token = "a token"
    resolved_by = "poll"
    polls = 1

    def __init__(self, avatar_id: Any) -> None:
        self.avatar_id = avatar_id
        self.number = next(NUMBERS)
        self.waited = self.number % 400 / 10

    def done(self) -> bool:
        return True

    async def wait(self, **_: object) -> Pending:
        await asyncio.sleep(0)
        if self.number % 20 == 7:
            raise ServerError("the API answered 500 <script>alert(1)</script>", status_code=500)
        return self

    async def download(self, path: Any, **_: object) -> Download:
        return Download(path, 1_000)


class Exports:
    """Stands for ``client.exports``."""

    async def create(self, avatar_id: Any) -> Any:
        return Pending(avatar_id)

    def resume(self, token: str) -> Any:
        raise ValueError(token)

    def batch(self, ids: Any, **options: Any) -> ExportBatch:
        return ExportBatch(self, ids, **options)


@asynccontextmanager
async def connected(*_: object) -> AsyncIterator[Any]:
    """Stand for the connection to the API."""
    yield SimpleNamespace(exports=Exports(), base_url="https://api.example")


batch.connected = connected
try:
    app(["batch", *sys.argv[1:]])
finally:
    # Not ru_maxrss, which begins with that of the parent.
    status = Path("/proc/self/status").read_text() if Path("/proc/self/status").exists() else "VmHWM: 0"
    print(status.partition("VmHWM:")[2].split()[0], file=sys.stderr)

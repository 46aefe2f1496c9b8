"""Run the servers of tests, and end them without losing a connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

__all__ = ["listening", "running"]


@asynccontextmanager
async def listening(server: asyncio.Server) -> AsyncIterator[str]:
    """Yield the url of a server, and close it at the end.

    What asyncio accepts in the turn of the loop in which its server closes is never closed, and would fail a later
    test. So the server first accepts no more, and what it has accepted becomes a connection.
    """
    try:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}"
    finally:
        for listener in server.sockets:
            asyncio.get_running_loop().remove_reader(listener)
        for _ in range(3):
            await asyncio.sleep(0)
        server.close()


@asynccontextmanager
async def running(runner: web.AppRunner | web.ServerRunner) -> AsyncIterator[str]:
    """Run an aiohttp server, and yield its url."""
    await runner.setup()
    try:
        assert runner.server is not None
        async with listening(await asyncio.get_running_loop().create_server(runner.server, "127.0.0.1", 0)) as url:
            yield url
    finally:
        await runner.cleanup()

"""A redis-server, and mailboxes in it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from avaturn_async.webhooks.redis import RedisMailbox

from .server import Server

MakeRedisMailbox = Callable[..., Awaitable[RedisMailbox]]


@pytest.fixture
def server(tmp_path: Any) -> Iterator[Server]:
    """Run a redis-server."""
    with Server(tmp_path) as running:
        yield running


@pytest.fixture
async def make_mailbox(server: Server) -> AsyncIterator[MakeRedisMailbox]:
    """Open mailboxes in the server, and close them in the end."""
    opened: list[RedisMailbox] = []

    async def make(**options: Any) -> RedisMailbox:
        options = {"url": server.url, "timeout": 20, **options}
        opened.append(RedisMailbox(**options))
        return opened[-1]

    yield make
    for mailbox in opened:
        await mailbox.aclose()


class Heard(logging.Handler):
    """The lines that the mailbox logs, as they come."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: asyncio.Queue[str] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self._loop.call_soon_threadsafe(self.lines.put_nowait, f"{record.levelname} {record.getMessage()}")

    async def outage(self, kind: str = "") -> None:
        """Wait for the warning that an outage began, of a kind of error."""
        assert (await self.lines.get()).startswith(f"WARNING the mailbox's Redis can't be used ({kind}")

    async def healed(self) -> None:
        """Wait for the word that it is over; nothing else was said."""
        assert "INFO the mailbox's Redis can be used again" == await self.lines.get()


@pytest.fixture
async def heard() -> AsyncIterator[Heard]:
    """Listen to what the mailbox logs."""
    handler, logger = Heard(), logging.getLogger("avaturn_async.webhooks.redis")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)

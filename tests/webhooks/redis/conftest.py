"""A redis-server, and mailboxes in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from avaturn_async import RedisMailbox

from ..stores import heard  # noqa: F401
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

    async def make(*, user: str = "", password: str = "", **options: Any) -> RedisMailbox:
        if user:
            options["url"] = f"redis://{user}:{password}@127.0.0.1:{server.port}"
        options = {"url": server.url, "timeout": 20, **options}
        opened.append(RedisMailbox(**options))
        return opened[-1]

    yield make
    for mailbox in opened:
        await mailbox.aclose()


@pytest.fixture
def put(server: Server) -> Callable[[str, str], Any]:
    """Write a row as another program would, without a notification."""

    def put(key: str, row: str) -> None:
        with server.admin() as admin:
            admin.set(f"avaturn:{key}", row)

    return put

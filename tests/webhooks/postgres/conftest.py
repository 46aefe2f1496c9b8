"""A Postgres, and mailboxes in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from avaturn_async import PostgresMailbox

from ..stores import heard  # noqa: F401
from .server import Server

MakePostgresMailbox = Callable[..., Awaitable[PostgresMailbox]]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """Run a Postgres; to make one anew takes seconds."""
    with Server() as running:
        yield running


@pytest.fixture
def server(postgres: Server) -> Iterator[Server]:
    """Run a Postgres with an empty database."""
    postgres.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    yield postgres
    postgres.start_if_killed()


@pytest.fixture
async def make_mailbox(server: Server) -> AsyncIterator[MakePostgresMailbox]:
    """Open mailboxes in the server, and close them in the end."""
    opened: list[PostgresMailbox] = []

    async def make(*, user: str = "postgres", password: str = "", **options: Any) -> PostgresMailbox:
        if "pool" not in options:
            options = {"dsn": server.dsn(user, password), **options}
        opened.append(PostgresMailbox(**{"timeout": 20, **options}))
        return opened[-1]

    yield make
    for mailbox in opened:
        await mailbox.aclose()


@pytest.fixture
def put(server: Server) -> Callable[[str, str], Any]:
    """Write a row as another program would, without a notification."""

    def put(key: str, row: str) -> None:
        server.sql(PostgresMailbox.schema())
        server.sql(
            "INSERT INTO avaturn_events VALUES (:'key', :'row', true, now() + interval '1 minute')", key=key, row=row
        )

    return put

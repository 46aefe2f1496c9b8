"""The mailbox in Postgres: the contract, tables, PgBouncer, what it costs, pools and secrets."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from asyncio import CancelledError
from collections.abc import AsyncIterator
from types import NoneType
from typing import Any

import asyncpg
import pytest

from avaturn_async import PostgresMailbox, TransportError, WrongLoopError
from avaturn_async.testing.mailbox_contract import SharedMailboxContract
from avaturn_async.webhooks import key_of

from ..samples import avatar, check_session_key, export_event, render_event
from ..stores import EXPORT, KEY, ClaimContract, Heard, mailbox_tasks, stored
from .conftest import MakePostgresMailbox
from .server import PgBouncer, Server


class TestContract(SharedMailboxContract):
    """The contract, in Postgres."""

    @pytest.fixture
    async def mailbox(self, make_mailbox: MakePostgresMailbox) -> PostgresMailbox:
        """Open a mailbox."""
        return await make_mailbox()

    @pytest.fixture
    async def other_mailbox(self, make_mailbox: MakePostgresMailbox) -> PostgresMailbox:
        """Open another one in the same table."""
        return await make_mailbox()


class TestClaims(ClaimContract):
    """Claims, in Postgres."""

    kind = "postgres"

    def url(self, server: Server) -> str:
        """Return the url of the server."""
        return server.dsn()


class TestContractBehindPgBouncer(SharedMailboxContract):
    """The contract, through a PgBouncer in transaction mode, which loses notifications."""

    @pytest.fixture
    async def pgbouncer(self, server: Server) -> AsyncIterator[PgBouncer]:
        """Run a PgBouncer."""
        with PgBouncer(server) as running:
            yield running

    @pytest.fixture
    async def mailbox(self, make_mailbox: MakePostgresMailbox, pgbouncer: PgBouncer) -> PostgresMailbox:
        """Open a mailbox."""
        return await make_mailbox(dsn=pgbouncer.dsn, reread_every=0.1)

    @pytest.fixture
    async def other_mailbox(self, make_mailbox: MakePostgresMailbox, pgbouncer: PgBouncer) -> PostgresMailbox:
        """Open another one in the same table."""
        return await make_mailbox(dsn=pgbouncer.dsn, reread_every=0.1)

    @pytest.mark.slow
    async def test_burst(self, mailbox: PostgresMailbox, other_mailbox: PostgresMailbox) -> None:
        """1,000 events at once each resolve their wait in another mailbox, over three connections in all."""
        events = [export_event(avatar(number)) for number in range(1_000)]
        waits = [mailbox.wait(key_of(event), "") for event in events]
        await asyncio.gather(*map(other_mailbox.deliver, events))
        assert events == [delivery.event for delivery in await asyncio.gather(*waits)]

    async def test_pgbouncer_restarts(self, mailbox: PostgresMailbox, pgbouncer: PgBouncer, heard: Heard) -> None:
        """It is one outage."""
        waiting = mailbox.wait(KEY, "")
        await mailbox.deliver(render_event())
        await stored(mailbox, render_event())
        pgbouncer.kill()
        await heard.outage()
        await asyncio.to_thread(pgbouncer.__enter__)
        await heard.healed()
        await mailbox.deliver(EXPORT)
        assert EXPORT == (await waiting).event


# Tables.


@pytest.mark.parametrize(
    "table",
    ["events", "Events of ann", 'quote"d', "select", "x; DROP SCHEMA public CASCADE", "app.events", "é" * 31],
    ids=["plain", "spaces", "quote", "keyword", "injection", "schema", "longest"],
)
async def test_names_of_tables(make_mailbox: MakePostgresMailbox, server: Server, table: str) -> None:
    """Any name is safe, and is that of the table."""
    server.sql("DROP SCHEMA IF EXISTS app CASCADE; CREATE SCHEMA app")
    receiver, mailbox = await make_mailbox(table=table), await make_mailbox(table=table)
    waiting = mailbox.wait(KEY, "")
    await receiver.deliver(EXPORT)
    assert EXPORT == (await waiting).event
    query = "SELECT tablename FROM pg_tables WHERE schemaname IN ('app', 'public')"
    assert [table.removeprefix("app.")] == server.sql(query)


@pytest.mark.parametrize(
    "table",
    ["", ".", "a.b.c", "a.", "x" * 64, "é" * 32, "nul\0"],
    ids=["empty", "dot", "three", "half", "long", "bytes", "nul"],
)
def test_names_that_are_none(table: str) -> None:
    """They are refused at once, by the mailbox and its schema."""
    with pytest.raises(ValueError, match="table must be"):
        PostgresMailbox("postgresql://localhost", table=table)
    with pytest.raises(ValueError, match="table must be"):
        PostgresMailbox.schema(table)


async def test_tables_are_separate(make_mailbox: MakePostgresMailbox) -> None:
    """Mailboxes in two tables of one database see neither rows nor notifications of each other."""
    ours, theirs = await make_mailbox(table="ours"), await make_mailbox(table="theirs")
    waiting = theirs.wait(KEY, "")
    await ours.deliver(EXPORT)
    assert EXPORT == (await stored(ours, EXPORT)).event
    await theirs.deliver(render_event())
    await stored(theirs, render_event())
    assert not waiting.done()
    assert "" == await theirs.position(KEY)
    waiting.cancel()


async def test_table_is_created_by_many_at_once(make_mailbox: MakePostgresMailbox) -> None:
    """Processes that miss it at the same time do not trip over each other."""
    mailboxes = [await make_mailbox() for _ in range(8)]
    await asyncio.gather(*(each.deliver(export_event(avatar(number))) for number, each in enumerate(mailboxes)))
    found = await asyncio.gather(*(stored(mailboxes[0], export_event(avatar(number))) for number in range(8)))
    assert 8 == len({delivery.id for delivery in found})


async def test_table_that_is_dropped_is_created_again(make_mailbox: MakePostgresMailbox, server: Server) -> None:
    """Its rows are gone, and nothing else."""
    mailbox = await make_mailbox()
    waiting = mailbox.wait(KEY, "")
    await mailbox.deliver(render_event())
    await stored(mailbox, render_event())
    server.sql("DROP TABLE avaturn_events")
    await mailbox.deliver(EXPORT)
    assert EXPORT == (await waiting).event
    assert "" == await mailbox.position(key_of(render_event()))


async def test_user_who_may_not_create_tables(make_mailbox: MakePostgresMailbox, server: Server, heard: Heard) -> None:
    """It fails by name of the error, and works once somebody ran the schema."""
    server.sql("DROP ROLE IF EXISTS ann; CREATE ROLE ann LOGIN; GRANT USAGE ON SCHEMA public TO ann")
    mailbox = await make_mailbox(user="ann")
    with pytest.raises(TransportError, match="InsufficientPrivilegeError"):
        await mailbox.deliver(EXPORT)
    await heard.outage("InsufficientPrivilegeError")
    server.sql(PostgresMailbox.schema())
    server.sql("GRANT SELECT, INSERT, UPDATE, DELETE ON avaturn_events TO ann")
    await mailbox.deliver(EXPORT)
    await heard.healed()
    assert EXPORT == (await stored(mailbox, EXPORT)).event
    server.sql("DROP OWNED BY ann; DROP ROLE ann")


async def test_user_who_may_not_delete(make_mailbox: MakePostgresMailbox, server: Server, heard: Heard) -> None:
    """Events are stored all the same, one warning tells that expired ones stay, and outages are logged as ever."""
    server.sql("DROP ROLE IF EXISTS ann; CREATE ROLE ann LOGIN; GRANT USAGE ON SCHEMA public TO ann")
    server.sql(PostgresMailbox.schema())
    server.sql("GRANT SELECT, INSERT, UPDATE ON avaturn_events TO ann")
    mailbox = await make_mailbox(user="ann")
    await mailbox.deliver(EXPORT)
    line = "WARNING the mailbox in Postgres can't delete expired rows (InsufficientPrivilegeError)"
    assert line == await heard.lines.get()
    assert EXPORT == (await stored(mailbox, EXPORT)).event
    server.kill()
    with pytest.raises(TransportError):
        await mailbox.position(KEY)
    await heard.outage()
    await server.restart()
    await mailbox.position(KEY)
    await heard.healed()
    server.sql("DROP OWNED BY ann; DROP ROLE ann")


async def test_rows_that_another_program_locks(make_mailbox: MakePostgresMailbox, server: Server) -> None:
    """A delivery to a locked row times out, and others go on."""
    mailbox = await make_mailbox(timeout=2)
    await mailbox.deliver(EXPORT)
    locking = await asyncpg.connect(server.dsn())
    async with locking.transaction():
        await locking.execute("SELECT FROM avaturn_events WHERE key = $1 FOR UPDATE", KEY)
        with pytest.raises(TransportError, match="TimeoutError"):
            await mailbox.deliver(EXPORT)
        await mailbox.deliver(render_event())
    await locking.close()
    await mailbox.deliver(EXPORT)


# Expiry.


async def lives(server: Server, event: Any) -> int:
    """Return the seconds that the row of an event still lives, rounded up."""
    query = "SELECT ceil(extract(epoch FROM expires_at - now())) FROM avaturn_events WHERE key = :'key'"
    return int(server.sql(query, key=key_of(event))[0])


async def test_rows_expire(make_mailbox: MakePostgresMailbox, server: Server) -> None:
    """An event lives for its ttl, which each delivery begins anew; then it is like none."""
    mailbox = await make_mailbox(ttl=900)
    for _ in range(2):
        await mailbox.deliver(EXPORT)
        assert 890 < await lives(server, EXPORT) <= 900
        server.sql("UPDATE avaturn_events SET expires_at = now() + interval '1 minute'")
    await mailbox.deliver(render_event())
    server.sql("UPDATE avaturn_events SET expires_at = now()")
    assert "" == await mailbox.position(KEY)
    again = render_event(status="failed", render_url=None)
    await mailbox.deliver(again)
    assert again == (await stored(mailbox, again)).event


@pytest.mark.parametrize(("ttl", "expected"), [(900, 60), (5, 5)], ids=["long", "short"])
async def test_unauthenticated_rows_live_shortly(
    make_mailbox: MakePostgresMailbox, server: Server, ttl: float, expected: int
) -> None:
    """A flood of them leaves no more than that of a minute."""
    mailbox = await make_mailbox(ttl=ttl)
    await mailbox.deliver(EXPORT, authenticated=False)
    assert expected - 5 < await lives(server, EXPORT) <= expected
    await mailbox.deliver(EXPORT)
    assert ttl - 5 < await lives(server, EXPORT) <= ttl


async def test_expired_rows_are_deleted(make_mailbox: MakePostgresMailbox, server: Server) -> None:
    """A process deletes them with its first delivery, also if another one locks some."""
    await (await make_mailbox()).deliver(EXPORT)
    server.sql(
        "INSERT INTO avaturn_events SELECT n::text, '', true, now() - interval '1 day' FROM generate_series(1, 500) n"
    )
    locking = await asyncpg.connect(server.dsn())
    async with locking.transaction():
        await locking.execute("SELECT FROM avaturn_events WHERE key = '7' FOR UPDATE")
        await (await make_mailbox()).deliver(EXPORT)
    await locking.close()
    assert ["7", KEY] == server.sql("SELECT key FROM avaturn_events ORDER BY 1")


# What it costs.


async def test_deliveries_at_once_share_transactions(make_mailbox: MakePostgresMailbox, server: Server) -> None:
    """Postgres serializes transactions that notify, so a burst takes few of them."""
    mailbox = await make_mailbox()
    await asyncio.gather(*(mailbox.deliver(export_event(avatar(number))) for number in range(600)))
    (found,) = server.sql("SELECT count(*), count(DISTINCT xmin::text) FROM avaturn_events")
    rows, transactions = map(int, found.split("|"))
    assert 600 == rows
    assert transactions <= 10


async def test_deliveries_of_one_key_at_once_are_stored_in_order(make_mailbox: MakePostgresMailbox) -> None:
    """The last one stays."""
    mailbox = await make_mailbox()
    events = [export_event(export_url=f"https://assets.example/{number}.glb") for number in range(20)]
    await asyncio.gather(*map(mailbox.deliver, events))
    assert events[-1] == (await mailbox.wait(KEY, "")).event


async def test_deliveries_of_the_same_keys_do_not_deadlock(make_mailbox: MakePostgresMailbox) -> None:
    """Two processes receive the same events in opposite orders."""
    one, other = await make_mailbox(), await make_mailbox()
    events = [export_event(avatar(number)) for number in range(200)]
    for _ in range(5):
        await asyncio.gather(*map(one.deliver, events), *map(other.deliver, reversed(events)))


async def test_a_cancelled_delivery_leaves_the_others(make_mailbox: MakePostgresMailbox, server: Server) -> None:
    """Those that were to share its transaction are written by the next one."""
    mailbox = await make_mailbox()
    await mailbox.deliver(EXPORT)
    tasks = [asyncio.create_task(mailbox.deliver(export_event(avatar(number)))) for number in range(50)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    assert [CancelledError, *[NoneType] * 49] == [
        type(each) for each in await asyncio.gather(*tasks, return_exceptions=True)
    ]
    keys = ", ".join(f"'{key_of(export_event(avatar(number)))}'" for number in range(1, 50))
    assert ["49"] == server.sql(f"SELECT count(*) FROM avaturn_events WHERE key IN ({keys})")


async def test_many_waits_share_one_connection(make_mailbox: MakePostgresMailbox, server: Server) -> None:
    """5,000 waits take one listening connection, and leave nothing once they are cancelled."""
    mailbox = await make_mailbox()
    waits = [mailbox.wait(key_of(export_event(avatar(number))), "") for number in range(5_000)]
    await mailbox.deliver(EXPORT)
    assert EXPORT == (await mailbox.wait(KEY, "")).event
    assert 2 == len(mailbox_tasks())
    assert server.connections() <= 1 + 4
    for wait in waits:
        wait.cancel()
    while mailbox_tasks():
        await asyncio.sleep(0.002)
    await mailbox.aclose()
    while server.connections():  # Postgres ends a backend after the client is gone
        await asyncio.sleep(0.002)


# Event loops and pools.


async def test_waits_belong_to_one_loop(make_mailbox: MakePostgresMailbox) -> None:
    """While there are waits here there can be none on another loop; later there can."""
    mailbox = await make_mailbox()
    waiting = mailbox.wait(KEY, "")

    async def refused() -> None:
        with pytest.raises(WrongLoopError):
            mailbox.wait(KEY, "")

    async def moved() -> None:
        waiting = mailbox.wait(KEY, "")
        await mailbox.deliver(EXPORT)
        assert EXPORT == (await waiting).event
        await mailbox.aclose()

    await asyncio.to_thread(asyncio.run, refused())
    waiting.cancel()
    await asyncio.sleep(0)
    await asyncio.to_thread(asyncio.run, moved())


@pytest.mark.parametrize("options", [{}, {"statement_cache_size": 0}], ids=["default", "uncached"])
async def test_pool_is_borrowed(make_mailbox: MakePostgresMailbox, server: Server, options: dict[str, Any]) -> None:
    """It is used and left open, and it serves the loop that it is on."""
    async with asyncpg.create_pool(server.dsn(), min_size=1, max_size=3, **options) as pool:
        mailbox = await make_mailbox(pool=pool)
        for number in range(3):
            event = export_event(avatar(number))
            waiting = mailbox.wait(key_of(event), "")
            await mailbox.deliver(event)
            assert event == (await waiting).event

        async def elsewhere() -> None:
            with pytest.raises(WrongLoopError):
                await mailbox.deliver(EXPORT)
            with pytest.raises(WrongLoopError):
                mailbox.wait(KEY, "")

        await asyncio.to_thread(asyncio.run, elsewhere())
        await mailbox.aclose()
        assert 1 == await pool.fetchval("SELECT 1")


async def test_pool_is_borrowed_through_an_outage(
    make_mailbox: MakePostgresMailbox, server: Server, heard: Heard
) -> None:
    """Its connections are replaced, and all of them are given back."""
    async with asyncpg.create_pool(server.dsn(), min_size=0, max_size=2) as pool:
        mailbox = await make_mailbox(pool=pool, ping_every=0.2, timeout=1)
        waiting = mailbox.wait(KEY, "")
        await mailbox.deliver(render_event())
        await stored(mailbox, render_event())
        for cut, mend in ((server.kill, server.restart), (server.pause, None)):
            cut()
            await heard.outage()
            if mend is None:
                server.go_on()
            else:
                await mend()
            await heard.healed()
        await mailbox.deliver(EXPORT)
        assert EXPORT == (await waiting).event
        await mailbox.aclose()
        for connection in [await pool.acquire(timeout=20) for _ in range(2)]:
            await pool.release(connection)


# Arguments and secrets.


@pytest.mark.parametrize(
    "options",
    [
        {"ttl": 0},
        {"ttl": -1},
        {"timeout": 0},
        {"ping_every": 0},
        {"reread_every": 0},
        {"ttl": float("nan")},
        {"ttl": 1e308},
    ],
    ids=["no-ttl", "negative", "timeout", "ping_every", "reread_every", "nan", "huge"],
)
def test_seconds_are_checked(options: dict[str, float]) -> None:
    """A number of seconds is positive, and at most a year."""
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be a positive number of seconds"):
        PostgresMailbox("postgresql://localhost", **options)


@pytest.mark.parametrize("arguments", [{}, {"dsn": "postgresql://localhost", "pool": object()}], ids=["none", "both"])
def test_dsn_or_pool(arguments: dict[str, Any]) -> None:
    """Exactly one of them."""
    with pytest.raises(ValueError, match="either dsn or pool"):
        PostgresMailbox(**arguments)


@pytest.mark.parametrize("dsn", ["", "redis://:hunter2@host", "host=localhost password=hunter2"])
def test_dsn_that_is_none(dsn: str) -> None:
    """The error does not quote it."""
    with pytest.raises(ValueError, match=r"must be a postgresql:// url$"):
        PostgresMailbox(dsn)


async def test_dsn_that_can_not_be_parsed(heard: Heard) -> None:
    """It is an outage that names asyncpg's error, and quotes nothing."""
    mailbox = PostgresMailbox("postgresql://ann:hunter2@host:port/database")
    with pytest.raises(TransportError) as caught:
        await mailbox.position(KEY)
    assert "hunter2" not in f"{caught.value!r} {mailbox!r} {await heard.lines.get()}"
    await mailbox.aclose()


@pytest.mark.parametrize("code", ["from avaturn_async import *", "import avaturn_async.webhooks.postgres"])
def test_import_without_the_extra(code: str) -> None:
    """Nothing but the mailbox needs asyncpg."""
    subprocess.run([sys.executable, "-c", f"import sys; sys.modules['asyncpg'] = None\n{code}"], check=True)


def test_mailbox_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    from avaturn_async import ConfigurationError

    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(ConfigurationError, match=r"pip install \"avaturn-async\[postgres\]\""):
        PostgresMailbox("postgresql://localhost")


async def test_an_event_is_found_by_its_session(make_mailbox: MakePostgresMailbox) -> None:
    """It is the same delivery."""
    await check_session_key(await make_mailbox())

"""The mailbox in Redis: the contract, tenants, expiry, what it costs, clients of all kinds and secrets."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster

from avaturn_async import ConfigurationError, RedisMailbox, WrongLoopError
from avaturn_async.testing.mailbox_contract import SharedMailboxContract
from avaturn_async.webhooks import key_of

from ...observe.kit import TRACEPARENT
from ..samples import avatar, check_session_key, export_event, render_event
from ..stores import EXPORT, KEY, ClaimContract, free_port, mailbox_tasks, shown, stored
from .conftest import MakeRedisMailbox
from .server import QUIET, Server


@pytest.mark.parametrize("query", ["", "?decode_responses=True"], ids=["bytes", "text"])
class TestContract(SharedMailboxContract):
    """The contract, in Redis, with answers as bytes and as text."""

    @pytest.fixture
    async def mailbox(self, make_mailbox: MakeRedisMailbox, server: Server, query: str) -> RedisMailbox:
        """Open a mailbox."""
        return await make_mailbox(url=server.url + query)

    @pytest.fixture
    async def other_mailbox(self, make_mailbox: MakeRedisMailbox, server: Server, query: str) -> RedisMailbox:
        """Open another one in the same server."""
        return await make_mailbox(url=server.url + query)


class TestClaims(ClaimContract):
    """Claims, in Redis."""

    kind = "redis"

    def url(self, server: Server) -> str:
        """Return the url of the server."""
        return server.url


async def test_prefixes_are_separate(make_mailbox: MakeRedisMailbox, server: Server) -> None:
    """Mailboxes of different prefixes see neither rows nor notifications of each other."""
    ours, theirs = await make_mailbox(prefix="ours:"), await make_mailbox(prefix="theirs:")
    waiting = theirs.wait(KEY, "")
    await ours.deliver(EXPORT)
    assert EXPORT == (await stored(ours, EXPORT)).event
    assert "" == await theirs.position(KEY)
    assert not waiting.done()
    with server.admin() as admin:
        assert [f"ours:{KEY}"] == admin.keys()
    waiting.cancel()


async def test_a_trace_context_is_one_more_field(make_mailbox: MakeRedisMailbox, server: Server) -> None:
    """Earlier releases, which ignore fields that they don't know, read the row; without one it is as they wrote it."""
    mailbox, fields = await make_mailbox(), {"v", "id", "authenticated", "event"}
    for options in ({}, {"traceparent": TRACEPARENT}):
        await mailbox.deliver(EXPORT, **options)
        with server.admin() as admin:
            row = json.loads(admin.get(f"avaturn:{KEY}"))
        assert fields | options.keys() == row.keys()
        assert 1 == row["v"]


async def test_rows_expire(make_mailbox: MakeRedisMailbox, server: Server) -> None:
    """An event lives for its ttl, which each delivery begins anew."""
    mailbox = await make_mailbox(ttl=900)
    with server.admin() as admin:
        for _ in range(2):
            await mailbox.deliver(EXPORT)
            assert 890_000 < admin.pttl(f"avaturn:{KEY}") <= 900_000
            admin.pexpire(f"avaturn:{KEY}", 60_000)


@pytest.mark.parametrize(("ttl", "lives"), [(900, 60_000), (5, 5_000)], ids=["long", "short"])
async def test_unauthenticated_rows_live_shortly(
    make_mailbox: MakeRedisMailbox, server: Server, ttl: float, lives: int
) -> None:
    """A flood of them leaves no more than that of a minute, and authenticated events live on."""
    mailbox = await make_mailbox(ttl=ttl)
    with server.admin() as admin:
        for event in (EXPORT, render_event(), EXPORT):
            await mailbox.deliver(event, authenticated=False)
            assert lives - 5_000 < admin.pttl(f"avaturn:{key_of(event)}") <= lives
        await mailbox.deliver(EXPORT)
        left = admin.pttl(f"avaturn:{KEY}")
        assert ttl * 1000 - 5_000 < left <= ttl * 1000
        await mailbox.deliver(EXPORT, authenticated=False)
        assert left - 5_000 < admin.pttl(f"avaturn:{KEY}") <= left


# What it costs.


async def test_position_costs_one_read_and_a_wait_another(make_mailbox: MakeRedisMailbox, server: Server) -> None:
    """The rows of waits that begin before the subscription are read once, when it is established."""
    mailbox = await make_mailbox()
    await mailbox.deliver(EXPORT)
    before = server.calls("get")
    position = await mailbox.position(KEY)
    assert before + 1 == server.calls("get")
    await mailbox.wait(KEY, "")
    assert before + 2 == server.calls("get")
    mailbox.wait(KEY, position).cancel()


async def test_many_waits_share_one_subscription(make_mailbox: MakeRedisMailbox, server: Server) -> None:
    """10,000 waits are one subscriber and one read each, and leave nothing once they are cancelled."""
    mailbox = await make_mailbox(reread_every=600)
    tasks = asyncio.all_tasks()
    waits = [mailbox.wait(key_of(export_event(avatar(number))), "") for number in range(10_000)]
    await mailbox.deliver(EXPORT)
    assert EXPORT == (await mailbox.wait(KEY, "")).event
    assert 1 == len(server.subscribers())
    assert server.calls("get") <= 10_000 + 4
    assert 2 == len(mailbox_tasks())
    for wait in waits:
        wait.cancel()
    while asyncio.all_tasks() - tasks:
        await asyncio.sleep(0.002)
    while server.subscribers():
        await asyncio.sleep(0)


# Event loops.


async def test_waits_belong_to_one_loop(make_mailbox: MakeRedisMailbox) -> None:
    """While there are waits here there can be none on another loop; later there can."""
    mailbox = await make_mailbox()
    waiting = mailbox.wait(KEY, "")

    async def refused() -> None:
        with pytest.raises(WrongLoopError):
            mailbox.wait(KEY, "")

    await asyncio.to_thread(asyncio.run, refused())
    await mailbox.deliver(EXPORT)
    await waiting
    await asyncio.sleep(0)

    async def served() -> None:
        assert EXPORT == (await mailbox.wait(KEY, "")).event
        await mailbox.aclose()

    await asyncio.to_thread(asyncio.run, served())


async def test_closing_from_another_loop(make_mailbox: MakeRedisMailbox) -> None:
    """The waits are ended on their own loop."""
    mailbox = await make_mailbox()
    waiting = mailbox.wait(KEY, "")
    await asyncio.to_thread(lambda: asyncio.run(mailbox.aclose()))
    assert "ClientClosedError" == type(waiting.exception()).__name__


# Clients and urls of all kinds.


@pytest.fixture
async def borrowed(server: Server) -> AsyncIterator[Redis]:
    """Open a client such as a user has."""
    async with Redis.from_url(server.url, **QUIET, health_check_interval=1) as client:
        yield client


async def test_client_is_borrowed(borrowed: Redis, make_mailbox: MakeRedisMailbox) -> None:
    """It is used and left open, and it serves the loop that it is on."""
    mailbox = await make_mailbox(url=None, client=borrowed)
    waiting = mailbox.wait(KEY, "")
    await mailbox.deliver(EXPORT)
    assert EXPORT == (await waiting).event

    async def elsewhere() -> None:
        with pytest.raises(WrongLoopError):
            await mailbox.deliver(EXPORT)
        with pytest.raises(WrongLoopError):
            mailbox.wait(KEY, "")

    await asyncio.to_thread(asyncio.run, elsewhere())
    await mailbox.aclose()
    assert await borrowed.ping()


async def test_cluster(tmp_path: Path) -> None:
    """Rows of any slot are read and written through a cluster's client."""
    with Server(tmp_path, "--cluster-enabled", "yes", "--cluster-port", str(free_port())) as server:
        with server.admin() as admin:
            admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            while admin.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
                pass
        async with RedisCluster.from_url(server.url) as client:
            mailbox = RedisMailbox(client=client)
            events = [export_event(avatar(number)) for number in range(20)]
            waits = [mailbox.wait(key_of(event), "") for event in events]
            for event in events:
                await mailbox.deliver(event)
            assert events == [delivery.event for delivery in await asyncio.gather(*waits)]
            await mailbox.aclose()


async def test_unix_socket_user_and_database(tmp_path: Path) -> None:
    """A url names all of it."""
    options = ["--unixsocket", str(tmp_path / "s"), "--user", "ann", "on", ">hunter2", "~*", "&*", "+@all"]
    with Server(tmp_path, *options) as server:
        mailbox = RedisMailbox(f"unix://ann:hunter2@{tmp_path}/s?db=3")
        waiting = mailbox.wait(KEY, "")
        await mailbox.deliver(EXPORT)
        assert EXPORT == (await waiting).event
        await mailbox.aclose()
        with server.admin(db=3) as admin:
            assert [f"avaturn:{KEY}"] == admin.keys()


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
        RedisMailbox("redis://localhost", **options)


@pytest.mark.parametrize("arguments", [{}, {"url": "redis://localhost", "client": object()}], ids=["neither", "both"])
def test_url_or_client(arguments: dict[str, Any]) -> None:
    """Exactly one of them."""
    with pytest.raises(ValueError, match="either url or client"):
        RedisMailbox(**arguments)


@pytest.mark.parametrize("url", ["http://:hunter2@host", "redis://:x/hunter2@host", "redis://:hunter2@host:port", ""])
def test_url_that_can_not_be_parsed(url: str) -> None:
    """The error does not quote it, nor does its traceback."""
    with pytest.raises(ValueError, match="not one that redis-py understands") as caught:
        RedisMailbox(url)
    assert caught.value.__context__ is None
    assert "hunter2" not in shown(caught.value)


def test_repr_shows_no_secret() -> None:
    """It has the prefix alone."""
    assert "<RedisMailbox prefix='avaturn:'>" == repr(RedisMailbox("redis://ann:hunter2@localhost"))


@pytest.mark.parametrize("code", ["from avaturn_async import *", "import avaturn_async.webhooks.redis"])
def test_import_without_the_extra(code: str) -> None:
    """Nothing but the mailbox needs redis-py."""
    subprocess.run([sys.executable, "-c", f"import sys; sys.modules['redis'] = None\n{code}"], check=True)


def test_mailbox_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigurationError, match=r"pip install \"avaturn-async\[redis\]\""):
        RedisMailbox("redis://localhost")


async def test_an_event_is_found_by_its_session(make_mailbox: MakeRedisMailbox) -> None:
    """It is the same delivery."""
    await check_session_key(await make_mailbox())

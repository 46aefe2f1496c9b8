"""The mailbox in Redis: the contract, workers, tenants, what it costs, and clients of all kinds."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from redis.asyncio import Redis, RedisCluster

from avaturn_async import Delivery, TransportError, WrongLoopError
from avaturn_async.testing.mailbox_contract import SharedMailboxContract
from avaturn_async.webhooks import key_of
from avaturn_async.webhooks.redis import _DELIVER, RedisMailbox

from ..samples import avatar, export_event, render_event
from .conftest import MakeRedisMailbox
from .server import Server, free_port

EXPORT, RENDERED = export_event(), render_event()
KEY = key_of(EXPORT)


async def standing(mailbox: RedisMailbox, event: Any) -> Delivery:
    """Return the delivery that is stored under the key of `event`."""
    return await mailbox.wait(key_of(event), "")


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


async def test_an_event_reaches_another_worker(make_mailbox: MakeRedisMailbox) -> None:
    """Whoever waits is woken by what was delivered elsewhere, before or after."""
    receiver, waiter = await make_mailbox(), await make_mailbox()
    waiting = waiter.wait(KEY, await waiter.position(KEY))
    await receiver.deliver(EXPORT)
    first = await waiting
    assert EXPORT == first.event
    await receiver.deliver(EXPORT)
    assert EXPORT == (await waiter.wait(KEY, first.id)).event


async def test_tenants_are_apart(make_mailbox: MakeRedisMailbox, server: Server) -> None:
    """Mailboxes of different prefixes see neither rows nor wakes of each other."""
    ours, theirs = await make_mailbox(prefix="ours:"), await make_mailbox(prefix="theirs:")
    waiting = theirs.wait(KEY, "")
    await ours.deliver(EXPORT)
    assert EXPORT == (await standing(ours, EXPORT)).event
    assert "" == await theirs.position(KEY)
    assert not waiting.done()
    with server.admin() as admin:
        assert [f"ours:{KEY}"] == admin.keys()
    waiting.cancel()


async def test_rows_expire(make_mailbox: MakeRedisMailbox, server: Server) -> None:
    """A row lives for its ttl, which each delivery begins anew."""
    mailbox = await make_mailbox(ttl=900)
    with server.admin() as admin:
        for _ in range(2):
            await mailbox.deliver(EXPORT)
            assert 890_000 < admin.pttl(f"avaturn:{KEY}") <= 900_000
            admin.pexpire(f"avaturn:{KEY}", 60_000)


@pytest.mark.parametrize(("ttl", "lives"), [(900, 60_000), (5, 5_000)])
async def test_hints_live_shortly(make_mailbox: MakeRedisMailbox, server: Server, ttl: float, lives: int) -> None:
    """Of a flood of unauthenticated events no more is left than that of a minute, and what is authenticated lives."""
    mailbox = await make_mailbox(ttl=ttl)
    with server.admin() as admin:
        for event in (EXPORT, RENDERED, EXPORT):
            await mailbox.deliver(event, authenticated=False)
            assert lives - 5_000 < admin.pttl(f"avaturn:{key_of(event)}") <= lives
        await mailbox.deliver(EXPORT)
        told = admin.pttl(f"avaturn:{KEY}")
        assert ttl * 1000 - 5_000 < told <= ttl * 1000
        await mailbox.deliver(EXPORT, authenticated=False)
        assert told - 5_000 < admin.pttl(f"avaturn:{KEY}") <= told


@pytest.mark.parametrize("make", [export_event, render_event])
async def test_hints_carry_no_ballast(make_mailbox: MakeRedisMailbox, server: Server, make: Any) -> None:
    """What a forger adds to an event is not stored; what comes from a verified source is."""
    mailbox = await make_mailbox()
    heavy = make(user_id="\x00" * 128, extra={"new": [[]] * 10_000})
    url = {"export_url": "u" * 60_000} if heavy.event == "export.ready" else {"render_url": "u" * 60_000}
    heavy = attrs.evolve(heavy, **url)
    await mailbox.deliver(heavy, authenticated=False)
    hint = (await standing(mailbox, heavy)).event
    assert ({}, dict.fromkeys(url, "")) == (hint.extra, {name: getattr(hint, name) for name in url})
    with server.admin() as admin:
        assert admin.strlen(f"avaturn:{key_of(heavy)}") < 4_000
    await mailbox.deliver(heavy)
    assert heavy == (await standing(mailbox, heavy)).event


async def test_odd_events_survive(make_mailbox: MakeRedisMailbox) -> None:
    """Unknown fields come out as they went in: empty lists, large numbers, text of any kind."""
    mailbox = await make_mailbox()
    event = export_event(extra={"none": [], "large": 2**60, "text": 'é\U0001f600\u2028/\\"\x00'})
    await mailbox.deliver(event)
    assert event == (await standing(mailbox, event)).event


@pytest.mark.parametrize("row", ["", "nonsense", "[]", "{}", '{"id":1,"event":"{\\"event\\":\\"other\\"}"}', "7"])
async def test_a_row_of_others_is_none(make_mailbox: MakeRedisMailbox, server: Server, row: str) -> None:
    """What we did not write is no event, and a delivery replaces it."""
    mailbox = await make_mailbox()
    with server.admin() as admin:
        admin.set(f"avaturn:{KEY}", row)
    assert "" == await mailbox.position(KEY)
    waiting = mailbox.wait(KEY, "")
    await mailbox.deliver(EXPORT)
    assert EXPORT == (await waiting).event


async def test_a_delivery_that_is_sent_twice_counts_once(make_mailbox: MakeRedisMailbox, server: Server) -> None:
    """Where the answer is lost with its connection and it is sent again, the row says that it is alone."""
    mailbox = await make_mailbox()
    await mailbox.deliver(EXPORT)
    with server.admin() as admin:
        sent = [admin.get(f"avaturn:{KEY}")]
        admin.eval(_DELIVER, 1, f"avaturn:{KEY}", sent[0], "0", 900_000, "avaturn:wake", KEY)
        assert sent == [admin.get(f"avaturn:{KEY}")]


# What it costs.


async def test_a_position_costs_one_read_and_a_wait_another(make_mailbox: MakeRedisMailbox, server: Server) -> None:
    """And who waits already when the subscription stands is read once with all others."""
    mailbox = await make_mailbox()
    await mailbox.deliver(EXPORT)
    before = server.calls("get")
    position = await mailbox.position(KEY)
    assert before + 1 == server.calls("get")
    await mailbox.wait(KEY, "")
    assert before + 2 == server.calls("get")
    mailbox.wait(KEY, position).cancel()


async def test_many_waits_share_one_subscription(make_mailbox: MakeRedisMailbox, server: Server) -> None:
    """10,000 waits are one subscriber and one read each, and as many cancelled ones leave nothing."""
    mailbox = await make_mailbox()
    tasks = asyncio.all_tasks()
    waits = [mailbox.wait(key_of(export_event(avatar(number))), "") for number in range(10_000)]
    await mailbox.deliver(EXPORT)
    assert EXPORT == (await mailbox.wait(KEY, "")).event
    assert 1 == len(server.subscribers())
    assert server.calls("get") <= 10_000 + 4
    assert 3 >= len(asyncio.all_tasks() - tasks)
    for wait in waits:
        wait.cancel()
    left = asyncio.all_tasks() - tasks
    await asyncio.gather(*left, return_exceptions=True)
    assert {} == mailbox._home.waiters  # type: ignore[union-attr]
    assert tasks == asyncio.all_tasks()


async def test_a_wait_after_all_waits(make_mailbox: MakeRedisMailbox) -> None:
    """The subscription ends with the last wait, and the next wait begins another."""
    mailbox = await make_mailbox()
    for _ in range(20):
        position = await mailbox.position(KEY)
        mailbox.wait(KEY, position).cancel()
        waiting = mailbox.wait(KEY, position)
        await mailbox.deliver(EXPORT)
        assert position != (await waiting).id


# Event loops.


async def test_waits_belong_to_one_loop(make_mailbox: MakeRedisMailbox) -> None:
    """While somebody waits here nobody can wait on another loop; later they can."""
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


async def test_it_is_closed_from_another_loop(make_mailbox: MakeRedisMailbox) -> None:
    """Closing it ends the waits where they are."""
    mailbox = await make_mailbox()
    waiting = mailbox.wait(KEY, "")
    await asyncio.to_thread(lambda: asyncio.run(mailbox.aclose()))
    assert "ClientClosedError" == type(waiting.exception()).__name__


# Clients and urls of all kinds.


@pytest.fixture
async def borrowed(server: Server) -> AsyncIterator[Redis]:
    """Open a client of the user's."""
    async with Redis.from_url(server.url, driver_info=None, health_check_interval=1) as client:
        yield client


async def test_a_client_is_borrowed(borrowed: Redis, make_mailbox: MakeRedisMailbox) -> None:
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


async def test_a_cluster(tmp_path: Path) -> None:
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


async def test_a_unix_socket_a_user_and_a_database(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("options", [{"ttl": 0}, {"ttl": -1}, {"timeout": 0}, {"ping_every": 0}, {"ttl": float("nan")}])
def test_seconds_are_positive(options: dict[str, float]) -> None:
    """No row that is gone at once."""
    with pytest.raises(ValueError, match="must be a positive number of seconds"):
        RedisMailbox("redis://localhost", **options)


def test_a_url_or_a_client() -> None:
    """One of them, not both."""
    for arguments in ({}, {"url": "redis://localhost", "client": Redis()}):
        with pytest.raises(ValueError, match="either url or client"):
            RedisMailbox(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("url", ["http://:hunter2@host", "redis://:x/hunter2@host", "redis://:hunter2@host:port", ""])
def test_a_url_that_can_not_be_understood(url: str) -> None:
    """The error does not quote it."""
    with pytest.raises(ValueError, match="not one that redis-py understands") as caught:
        RedisMailbox(url)
    assert caught.value.__context__ is None


async def test_a_password_is_not_shown(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Not in repr, errors, what they stem from, or logs."""
    mailbox = RedisMailbox(f"redis://ann:hunter2@127.0.0.1:{server.port}")
    mailbox.wait(KEY, "")
    with pytest.raises(TransportError) as caught:
        await mailbox.position(KEY)
    await mailbox.aclose()
    assert (None, None) == (caught.value.__cause__, caught.value.__context__)
    shown = f"{mailbox!r} {mailbox._url!r} {caught.value!r} {caplog.text}"
    assert "hunter2" not in shown
    assert "ann" not in shown


@pytest.mark.parametrize(
    ("module", "told"), [("avaturn_async.webhooks", ""), ("avaturn_async.webhooks.redis", "avaturn-async[redis]")]
)
def test_without_the_extra(module: str, told: str) -> None:
    """Only the mailbox itself needs redis-py, and says how to get it."""
    code = f"import sys; sys.modules['redis'] = None\nimport {module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (1 if told else 0) == done.returncode
    assert told in done.stderr

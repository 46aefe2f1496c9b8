"""Redis goes away, comes back empty, hangs, or refuses: waits go on."""

from __future__ import annotations

import asyncio

import pytest

from avaturn_async import TransportError
from avaturn_async.webhooks import key_of

from ..samples import avatar, export_event
from ..stores import EXPORT, KEY, Heard, OutageContract, mailbox_tasks, stored
from .conftest import MakeRedisMailbox
from .server import Server

OTHER = export_event(avatar(1))


class TestOutages(OutageContract):
    """The outages that every store is tried with."""


async def test_silent_connection_lives_by_its_pings(server: Server, make_mailbox: MakeRedisMailbox) -> None:
    """Where nothing happens the subscriber stays the same."""
    mailbox = await make_mailbox(ping_every=0.25)
    waiting = mailbox.wait(KEY, "")
    while not server.subscribers():
        await asyncio.sleep(0.002)
    before = server.subscribers()
    pings = server.calls("ping")
    while server.calls("ping") < pings + 5:
        await asyncio.sleep(0.002)
    assert before == server.subscribers()
    waiting.cancel()


async def test_idle_connections_are_replaced(server: Server, make_mailbox: MakeRedisMailbox) -> None:
    """A delivery over a connection that the server closed meanwhile is sent again over another."""
    mailbox = await make_mailbox()
    await mailbox.position(KEY)
    with server.admin() as admin:
        assert admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await mailbox.deliver(EXPORT)
    assert EXPORT == (await stored(mailbox, EXPORT)).event


# Keys.


async def test_value_of_another_type(server: Server, make_mailbox: MakeRedisMailbox, heard: Heard) -> None:
    """It concerns its own key alone, is logged once, and a delivery replaces it, which is logged too."""
    mailbox = await make_mailbox()
    with server.admin() as admin:
        admin.rpush(f"avaturn:{KEY}", "in the way")
    waiting, other = mailbox.wait(KEY, ""), mailbox.wait(key_of(OTHER), "")
    for _ in range(3):
        assert "" == await mailbox.position(KEY)
    await mailbox.deliver(OTHER)
    assert OTHER == (await other).event
    assert (
        f"WARNING the mailbox in Redis can't use the row of {KEY} (a value of another type)" == await heard.lines.get()
    )
    await mailbox.deliver(EXPORT)
    assert EXPORT == (await waiting).event
    assert f"WARNING the mailbox replaced a value of another type under avaturn:{KEY}" == await heard.lines.get()
    assert heard.lines.empty()


async def test_key_that_may_not_be_used(server: Server, make_mailbox: MakeRedisMailbox, heard: Heard) -> None:
    """A key that the user has no permission for concerns itself alone, and is logged once."""
    with server.admin() as admin:
        admin.acl_setuser(
            "ann", enabled=True, nopass=True, keys=[f"avaturn:{key_of(OTHER)}"], categories=["+@all"], channels=["*"]
        )
    mailbox = await make_mailbox(user="ann", password="x")
    waiting, other = mailbox.wait(KEY, ""), mailbox.wait(key_of(OTHER), "")
    for _ in range(3):
        assert "" == await mailbox.position(KEY)
        with pytest.raises(TransportError, match="NoPermissionError"):
            await mailbox.deliver(EXPORT)
    await mailbox.deliver(OTHER)
    assert OTHER == (await other).event
    assert f"WARNING the mailbox in Redis can't use the row of {KEY} (NoPermissionError)" == await heard.lines.get()
    assert heard.lines.empty()
    waiting.cancel()


async def test_channel_that_may_not_be_used(server: Server, make_mailbox: MakeRedisMailbox, heard: Heard) -> None:
    """Without a subscription, waits go on by reading, and one warning says so."""
    with server.admin() as admin:
        admin.acl_setuser("ann", enabled=True, nopass=True, keys=["*"], categories=["+@all"], reset_channels=True)
    mailbox, receiver = await make_mailbox(user="ann", password="x", reread_every=0.05), await make_mailbox()
    waiting = mailbox.wait(KEY, "")
    await heard.outage("NoPermissionError")
    for _ in range(3):
        await receiver.deliver(EXPORT)
        delivery = await waiting
        assert EXPORT == delivery.event
        while mailbox_tasks():
            await asyncio.sleep(0.002)
        waiting = mailbox.wait(KEY, delivery.id)
    assert heard.lines.empty()
    waiting.cancel()


async def test_full_server_is_one_outage(server: Server, make_mailbox: MakeRedisMailbox, heard: Heard) -> None:
    """While writes are refused and reads are not, one warning says so, until a write succeeds."""
    mailbox = await make_mailbox()
    await mailbox.position(KEY)
    with server.admin() as admin:
        admin.config_set("maxmemory", "1")
        for _ in range(5):
            with pytest.raises(TransportError, match=r"OutOfMemoryError|ResponseError"):
                await mailbox.deliver(EXPORT)
            assert "" == await mailbox.position(KEY)
        await heard.outage()
        assert heard.lines.empty()
        admin.config_set("maxmemory", "0")
    await mailbox.deliver(EXPORT)
    await heard.healed()


# Channels.


@pytest.mark.parametrize("query", ["", "?decode_responses=True"], ids=["bytes", "text"])
async def test_messages_that_are_no_keys(
    server: Server, make_mailbox: MakeRedisMailbox, heard: Heard, query: str
) -> None:
    """Whatever another program publishes is dropped, without a line, and waits go on."""
    mailbox = await make_mailbox(url=server.url + query)
    waiting = mailbox.wait(KEY, "")
    await mailbox.deliver(OTHER)
    await stored(mailbox, OTHER)
    with server.admin() as admin:
        for message in (b"\xff\xfe", b"", b"render:", "é".encode(), b"x" * 100_000):
            while not admin.publish("avaturn:wake:0", message):  # a client that decodes subscribes again each time
                await asyncio.sleep(0.002)
    await mailbox.deliver(EXPORT)
    assert EXPORT == (await waiting).event
    assert heard.lines.empty()


async def test_databases_are_separate(server: Server, make_mailbox: MakeRedisMailbox) -> None:
    """A delivery in one database wakes nobody in another: channels, unlike rows, ignore database numbers."""
    ours, theirs = await make_mailbox(), await make_mailbox(url=server.url.removesuffix("0") + "1")
    waiting = theirs.wait(KEY, "")
    await theirs.deliver(OTHER)
    await stored(theirs, OTHER)
    with server.admin() as admin, admin.pubsub() as pubsub:
        pubsub.psubscribe("avaturn:wake:*")
        await ours.deliver(EXPORT)
        messages = [pubsub.get_message(timeout=5) for _ in range(2)]
    assert b"avaturn:wake:0" == messages[1]["channel"].encode()
    assert "" == await theirs.position(KEY)
    assert not waiting.done()
    waiting.cancel()

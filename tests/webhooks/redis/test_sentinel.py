"""A master, its replica, and a Sentinel that makes the replica the master when the master dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from redis.asyncio import Redis, Sentinel
from redis.exceptions import ReadOnlyError

from avaturn_async import TransportError
from avaturn_async.webhooks import key_of

from ..samples import avatar, export_event
from ..stores import Heard
from .conftest import MakeRedisMailbox
from .server import QUIET, SentinelServer, Server

T = TypeVar("T")


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Server]:
    """Run the first master."""
    (tmp_path / "master").mkdir()
    with Server(tmp_path / "master", "--repl-diskless-sync-delay", "0") as running:
        yield running


@pytest.fixture
def replica(tmp_path: Path, master: Server) -> Iterator[Server]:
    """Run a replica, and return when it has what the master has."""
    (tmp_path / "replica").mkdir()
    with Server(tmp_path / "replica", "--replicaof", "127.0.0.1", str(master.port)) as running:
        with running.admin() as admin:
            while "up" != admin.info("replication")["master_link_status"]:
                pass
        yield running


@pytest.fixture
def sentinel(tmp_path: Path, master: Server, replica: Server) -> Iterator[SentinelServer]:
    """Run a Sentinel that knows of both."""
    (tmp_path / "sentinel").mkdir()
    with SentinelServer(tmp_path / "sentinel", master) as running:
        with running.admin() as admin:
            while not any(each["flags"] == "slave" for each in replicas(admin)):
                pass
        yield running


def replicas(admin: Any) -> list[dict[str, str]]:
    """Return what the Sentinel knows of the replicas."""
    found = admin.execute_command("SENTINEL", "REPLICAS", SentinelServer.NAME)
    return [each if isinstance(each, dict) else dict(zip(each[::2], each[1::2], strict=True)) for each in found]


@pytest.fixture
async def client(sentinel: SentinelServer) -> AsyncIterator[Redis]:
    """Open a client that asks the Sentinel who the master is."""
    asking = Sentinel([("127.0.0.1", sentinel.port)], sentinel_kwargs=QUIET)
    async with asking.master_for(SentinelServer.NAME, **QUIET) as opened:
        yield opened
    for each in asking.sentinels:
        await each.aclose()


@pytest.fixture
async def switched(sentinel: SentinelServer) -> AsyncIterator[asyncio.Future[None]]:
    """Return what resolves when the Sentinel announces a new master."""
    async with Redis(port=sentinel.port, **QUIET) as admin, admin.pubsub() as pubsub:
        await pubsub.subscribe("+switch-master")
        assert "subscribe" == (await pubsub.get_message(timeout=None))["type"]
        told = asyncio.ensure_future(pubsub.get_message(timeout=None))
        yield told
        told.cancel()
        await asyncio.wait((told,))


async def repeated(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call until the store can be used, as a sender does that is answered with 503."""
    while True:
        try:
            return await call()
        except TransportError:  # the Sentinel may not have heard from the new master yet
            pass


@pytest.mark.slow
async def test_waits_outlive_the_master(
    master: Server,
    replica: Server,
    client: Redis,
    make_mailbox: MakeRedisMailbox,
    heard: Heard,
    switched: asyncio.Future[None],
) -> None:
    """Events arrive through the master and, once it is dead, through the replica that replaces it."""
    mailbox = await make_mailbox(url=None, client=client)
    before, after, late = (export_event(avatar(number)) for number in range(3))
    waits = [mailbox.wait(key_of(event), "") for event in (before, after)]
    await mailbox.deliver(before)
    assert before == (await waits[0]).event
    with replica.admin() as admin, pytest.raises(ReadOnlyError):
        admin.set("is it", "the master")
    with master.admin() as admin:
        assert 1 == admin.wait(1, 0)
    master.kill()
    await heard.outage()
    await switched
    await heard.healed()
    assert not waits[1].done()
    await repeated(lambda: mailbox.deliver(after))
    assert after == (await waits[1]).event
    assert before == (await mailbox.wait(key_of(before), "")).event
    waiting = mailbox.wait(key_of(late), await repeated(lambda: mailbox.position(key_of(late))))
    await repeated(lambda: mailbox.deliver(late))
    assert late == (await waiting).event
    while not heard.lines.empty():
        await heard.outage()
        await heard.healed()

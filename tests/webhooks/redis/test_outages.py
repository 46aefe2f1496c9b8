"""Redis goes away, comes back empty, hangs, or drops its subscribers: waits go on."""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import Any

import pytest

from avaturn_async import AvaturnClient, PollPolicy, TransportError, WebhookReceiver
from avaturn_async.emulator import Emulator, Faults, Timing
from avaturn_async.webhooks import key_of
from avaturn_async.webhooks.redis import RedisMailbox

from ...pending.world import AVATAR, PENDING, READY, World, saying
from ..samples import SECRET, avatar, export_body, export_event
from .conftest import Heard, MakeRedisMailbox
from .server import Server

EXPORT = export_event()
KEY = key_of(EXPORT)
QUICK = PollPolicy(first=0.02, factor=1.5, cap=0.1, first_with_webhooks=0.02)
NEVER = PollPolicy(first=600, cap=600, first_with_webhooks=600)


async def test_down_at_first(server: Server, make_mailbox: MakeRedisMailbox, heard: Heard) -> None:
    """A wait is merely pending, one warning says why, and it heals by itself."""
    server.kill()
    mailbox = await make_mailbox()
    waiting = mailbox.wait(KEY, "")
    await heard.outage()
    assert not waiting.done()
    await server.restart()
    await heard.healed()
    await mailbox.deliver(EXPORT)
    assert EXPORT == (await waiting).event


async def test_down_for_ever(server: Server, make_mailbox: MakeRedisMailbox, heard: Heard) -> None:
    """Tries go on without another word, and closing ends them."""
    server.kill()
    mailbox = await make_mailbox()
    waiting = mailbox.wait(KEY, "")
    while mailbox._home._failures < 4:  # type: ignore[union-attr]
        await asyncio.sleep(0)
    await heard.outage()
    assert heard.lines.empty()
    assert not waiting.done()


async def test_calls_while_it_is_down(server: Server, make_mailbox: MakeRedisMailbox) -> None:
    """A read and a delivery fail with an error of ours that carries nothing of theirs."""
    server.kill()
    mailbox = await make_mailbox()
    for call in (mailbox.position(KEY), mailbox.deliver(EXPORT)):
        with pytest.raises(TransportError, match=r"the mailbox's Redis can't be used \(ConnectionError\)") as caught:
            await call
        assert (None, None) == (caught.value.__cause__, caught.value.__context__)


async def test_a_hanging_server_is_given_up_in_time(server: Server, make_mailbox: MakeRedisMailbox) -> None:
    """Neither call hangs with it."""
    mailbox = await make_mailbox(timeout=0.1)
    await mailbox.position(KEY)
    server.pause()
    for call in (mailbox.position(KEY), mailbox.deliver(EXPORT)):
        with pytest.raises(TransportError, match="TimeoutError"):
            await call
    server.go_on()


async def test_killed_and_restarted_empty(server: Server, make_mailbox: MakeRedisMailbox, heard: Heard) -> None:
    """Waits outlive a server, each outage is told once, and later deliveries arrive."""
    mailbox = await make_mailbox()
    waits = [mailbox.wait(key_of(export_event(avatar(number))), "") for number in range(3)]
    for number, waiting in enumerate(waits):
        await mailbox.deliver(export_event(avatar(number)))
        await waiting
        if number == 2:
            break
        server.kill()
        await heard.outage()
        await server.restart()
        await heard.healed()
    assert heard.lines.empty()


async def test_a_half_open_connection(server: Server, make_mailbox: MakeRedisMailbox, heard: Heard) -> None:
    """A server that neither speaks nor hangs up is noticed by its silence to a ping."""
    mailbox = await make_mailbox(ping_every=0.05)
    waiting = mailbox.wait(KEY, "")
    await mailbox.deliver(export_event(avatar(1)))
    await mailbox.wait(key_of(export_event(avatar(1))), "")
    server.pause()
    await heard.outage("TimeoutError")
    server.go_on()
    await heard.healed()
    await mailbox.deliver(EXPORT)
    assert EXPORT == (await waiting).event


async def test_a_silent_connection_lives_by_its_pings(server: Server, make_mailbox: MakeRedisMailbox) -> None:
    """Where nothing happens the subscriber stays the same."""
    mailbox = await make_mailbox(ping_every=0.02)
    waiting = mailbox.wait(KEY, "")
    while not server.subscribers():
        await asyncio.sleep(0)
    before = server.subscribers()
    pings = server.calls("ping")
    while server.calls("ping") < pings + 5:
        await asyncio.sleep(0)
    assert before == server.subscribers()
    waiting.cancel()


async def test_a_row_that_can_not_be_read(server: Server, make_mailbox: MakeRedisMailbox, heard: Heard) -> None:
    """What stands in the way is an outage until it is gone."""
    mailbox = await make_mailbox()
    await mailbox.position(KEY)
    with server.admin() as admin:
        admin.rpush(f"avaturn:{KEY}", "in the way")
        waiting = mailbox.wait(KEY, "")
        await heard.outage()
        with pytest.raises(TransportError, match="ResponseError"):
            await mailbox.deliver(EXPORT)
        admin.delete(f"avaturn:{KEY}")
    await mailbox.deliver(EXPORT)
    assert EXPORT == (await waiting).event


async def test_subscribers_killed_while_events_arrive(server: Server, make_mailbox: MakeRedisMailbox) -> None:
    """300 of 300 events arrive though each tenth one finds the subscription gone."""
    receiver, waiter = await make_mailbox(), await make_mailbox()
    events = [export_event(avatar(number)) for number in range(300)]
    waits = [waiter.wait(key_of(event), "") for event in events]
    killed = 0
    for number, event in enumerate(events):
        if number % 10 == 0:
            killed += server.kill_subscribers()
        await receiver.deliver(event)
    assert events == [delivery.event for delivery in await asyncio.gather(*waits)]
    assert killed


async def test_the_receiver_refuses_what_it_can_not_keep(server: Server, make_mailbox: MakeRedisMailbox) -> None:
    """503 with Retry-After while Redis is down, 200 again afterwards."""
    receiver = WebhookReceiver(SECRET, mailbox=await make_mailbox())
    server.kill()
    reply = await receiver.handle(export_body(), path=f"/{SECRET}")
    assert (503, "5") == (reply.status, reply.headers["Retry-After"])
    await server.restart()
    assert 200 == (await receiver.handle(export_body(), path=f"/{SECRET}")).status


async def test_waits_end_by_polls(server: Server, make_mailbox: MakeRedisMailbox, heard: Heard) -> None:
    """A wait that begins with Redis and loses it ends by a look, and so does one that never had it."""
    mailbox = await make_mailbox()
    answers: list[Any] = [PENDING]
    world = World(lambda _: answers[-1], mailbox=mailbox, policy=QUICK)  # type: ignore[arg-type]
    waiting = asyncio.ensure_future((await world.exports.create(AVATAR)).wait())
    await asyncio.sleep(0)
    server.kill()
    await heard.outage()
    answers.append(READY)
    assert "poll" == (await waiting).resolved_by
    without = World(saying(PENDING, READY), mailbox=mailbox, policy=QUICK)  # type: ignore[arg-type]
    assert "poll" == (await (await without.exports.create(AVATAR)).wait()).resolved_by


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what any part of the package warned of."""
    ours = [record for record in caplog.records if record.name.startswith("avaturn_async")]
    return [record.getMessage() for record in ours if record.levelno >= logging.WARNING]


def twenty_waits(world: World) -> list[asyncio.Task[Any]]:
    """Create and await 20 exports."""

    async def wait(number: int) -> Any:
        return await (await world.exports.create(avatar(number)))

    return [asyncio.create_task(wait(number)) for number in range(20)]


async def test_an_outage_without_end_is_told_once(
    server: Server, make_mailbox: MakeRedisMailbox, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning in all, of a client that creates and awaits 20 exports and 20 more, and of its mailbox."""
    server.kill()
    mailbox, answers = await make_mailbox(), [PENDING]
    world = World(lambda _: answers[-1], mailbox=mailbox, policy=QUICK)  # type: ignore[arg-type]
    waits = twenty_waits(world)
    while mailbox._home is None or mailbox._home._failures < 3:
        await asyncio.sleep(0)
    waits += twenty_waits(world)
    await asyncio.sleep(0)
    answers.append(READY)
    assert {"poll"} == {model.resolved_by for model in (await asyncio.gather(*waits))[:20]}
    (told,) = warnings(caplog)
    assert "the mailbox's Redis can't be used (ConnectionError); waits go on by polling" == told


async def test_each_outage_is_told_once(
    server: Server, make_mailbox: MakeRedisMailbox, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    """Two outages are two warnings, though exports are created and awaited before, within and after them."""
    mailbox, answers = await make_mailbox(), [PENDING]
    world = World(lambda _: answers[-1], mailbox=mailbox, policy=QUICK)  # type: ignore[arg-type]
    waits = twenty_waits(world)
    await mailbox.deliver(EXPORT)
    await mailbox.wait(KEY, "")  # so that the subscription stands
    for number in (1, 2):
        server.kill()
        await heard.outage()
        waits += twenty_waits(world)
        await asyncio.gather(*(world.context.position(key_of(export_event(avatar(each)))) for each in range(20)))
        await server.restart()
        await heard.healed()
        waits += twenty_waits(world)
        await mailbox.deliver(EXPORT)
        await mailbox.wait(KEY, "")
        assert number == len(warnings(caplog))
    answers.append(READY)
    await asyncio.gather(*waits)
    assert 2 == len(warnings(caplog))


async def test_a_mailbox_that_only_reads_tells_of_outages(
    server: Server, make_mailbox: MakeRedisMailbox, heard: Heard
) -> None:
    """Where nobody waits yet, reads that fail are one warning, and one that succeeds is its end."""
    mailbox = await make_mailbox()
    server.kill()
    for _ in range(3):
        with pytest.raises(TransportError):
            await mailbox.position(KEY)
    await heard.outage("ConnectionError")
    await server.restart()
    await mailbox.position(KEY)
    await heard.healed()
    assert heard.lines.empty()


async def test_waits_outlive_a_server_that_keeps_dying(server: Server, make_mailbox: MakeRedisMailbox) -> None:
    """50 exports whose events are lost with a server that restarts empty all end by polls."""
    async with Emulator(timing=Timing(export=0.2), faults=Faults(webhook_loss=1)) as avaturn:
        mailbox = await make_mailbox()
        async with AvaturnClient(avaturn.token, base_url=avaturn.url, webhooks=mailbox, polling=QUICK) as client:
            user = await client.users.create()
            sessions = [await client.sessions.create(user.id) for _ in range(50)]
            avatars = [await avaturn.complete_session(session.id) for session in sessions]
            await avaturn.settled()
            waits = asyncio.gather(*map(client.exports.create_and_wait, avatars))
            while not waits.done():
                server.kill()
                await server.restart()
            assert {"poll"} == {model.resolved_by for model in await waits}


async def test_a_render_is_resumed_in_another_client(server: Server, make_mailbox: MakeRedisMailbox) -> None:
    """The event came while nobody waited: the token finds it through another mailbox, as another process would."""
    receiver = WebhookReceiver(secrets.token_urlsafe(24), mailbox=await make_mailbox())
    async with Emulator(timing=Timing(render=0.05)) as avaturn, receiver.serve() as hook:
        avaturn.webhook_url = hook.url
        at = {"base_url": avaturn.url, "polling": NEVER}
        async with AvaturnClient(avaturn.token, webhooks=await make_mailbox(), **at) as client:  # type: ignore[arg-type]
            user = await client.users.create()
            avatar_id = await avaturn.complete_session((await client.sessions.create(user.id)).id)
            await client.avatars.pending(user.id, avatar_id)
            token = (await client.renders.create(avatar_id)).resume_token
        await avaturn.settled()
        async with AvaturnClient(avaturn.token, webhooks=await make_mailbox(), **at) as client:  # type: ignore[arg-type]
            render = await client.renders.resume(token)
            assert ("webhook", avatar_id) == (render.resolved_by, render.avatar_id)


async def test_nothing_is_left_of_a_closed_mailbox(server: Server) -> None:
    """Closed in the middle of an outage, or before anything, it leaves neither task nor connection."""
    await RedisMailbox(server.url).aclose()
    mailbox = RedisMailbox(server.url)
    waiting = mailbox.wait(KEY, "")
    server.kill()
    await asyncio.sleep(0)
    await mailbox.aclose()
    assert waiting.done()
    assert "ClientClosedError" == type(waiting.exception()).__name__


async def test_an_outage_that_nobody_awaits_the_end_of(
    server: Server, make_mailbox: MakeRedisMailbox, heard: Heard
) -> None:
    """The one after it is told as well."""
    mailbox = await make_mailbox()
    for _ in range(2):
        waiting = mailbox.wait(KEY, "")
        server.kill()
        await heard.outage()
        waiting.cancel()
        while mailbox._home._task is not None:  # type: ignore[union-attr]
            await asyncio.sleep(0)
        await server.restart()
        await mailbox.position(KEY)

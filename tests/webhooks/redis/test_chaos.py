"""Many events while subscribers are cut off, Redis restarts empty, and waiting processes are killed."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Self

import aiohttp
import pytest
from aiohttp import web
from redis.asyncio import Redis
from redis.exceptions import RedisError

from avaturn_async import AvaturnClient, PollPolicy, RedisMailbox, WebhookReceiver
from avaturn_async.emulator import Emulator, Faults, Timing
from avaturn_async.webhooks import Event, key_of

from ...chaos.kit import SEED, make_avatars, scaled
from ...servers import running
from ..samples import avatar, export_event
from .conftest import MakeRedisMailbox
from .server import QUIET, Server

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]


@asynccontextmanager
async def killed_subscribers(server: Server, rng: random.Random) -> AsyncIterator[None]:
    """Kill every subscriber again and again, every 0.15 to 0.35 s."""

    async def kill() -> None:
        while True:
            await asyncio.sleep(rng.uniform(0.15, 0.35))
            await asyncio.to_thread(server.disconnect_listeners)

    killing = asyncio.create_task(kill())
    yield
    killing.cancel()
    await asyncio.wait((killing,))


class PlainSubscriber:
    """What an app without a mailbox would write: events are messages, and lost connections are replaced."""

    CHANNEL = "plain"

    def __init__(self, url: str) -> None:
        self._client = Redis.from_url(url, **QUIET)
        self._sent: set[str] = set()
        self._heard: set[str] = set()
        self._over = asyncio.Event()

    async def publish(self, event: Event) -> None:
        """Send an event to all subscribers."""
        self._sent.add(key_of(event))
        await self._client.publish(self.CHANNEL, key_of(event))

    async def lost(self) -> int:
        """Return how many events were lost, once the last message arrived."""
        while not self._over.is_set():
            await self._client.publish(self.CHANNEL, "over")
            await asyncio.sleep(0.01)  # nobody may listen just now
        return len(self._sent - self._heard)

    async def _listen(self, listening: asyncio.Event) -> None:
        while not self._over.is_set():
            with suppress(RedisError):
                async with self._client.pubsub() as pubsub:
                    await pubsub.subscribe(self.CHANNEL)
                    async for message in pubsub.listen():
                        listening.set()
                        if message["type"] == "message":
                            self._hear(message["data"].decode())

    def _hear(self, data: str) -> None:
        if data == "over":
            self._over.set()
        else:
            self._heard.add(data)

    async def __aenter__(self) -> Self:
        listening = asyncio.Event()
        self._task = asyncio.create_task(self._listen(listening))
        await listening.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait((self._task,))
        await self._client.aclose()


async def deliver_unheard(server: Server, elsewhere: RedisMailbox, event: Event) -> None:
    """Deliver an event whose notification gets lost: its row is moved into place from another prefix."""
    await elsewhere.deliver(event)
    with server.admin() as admin:
        await asyncio.to_thread(admin.rename, f"elsewhere:{key_of(event)}", f"avaturn:{key_of(event)}")


async def test_no_event_is_lost_with_its_subscriber(server: Server, make_mailbox: MakeRedisMailbox) -> None:
    """2,000 of 2,000: 10 % before their wait, 10 % with their wake-up lost, 40 % twice; plain pub/sub loses some."""
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    events: list[Any] = [export_event(avatar(number)) for number in range(2_000)]
    early, unheard, others = events[:200], events[200:400], events[400:]
    receiver, waiter = await make_mailbox(), await make_mailbox(reread_every=600)
    elsewhere = await make_mailbox(prefix="elsewhere:")
    for event in early:
        await receiver.deliver(event)
    sent = others + unheard + rng.sample(others, 800)
    rng.shuffle(sent)
    silent = set(map(key_of, unheard))
    async with PlainSubscriber(server.url) as plain, killed_subscribers(server, rng):
        waits = [waiter.wait(key_of(event), "") for event in events]
        for event in sent:
            if key_of(event) in silent:
                await deliver_unheard(server, elsewhere, event)
            else:
                await asyncio.gather(receiver.deliver(event), plain.publish(event))
            await asyncio.sleep(rng.uniform(0, 0.005))
        assert events == [delivery.event for delivery in await asyncio.gather(*waits)]
        lost = await plain.lost()
    print(f"plain pub/sub lost {lost} of {len(others)}, the mailbox 0 of {len(events)}")
    assert lost


async def test_every_export_ends_though_webhooks_are_lost(server: Server, make_mailbox: MakeRedisMailbox) -> None:
    """10 % of the webhooks early, 10 % lost, 40 % doubled, subscribers killed: each wait ends once, some by polls."""
    count, rng = scaled(2_000, 200), random.Random(SEED)
    receiver = WebhookReceiver(secrets.token_urlsafe(24), mailbox=await make_mailbox())
    policy = PollPolicy(first=5, factor=1.5, cap=10, first_with_webhooks=5)
    async with Emulator(seed=SEED, timing=Timing(export=1, jitter=2)) as avaturn, receiver.serve() as hook:
        avaturn.webhook_url = hook.url
        mailbox = await make_mailbox()
        async with AvaturnClient(avaturn.token, base_url=avaturn.url, webhooks=mailbox, polling=policy) as client:
            avatars = await make_avatars(client, avaturn, count)
            avaturn.faults = Faults(webhook_loss=0.1, webhook_duplicates=0.4, webhook_early=0.1)
            ended: list[Any] = []

            async def wait(avatar_id: Any) -> Any:
                model = await client.exports.create_and_wait(avatar_id)
                ended.append(model.avatar_id)
                return model

            async with killed_subscribers(server, rng):
                models = await asyncio.gather(*map(wait, avatars))
            ways = Counter(model.resolved_by for model in models)
            lost = sum(delivery.error == "lost by a fault" for delivery in avaturn.deliveries)
            print(f"{lost} lost, ended by", dict(ways))
            assert avatars == [model.avatar_id for model in models]
            assert all(f"/{model.avatar_id}/" in model.url for model in models)
            assert len(ended) == len(set(ended)) == count
            assert 0 < lost <= ways["poll"]
            assert ways["webhook"]
            await avaturn.settled()


async def test_waits_outlive_a_server_that_restarts_empty(server: Server, make_mailbox: MakeRedisMailbox) -> None:
    """1,000 waits end by polls though their events are lost with the server."""
    count = scaled(1_000, 200)
    mailbox = await make_mailbox(timeout=1)
    policy = PollPolicy(first=1, factor=1.5, cap=3, first_with_webhooks=3)
    async with Emulator(seed=SEED, timing=Timing(export=3, jitter=1), faults=Faults(webhook_loss=1)) as avaturn:
        async with AvaturnClient(avaturn.token, base_url=avaturn.url, webhooks=mailbox, polling=policy) as client:
            avatars = await make_avatars(client, avaturn, count)
            waits = asyncio.gather(*map(client.exports.create_and_wait, avatars))
            while not waits.done():
                server.kill()
                await server.restart()
                await asyncio.wait((waits,), timeout=0.5)
            assert avatars == [model.avatar_id for model in await waits]


async def start(*arguments: str) -> Process:
    """Start a process of the app."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.webhooks.redis.worker", *arguments, stdin=PIPE, stdout=PIPE
    )


async def hang_up(process: Process) -> None:
    """End a process by the end of its input."""
    process.stdin.close()  # type: ignore[union-attr]
    await process.wait()


class Crew:
    """Waiting processes; when one is killed, another gets its tokens."""

    def __init__(self, arguments: list[str], jobs: list[list[Any]], rng: random.Random) -> None:
        self._arguments, self._jobs, self._rng = arguments, jobs, rng
        self._processes: list[Process] = []
        self._readers: set[asyncio.Task[None]] = set()
        self._held: dict[Process, set[int]] = {}
        self.ended: dict[int, str] = {}
        self.over = asyncio.Event()

    async def hire(self, numbers: set[int]) -> None:
        """Start a process that waits for these jobs."""
        process = await start("wait", *self._arguments)
        self._processes.append(process)
        self._held[process] = numbers
        for number in numbers:
            process.stdin.write(json.dumps([number, *self._jobs[number]]).encode() + b"\n")  # type: ignore[union-attr]
        self._readers.add(asyncio.create_task(self._read(process)))

    async def _read(self, process: Process) -> None:
        async for line in process.stdout:  # type: ignore[union-attr]
            number, resolved_by, named = line.decode().split()
            assert "1" == named
            self.ended[int(number)] = resolved_by
            if len(self.ended) == len(self._jobs):
                self.over.set()

    async def kill_one(self) -> None:
        """Kill any process as `kill -9` does, and resume its unfinished jobs in a new one."""
        process = self._processes.pop(self._rng.randrange(len(self._processes)))
        process.kill()
        await process.wait()
        await self.hire({number for number in self._held.pop(process) if number not in self.ended})

    async def dismiss(self) -> None:
        """End the processes."""
        await asyncio.gather(*map(hang_up, self._processes), *self._readers)


class Balancer:
    """Forwards each request to a random receiver, as a load balancer does."""

    def __init__(self, urls: list[str], rng: random.Random) -> None:
        self._urls, self._rng = urls, rng
        self._stack = AsyncExitStack()
        self.replies: Counter[tuple[str, int]] = Counter()

    async def _send_on(self, request: web.BaseRequest) -> web.Response:
        url = self._rng.choice(self._urls)
        async with self._session.post(url, data=await request.read()) as reply:
            self.replies[url, reply.status] += 1
            return web.Response(status=reply.status)

    async def __aenter__(self) -> Self:
        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._session = await self._stack.enter_async_context(session)
        runner = web.ServerRunner(web.Server(self._send_on, access_log=None))
        self.url = f"{await self._stack.enter_async_context(running(runner))}/hooks"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()


async def test_four_receivers_and_four_waiters(server: Server) -> None:
    """2,000 exports of 4 processes, each webhook sent to any of 4 others: every wait ends by it, once."""
    rng, secret, count = random.Random(SEED), secrets.token_urlsafe(24), scaled(2_000, 200)
    receivers = [await start("receive", server.url, secret) for _ in range(4)]
    hooks = [(await each.stdout.readline()).decode().strip() for each in receivers]  # type: ignore[union-attr]
    async with Balancer(hooks, rng) as balancer, Emulator(seed=SEED, timing=Timing(export=1, jitter=2)) as avaturn:
        async with AvaturnClient(avaturn.token, base_url=avaturn.url) as client:
            avatars = await make_avatars(client, avaturn, count)
        avaturn.webhook_url = balancer.url
        waiters = [await start("wait", server.url, avaturn.url, avaturn.token, "no polls") for _ in range(4)]
        for number, avatar_id in enumerate(avatars):
            job = json.dumps([number, "create", str(avatar_id)])
            rng.choice(waiters).stdin.write(job.encode() + b"\n")  # type: ignore[union-attr]
        ended: Counter[tuple[int, str]] = Counter()

        async def listen(process: Process) -> None:
            async for line in process.stdout:  # type: ignore[union-attr]
                number, resolved_by, named = line.decode().split()
                assert "1" == named
                ended[int(number), resolved_by] += 1
                if ended.total() == count:
                    over.set()

        over = asyncio.Event()
        listening = [asyncio.create_task(listen(process)) for process in waiters]
        await over.wait()
        await avaturn.settled()
        await asyncio.gather(*map(hang_up, waiters), *listening)
    await asyncio.gather(*map(hang_up, receivers))
    print(Counter(resolved_by for _, resolved_by in ended), balancer.replies.values())
    assert {(number, "webhook"): 1 for number in range(count)} == ended
    assert {(hook, 200) for hook in hooks} == set(balancer.replies)
    assert count == balancer.replies.total()


async def test_waiting_processes_are_killed(server: Server) -> None:
    """2 receivers, 2 waiters, `kill -9` again and again: every export and render is resumed and ends."""
    print(f"seed {SEED}")
    rng, secret = random.Random(SEED), secrets.token_urlsafe(24)
    exports, renders, kills = scaled(500, 60), scaled(200, 30), scaled(20, 4)
    receivers = [await start("receive", server.url, secret) for _ in range(2)]
    hooks = [(await each.stdout.readline()).decode().strip() for each in receivers]  # type: ignore[union-attr]
    async with Emulator(seed=SEED, timing=Timing(export=1, render=1, jitter=scaled(20, 4))) as avaturn:
        async with AvaturnClient(avaturn.token, base_url=avaturn.url, webhooks=RedisMailbox(server.url)) as client:
            avatars = await make_avatars(client, avaturn, exports)
            avaturn.faults = Faults(webhook_duplicates=0.4, webhook_early=0.1)
            jobs: list[list[Any]] = []
            for number, avatar_id in enumerate(avatars):
                avaturn.webhook_url = hooks[number % 2]
                jobs.append(["exports", (await client.exports.create(avatar_id)).resume_token])
                if number < renders:
                    jobs.append(["renders", (await client.renders.create(avatar_id)).resume_token])
            await client._context.mailbox.aclose()  # type: ignore[union-attr]
        crew = Crew([server.url, avaturn.url, avaturn.token], jobs, rng)
        for half in (0, 1):
            await crew.hire(set(range(half, len(jobs), 2)))
        for _ in range(kills):
            await asyncio.sleep(rng.uniform(0.2, 0.8))
            await crew.kill_one()
        await crew.over.wait()
        assert set(range(len(jobs))) == set(crew.ended)
        await crew.dismiss()
        await avaturn.settled()
    await asyncio.gather(*map(hang_up, receivers))

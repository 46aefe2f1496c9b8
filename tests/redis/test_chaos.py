"""Many events while subscribers are cut off, Redis restarts empty, and waiting processes are killed."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import sys
from asyncio.subprocess import PIPE, Process
from typing import Any

import pytest

from avaturn_async import AvaturnClient, PollPolicy
from avaturn_async.emulator import Emulator, Faults, Timing
from avaturn_async.webhooks import Event, key_of
from avaturn_async.webhooks.redis import RedisMailbox

from ..chaos.kit import SEED, make_avatars, scaled
from ..webhooks.samples import avatar, export_event
from .conftest import MakeRedisMailbox
from .server import Server

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]


async def deliver_all(mailbox: RedisMailbox, events: list[Event], rng: random.Random) -> None:
    """Deliver each, in any order, 40 % of them twice."""
    sent = events + [event for event in events if rng.random() < 0.4]
    rng.shuffle(sent)
    for event in sent:
        await mailbox.deliver(event)
        await asyncio.sleep(rng.uniform(0, 0.005))


async def cut_off(server: Server, rng: random.Random) -> int:
    """Kill every subscriber again and again."""
    while True:
        await asyncio.sleep(rng.uniform(0.15, 0.35))
        await asyncio.to_thread(server.kill_subscribers)


async def test_no_event_is_lost_with_its_subscriber(server: Server, make_mailbox: MakeRedisMailbox) -> None:
    """2,000 of 2,000: 10 % before their wait, 40 % twice, subscribers killed every 0.15 to 0.35 s."""
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    events: list[Any] = [export_event(avatar(number)) for number in range(2_000)]
    receiver, waiter = await make_mailbox(), await make_mailbox()
    for event in events[:200]:
        await receiver.deliver(event)
    killing = asyncio.create_task(cut_off(server, rng))
    waits = [waiter.wait(key_of(event), "") for event in events]
    await deliver_all(receiver, events[200:], rng)
    assert events == [delivery.event for delivery in await asyncio.gather(*waits)]
    killing.cancel()
    await asyncio.wait((killing,))


async def test_waits_outlive_a_server_that_restarts_empty(server: Server, make_mailbox: MakeRedisMailbox) -> None:
    """1,000 waits end, by a look where their event was lost with the server."""
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
        sys.executable, "-m", "tests.redis.worker", *arguments, stdin=PIPE, stdout=PIPE
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
        """Kill any process as `kill -9` does, and have what it did not end resumed in a new one."""
        process = self._processes.pop(self._rng.randrange(len(self._processes)))
        process.kill()
        await process.wait()
        await self.hire({number for number in self._held.pop(process) if number not in self.ended})

    async def dismiss(self) -> None:
        """End the processes."""
        await asyncio.gather(*map(hang_up, self._processes), *self._readers)


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
            await client._desk.mailbox.aclose()  # type: ignore[union-attr]
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

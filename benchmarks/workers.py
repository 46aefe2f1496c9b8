"""How soon is an awaiter woken after another process accepted its webhook, and how many can be accepted?

Four processes receive and four wait, on a Redis or a Postgres of their own; each webhook is sent to any of the
receivers. Then workers of uvicorn accept webhooks as fast as they are sent, while another process awaits all of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import aiohttp
import attrs
import psutil

from avaturn_async import AvaturnClient, ExportReadyWebhook, PollPolicy, WebhookReceiver
from avaturn_async.webhooks import Event, key_of
from avaturn_async.webhooks.postgres import PostgresMailbox
from avaturn_async.webhooks.redis import RedisMailbox
from tests.webhooks.postgres.server import BIN, Server

from .kit import Child, Row, at_least, at_most, show

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

EXPORTS, A_SECOND, PROCESSES = 2_000, 200, 4
WORKERS, CONNECTIONS, ROUNDS = (1, 2), 32, 5
GOALS = {"Redis": 100.0, "Postgres without fsync": 10.0}
"""Milliseconds."""
SECRET = "a-path-secret-of-the-benchmark"
NEVER = PollPolicy(first=3600, cap=3600, first_with_webhooks=3600)
REDIS = "AVATURN_BENCHMARK_REDIS"
PROBE = -1


def event(number: int) -> ExportReadyWebhook:
    """Make the event of an export."""
    avatar_id = UUID(int=(0x4000_8000 << 64) + number + 1)
    url = f"https://assets.example.com/exports/{avatar_id}.glb?X-Amz-Expires=900&X-Amz-Signature={number + 1:064x}"
    return ExportReadyWebhook(avatar_id=avatar_id, user_id="u1", status="ready", export_url=url)  # type: ignore[arg-type]


def body(number: int) -> bytes:
    """Return the webhook that says that an export is ready."""
    told = event(number)
    fields = {"event": "export.ready", "avatar_id": str(told.avatar_id), "user_id": told.user_id, "status": "ready"}
    return json.dumps(fields | {"export_url": told.export_url}).encode()


# The processes.


def mailbox_at(url: str) -> RedisMailbox | PostgresMailbox:
    """Return the mailbox of a store."""
    return PostgresMailbox(url) if url.startswith("postgresql") else RedisMailbox(url)


class Noting:
    """A mailbox that notes when each event was delivered, which is just before the 200 is sent."""

    def __init__(self, mailbox: RedisMailbox | PostgresMailbox) -> None:
        self._mailbox = mailbox
        self.position, self.wait, self.aclose = mailbox.position, mailbox.wait, mailbox.aclose
        self.noted: dict[str, float] = {}

    async def deliver(self, event: Event, *, authenticated: bool = True) -> None:
        """Deliver it, and read the clock."""
        await self._mailbox.deliver(event, authenticated=authenticated)
        self.noted[key_of(event)] = time.monotonic()


async def receive(store: str) -> None:
    """Serve webhooks, and say on demand when each was accepted."""
    mailbox = Noting(mailbox_at(store))
    async with WebhookReceiver(SECRET, mailbox=mailbox) as receiver, receiver.serve() as server:
        print(server.url, flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(mailbox.noted), flush=True)
    await mailbox.aclose()


async def wait(store: str, api: str, start: str, stop: str, step: str) -> None:
    """Create exports, say that all are awaited, and then, once all have ended, when each did."""
    mailbox, noted = mailbox_at(store), {}
    async with AvaturnClient(
        "token", base_url=api, webhooks=mailbox, confirm_webhooks=False, polling=NEVER, wait_timeout=None
    ) as client:

        async def one(pending: Any, key: str) -> None:
            await pending.wait()
            noted[key] = time.monotonic()

        async with asyncio.TaskGroup() as waits:
            for number in range(int(start), int(stop), int(step)):
                awaited = event(number)
                waits.create_task(one(await client.exports.create(awaited.avatar_id), key_of(awaited)))
            await mailbox.deliver(event(PROBE))
            await mailbox.wait(key_of(event(PROBE)), "")  # the subscription stands
            print("ready", flush=True)
    print(json.dumps(noted), flush=True)
    await mailbox.aclose()


def app() -> Any:
    """Make the FastAPI app that uvicorn's workers serve."""
    from fastapi import FastAPI

    receiver = WebhookReceiver(SECRET, mailbox=RedisMailbox(os.environ[REDIS]))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with receiver:
            print("ready", flush=True)
            yield
        await receiver.mailbox.aclose()

    made = FastAPI(lifespan=lifespan)
    made.mount("/avaturn", receiver.asgi)
    return made


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def listens(port: int) -> bool:
    """Say whether a server listens at a port."""
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a server."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


@contextmanager
def redis_server(binary: str) -> Iterator[str]:
    """Run a Redis that keeps nothing on disk, and give its url."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        command += ["--dir", folder, "--loglevel", "warning"]
        with running(command) as process:
            while not listens(port):
                if process.poll() is not None:
                    raise RuntimeError("redis-server ended early")
                time.sleep(0.02)
            yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def uvicorn(workers: int) -> Iterator[tuple[str, psutil.Process]]:
    """Run uvicorn, and give the webhook url and the process once each worker serves."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", "benchmarks.workers:app", "--port", str(port)]
    command += ["--workers", str(workers), "--log-level", "error", "--no-access-log"]
    with running(command) as process:
        assert process.stdout is not None
        for _ in range(workers):
            if not process.stdout.readline():
                raise RuntimeError("uvicorn ended early")
        yield f"http://127.0.0.1:{port}/avaturn/{SECRET}", psutil.Process(process.pid)


# The delay.


async def send_steadily(hooks: list[str], rng: random.Random) -> dict[str, float]:
    """Send each webhook at its time to any of the receivers, and return when that was."""
    sent: dict[str, float] = {}

    async def post(number: int) -> None:
        sent[key_of(event(number))] = time.monotonic()
        async with session.post(rng.choice(hooks), data=body(number)) as response:
            assert response.status == 200, response.status

    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
        asyncio.TaskGroup() as posts,
    ):
        begin = time.monotonic()
        for place, number in enumerate(rng.sample(range(EXPORTS), EXPORTS)):
            await asyncio.sleep(begin + place / A_SECOND - time.monotonic())
            posts.create_task(post(number))
    return sent


def merged(children: Iterable[Child]) -> dict[str, float]:
    """Return what children noted."""
    return {key: at for child in children for key, at in json.loads(child.read()).items()}


def delays(name: str, store: str, api: str) -> list[Row]:
    """Measure from accepted, and from sent, to woken."""
    with ExitStack() as stack:
        receivers = [stack.enter_context(Child("workers", "receive", store)) for _ in range(PROCESSES)]
        share = [(str(first), str(EXPORTS), str(PROCESSES)) for first in range(PROCESSES)]
        waiters = [stack.enter_context(Child("workers", "wait", store, api, *numbers)) for numbers in share]
        hooks = [child.read() for child in receivers]
        assert {"ready"} == {child.read() for child in waiters}
        sent = asyncio.run(send_steadily(hooks, random.Random(0)))
        woken = merged(waiters)
        for child in receivers:
            child.say("report")
        accepted = merged(receivers)
    assert sent.keys() == accepted.keys() == woken.keys()
    setting = f"{name}; {PROCESSES} receiving and {PROCESSES} waiting processes, {A_SECOND}/s, {cores()}"
    return [
        delay_row("webhook accepted to awaiter woken, p99", setting, woken, accepted, GOALS[name]),
        delay_row("webhook sent to awaiter woken, p99", setting, woken, sent, None),
    ]


def delay_row(what: str, setting: str, woken: dict[str, float], since: dict[str, float], goal: float | None) -> Row:
    """Make a row of delays; an awaiter that was woken before the receiver got the store's answer did not wait."""
    found = [1000 * max(0.0, woken[key] - since[key]) for key in woken]
    told = f"p50 {statistics.median(found):.2f} ms, max {max(found):.1f} ms of {len(found):,}"
    return at_most(what, setting, told, "", statistics.quantiles(found, n=100)[98], goal, " ms")


def cores() -> str:
    """Return what all of the processes, the sender and the store share."""
    return f"all on {os.cpu_count()} cores"


# Throughput.


async def flood(url: str, numbers: Iterator[int]) -> tuple[float, dict[str, float]]:
    """Send webhooks over some connections, each as soon as the last was answered; return the rate and the answers."""
    answered: dict[str, float] = {}

    async def send() -> None:
        for number in numbers:
            async with session.post(url, data=body(number)) as response:
                assert response.status == 200, response.status
            answered[key_of(event(number))] = time.monotonic()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as session:
        begin = time.monotonic()
        await asyncio.gather(*(send() for _ in range(CONNECTIONS)))
        return len(answered) / (time.monotonic() - begin), answered


@attrs.frozen
class Round:
    """What a round of webhooks came to: how many a second, CPU of uvicorn's for each, milliseconds until it woke."""

    rate: float
    cpu: float
    delays: list[float]


def cpu_of(process: psutil.Process) -> float:
    """Return the seconds of CPU that a process and those below it took so far."""
    return sum(sum(each.cpu_times()[:2]) for each in (process, *process.children(recursive=True)))


def one_round(workers: int, redis: str, api: str, numbers: range) -> Round:
    """Have uvicorn's workers take in webhooks that another process waits for."""
    bounds = (str(numbers.start), str(numbers.stop), "1")
    with uvicorn(workers) as (url, process), Child("workers", "wait", redis, api, *bounds) as waiter:
        assert waiter.read() == "ready"
        before = cpu_of(process)
        rate, answered = asyncio.run(flood(url, iter(numbers)))
        cpu = (cpu_of(process) - before) / len(numbers)
        woken = merged([waiter])
    return Round(rate, cpu, [1000 * max(0.0, woken[key] - answered[key]) for key in answered])


def throughput(redis: str, api: str) -> list[Row]:
    """Measure some numbers of workers, in turn."""
    os.environ[REDIS] = redis
    found: dict[int, list[Round]] = {workers: [] for workers in WORKERS}
    for number in range(1, ROUNDS + 1):
        for workers, rounds in found.items():
            first = (number * 10 + workers) * EXPORTS
            rounds.append(one_round(workers, redis, api, range(first, first + EXPORTS)))
    return [throughput_row(workers, rounds) for workers, rounds in found.items()]


def throughput_row(workers: int, rounds: list[Round]) -> Row:
    """Make a row of the rounds of a number of workers."""
    setting = f"uvicorn --workers {workers}, FastAPI; {CONNECTIONS} connections, {cores()}"
    cpu = 1e6 * statistics.median(each.cpu for each in rounds)
    late = statistics.quantiles([delay for each in rounds for delay in each.delays], n=100)[98]
    told = f"{cpu:.0f} us of a worker's CPU each; waiter elsewhere woken {late:.1f} ms (p99) after the answer"
    rate = statistics.median(each.rate for each in rounds)
    return at_least("webhooks accepted a second into Redis", setting, told, "", rate, None, "/s")


def run() -> list[Row]:
    """Measure with the stores that are installed."""
    rows = []
    with Child("canned") as canned:
        api = f"http://127.0.0.1:{canned.read()}/pending"
        if binary := shutil.which("redis-server"):
            with redis_server(binary) as redis:
                rows += delays("Redis", redis, api) + throughput(redis, api)
        else:
            print("workers: redis-server is not on PATH", file=sys.stderr)
        if list(Path("/").glob(BIN)):
            with Server() as server:
                rows += delays("Postgres without fsync", server.dsn(), api)
        else:
            print("workers: Postgres is not installed", file=sys.stderr)
    return rows


if __name__ == "__main__":
    if sys.argv[1:]:
        asyncio.run({"receive": receive, "wait": wait}[sys.argv[1]](*sys.argv[2:]))  # type: ignore[operator]
    else:
        show(run())

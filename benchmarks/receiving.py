"""How many webhooks a second does a receiver take in, each waking one waiter, beside a handler that does nothing?

The servers run in processes of their own; this one sends over 64 connections that are kept, on each the next webhook as
soon as the last was answered. They are started several times: how a process comes to lie in memory is worth more
than the noise within one.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from uuid import UUID

import aiohttp.web as web
import uvicorn

from avaturn_async import WebhookReceiver
from avaturn_async.webhooks.mailbox import Delivery, Mailbox

from .kit import LOOPS, Child, Loop, Row, alternate, at_least, medians, on, ratio, show

WEBHOOKS, ROUNDS, STARTS = 1_000, 3, 15
CONNECTIONS = 64
SECRET = "a-path-secret-of-the-benchmark"
PATH = f"/avaturn/{SECRET}"
KINDS = ["aiohttp", "routes", "serve", "raw asgi", "asgi"]


def avatar(number: int) -> UUID:
    """Return the id of an avatar."""
    return UUID(int=(0x4000_8000 << 64) + number)


def body(number: int) -> bytes:
    """Return the webhook that says that the avatar's model is ready."""
    avatar_id = str(avatar(number))
    url = f"https://assets.example.com/exports/{avatar_id}.glb?X-Amz-Expires=900&X-Amz-Signature={number:064x}"
    event = {"event": "export.ready", "avatar_id": avatar_id, "user_id": "u1", "status": "ready", "export_url": url}
    return json.dumps(event).encode()


# The servers.


async def swallow(request: web.Request) -> web.Response:
    """Read the body and answer 200: what the aiohttp shells are held against."""
    await request.read()
    return web.Response()


async def raw_asgi(scope: dict[str, object], receive: object, send: object) -> None:
    """Read the body and answer 200: what the ASGI shell is held against."""
    while (await receive()).get("more_body"):  # type: ignore[operator]
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})  # type: ignore[operator]
    await send({"type": "http.response.body", "body": b""})  # type: ignore[operator]


async def start_app(routes: list[web.RouteDef]) -> int:
    """Serve an aiohttp app as quickly as it can be served, and return its port."""
    app = web.Application()
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return int(runner.addresses[0][1])


async def start_uvicorn(app: object) -> int:
    """Serve an ASGI app as quickly as it can be served, and return its port."""
    config = uvicorn.Config(app, port=0, access_log=False, log_level="error", lifespan="off")  # type: ignore[arg-type]
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    return int(server.servers[0].sockets[0].getsockname()[1])


async def start(kind: str, receiver: WebhookReceiver, left: list[object]) -> int:
    """Start a kind of server, and return its port."""
    if kind == "aiohttp":
        return await start_app([web.post(PATH, swallow)])
    if kind == "routes":
        return await start_app(receiver.routes())
    if kind == "serve":
        left.append(server := receiver.serve())
        return (await server.__aenter__()).port
    return await start_uvicorn(raw_asgi if kind == "raw asgi" else Mounted(receiver))


class Mounted:
    """The receiver's ASGI application under a prefix, as a framework would mount it."""

    def __init__(self, receiver: WebhookReceiver) -> None:
        self._asgi = receiver.asgi

    async def __call__(self, scope: dict[str, object], receive: object, send: object) -> None:
        """Serve one scope."""
        await self._asgi(scope, receive, send)  # type: ignore[arg-type]


class Woken:
    """Wakes as a pending object does, which waits without a task: it takes what was delivered and lets go of it."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self.count = 0

    def expect(self, numbers: Iterable[int]) -> None:
        """Wait for the events of these avatars."""
        self.count = 0
        for number in numbers:
            waiter = asyncio.ensure_future(self._mailbox.wait(f"export:{avatar(number)}", ""))
            waiter.add_done_callback(self._woken)

    def _woken(self, waiter: asyncio.Future[Delivery]) -> None:
        self.count += waiter.result().event.status == "ready"


async def serve(kind: str) -> None:
    """Serve; for each line with a number, await that round's events, and then say the CPU that they took."""
    receiver = WebhookReceiver(SECRET)
    woken = Woken(receiver.mailbox)
    left: list[object] = []
    print(await start(kind, receiver, left), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        first = int(line) * WEBHOOKS
        if kind not in ("aiohttp", "raw asgi"):
            woken.expect(range(first, first + WEBHOOKS))
        before = time.process_time()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        print(time.process_time() - before, woken.count, flush=True)


# The sender.


class Sender(asyncio.Protocol):
    """Sends one request after another."""

    def __init__(self, requests: Iterator[bytes], ended: asyncio.Future[None]) -> None:
        self._requests = requests
        self._ended = ended
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first."""
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        """Send the next, when the answer is whole: none has a body."""
        self._rest += data
        if self._rest.endswith(b"\r\n\r\n"):
            assert self._rest.startswith(b"HTTP/1.1 200 "), self._rest
            self._rest = b""
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        """End, also where the server hangs up."""
        if not self._ended.done():
            self._ended.set_exception(exc or ConnectionResetError("the server hung up"))

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is not None:
            self._transport.write(request)  # type: ignore[attr-defined]
        elif not self._ended.done():
            self._transport.close()
            self._ended.set_result(None)


def request(number: int) -> bytes:
    """Return a whole request."""
    content = body(number)
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\nUser-Agent: avaturn\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


class Round:
    """Sends a round of webhooks to one server, again and again, each time others."""

    def __init__(self, kind: str, child: Child) -> None:
        self._kind = kind
        self._child = child
        self._port = int(child.read())
        self._number = 0
        self.cpu: list[float] = []

    async def __call__(self) -> float:
        """Return the webhooks a second."""
        self._number += 1
        await self._child.ask(str(self._number))
        requests = [request(self._number * WEBHOOKS + n) for n in range(WEBHOOKS)]
        loop, source = asyncio.get_running_loop(), iter(requests)
        ended = [loop.create_future() for _ in range(CONNECTIONS)]
        before = time.perf_counter()
        for each in ended:
            await loop.create_connection(lambda each=each: Sender(source, each), "127.0.0.1", self._port)
        while not all(each.done() for each in ended):
            await asyncio.sleep(0)  # a sender that slept would have to be woken, which costs the server more than it
        wall = time.perf_counter() - before
        await asyncio.gather(*ended)
        cpu, woken = (await self._child.ask("")).split()
        assert self._kind in ("aiohttp", "raw asgi") or int(woken) == WEBHOOKS
        self.cpu.append(float(cpu) / WEBHOOKS * 1e6)
        return WEBHOOKS / wall


async def measure(loop: Loop) -> list[Row]:
    """Measure each kind of server on one kind of loop."""
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    spent: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(STARTS):
        with ExitStack() as stack:
            rounds = {kind: Round(kind, stack.enter_context(Child("receiving", kind, loop))) for kind in KINDS}
            for kind, rates in (await alternate(rounds, ROUNDS)).items():
                found[kind] += rates
                spent[kind] += rounds[kind].cpu[1:]
    rate, cpu = medians(found), medians(spent)
    return [
        at_least(
            f"webhooks/s through {name}",
            loop,
            f"{rate[kind]:,.0f}/s, CPU {cpu[kind]:.0f} us each",
            f"{against} that reads: {rate[base]:,.0f}/s, {cpu[base]:.0f} us",
            ratio(found[kind], found[base]),
            goal,
            "x",
        )
        for kind, name, base, against, goal in (
            ("routes", "`receiver.routes()`", "aiohttp", "an aiohttp handler", 0.75),
            ("serve", "`receiver.serve()`", "aiohttp", "an aiohttp handler", 0.88),
            ("asgi", "`receiver.asgi` under uvicorn", "raw asgi", "an ASGI app", 0.5),
        )
    ]


def run() -> list[Row]:
    """Measure on both kinds of loop."""
    return [row for loop in LOOPS for row in on("asyncio", lambda loop=loop: measure(loop))]


def main() -> None:
    """Measure, or be a server."""
    if sys.argv[1:]:
        kind, loop = sys.argv[1:]

        async def server() -> list[Row]:
            await serve(kind)
            return []

        on(loop, server)  # type: ignore[arg-type]
    else:
        show(run())


if __name__ == "__main__":
    main()

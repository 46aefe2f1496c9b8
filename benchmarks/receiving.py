"""What does a webhook cost in CPU, beside handlers by hand that do the receiver's whole job?

The reference handlers verify the secret in constant time, refuse bodies that are compressed or too large, make a typed
event of the JSON and wake the future that waits for it: one for aiohttp, one for FastAPI with pydantic models. They
neither limit the time that a body takes nor keep events that nobody awaits yet, as the receiver does. Servers run in
processes of their own; this process sends over 64 kept connections. Each server is started several times: how a process
is laid out in memory matters more than the noise within one.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Annotated, Literal
from uuid import UUID

import aiohttp.web as web
import attrs
import uvicorn

from avaturn_async import Delivery, Mailbox, WebhookReceiver

from .kit import LOOPS, Child, Loop, Row, alternate, at_most, medians, on, ratio, show

WEBHOOKS, ROUNDS, STARTS = 1_000, 3, 9
CONNECTIONS = 64
MOST_BODY = 65_536
SECRET = "a-path-secret-of-the-benchmark"
PATH = f"/avaturn/{SECRET}"
KINDS = ["aiohttp", "routes", "serve", "fastapi", "asgi"]
BY_HAND = ("aiohttp", "fastapi")


def avatar(number: int) -> UUID:
    """Return the id of an avatar."""
    return UUID(int=(0x4000_8000 << 64) + number)


def body(number: int) -> bytes:
    """Return the webhook of a finished export."""
    avatar_id = str(avatar(number))
    url = f"https://assets.example.com/exports/{avatar_id}.glb?X-Amz-Expires=900&X-Amz-Signature={number:064x}"
    event = {"event": "export.ready", "avatar_id": avatar_id, "user_id": "u1", "status": "ready", "export_url": url}
    return json.dumps(event).encode()


# The servers.


class Waiting:
    """The futures of a handler by hand, by avatar id."""

    def __init__(self) -> None:
        self._futures: dict[UUID, asyncio.Future[object]] = {}
        self.count = 0

    def expect(self, numbers: Iterable[int]) -> None:
        """Wait for the events of these avatars."""
        self.count = 0
        for number in numbers:
            future = self._futures[avatar(number)] = asyncio.get_running_loop().create_future()
            future.add_done_callback(self._woken)

    def wake(self, avatar_id: UUID, event: object) -> None:
        """Resolve the future of an avatar."""
        future = self._futures.pop(avatar_id, None)
        if future is not None and not future.done():
            future.set_result(event)

    def _woken(self, _: asyncio.Future[object]) -> None:
        self.count += 1


@attrs.frozen(kw_only=True)
class ExportReady:
    """The typed event of the aiohttp handler."""

    event: str = attrs.field(validator=attrs.validators.in_(["export.ready"]))
    avatar_id: UUID = attrs.field(converter=UUID)
    user_id: str = attrs.field(validator=attrs.validators.instance_of(str))
    status: str = attrs.field(validator=attrs.validators.in_(["ready", "failed", "pending"]))
    export_url: str | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.instance_of(str))
    )


def aiohttp_handler(waiting: Waiting) -> web.RouteDef:
    """Return the route of an aiohttp handler that does the receiver's job."""

    async def handle(request: web.Request) -> web.Response:
        if not hmac.compare_digest(request.match_info["secret"].encode(), SECRET.encode()):
            raise web.HTTPNotFound
        if request.headers.get("Content-Encoding", "identity") != "identity":
            raise web.HTTPUnsupportedMediaType
        content = await request.content.read(MOST_BODY + 1)
        while content and len(content) <= MOST_BODY and (more := await request.content.read(MOST_BODY)):
            content += more
        if len(content) > MOST_BODY:
            raise web.HTTPRequestEntityTooLarge(MOST_BODY, len(content))
        try:
            event = ExportReady(**json.loads(content))
        except (ValueError, TypeError) as error:
            raise web.HTTPBadRequest from error
        waiting.wake(event.avatar_id, event)
        return web.Response()

    return web.post("/avaturn/{secret}", handle)


def fastapi_app(waiting: Waiting) -> object:
    """Return a FastAPI app whose handler does the receiver's job with a pydantic model."""
    from fastapi import Body, FastAPI, Header, HTTPException
    from pydantic import BaseModel

    class ExportReadyModel(BaseModel):
        event: Literal["export.ready"]
        avatar_id: UUID
        user_id: str
        status: Literal["ready", "failed", "pending"]
        export_url: str | None = None

    app = FastAPI()

    async def handle(
        secret: str,
        event: Annotated[ExportReadyModel, Body()],
        content_length: Annotated[int, Header()],
        content_encoding: Annotated[str, Header()] = "identity",
    ) -> None:
        if not hmac.compare_digest(secret.encode(), SECRET.encode()):
            raise HTTPException(404)
        if content_encoding != "identity":
            raise HTTPException(415)
        if content_length > MOST_BODY:
            raise HTTPException(413)
        waiting.wake(event.avatar_id, event)

    handle.__annotations__ |= {
        "event": Annotated[ExportReadyModel, Body()],
        "content_length": Annotated[int, Header()],
        "content_encoding": Annotated[str, Header()],
        "secret": str,
    }
    app.post("/avaturn/{secret}")(handle)
    return app


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


async def start(kind: str, receiver: WebhookReceiver, waiting: Waiting, left: list[object]) -> int:
    """Start a kind of server, and return its port."""
    if kind == "aiohttp":
        return await start_app([aiohttp_handler(waiting)])
    if kind == "routes":
        return await start_app(receiver.routes())
    if kind == "serve":
        left.append(server := receiver.serve())
        return (await server.__aenter__()).port
    return await start_uvicorn(fastapi_app(waiting) if kind == "fastapi" else Mounted(receiver))


class Mounted:
    """The receiver's ASGI application under a prefix, as a framework would mount it."""

    def __init__(self, receiver: WebhookReceiver) -> None:
        self._asgi = receiver.asgi

    async def __call__(self, scope: dict[str, object], receive: object, send: object) -> None:
        """Serve one scope."""
        await self._asgi(scope, receive, send)  # type: ignore[arg-type]


class Woken(Waiting):
    """Counts deliveries of the receiver's mailbox, which it awaits by callbacks, as pending objects do."""

    def __init__(self, mailbox: Mailbox) -> None:
        super().__init__()
        self._mailbox = mailbox

    def expect(self, numbers: Iterable[int]) -> None:
        """Wait for the events of these avatars."""
        self.count = 0
        for number in numbers:
            delivery = asyncio.ensure_future(self._mailbox.wait(f"export:{avatar(number)}", ""))
            delivery.add_done_callback(self._delivered)

    def _delivered(self, delivery: asyncio.Future[Delivery]) -> None:
        self.count += delivery.result().event.status == "ready"


async def serve(kind: str) -> None:
    """Serve; for each line with a number, await the events of that round, then print their CPU time and number."""
    receiver = WebhookReceiver(SECRET)
    waiting = Waiting() if kind in BY_HAND else Woken(receiver.mailbox)
    left: list[object] = []
    print(await start(kind, receiver, waiting, left), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        first = int(line) * WEBHOOKS
        waiting.expect(range(first, first + WEBHOOKS))
        before = time.process_time()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        print(time.process_time() - before, waiting.count, flush=True)


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
        """Send the next request once the answer is whole."""
        self._rest += data
        head, separator, content = self._rest.partition(b"\r\n\r\n")
        if separator and len(content) == (4 if b"application/json" in head else 0):  # FastAPI answers with null
            assert head.startswith(b"HTTP/1.1 200 "), self._rest
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
    """Sends rounds of distinct webhooks to one server, and measures its CPU time."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._port = int(child.read())
        self._number = 0

    async def __call__(self) -> float:
        """Return the server's microseconds of CPU for each webhook."""
        self._number += 1
        await self._child.ask(str(self._number))
        requests = [request(self._number * WEBHOOKS + n) for n in range(WEBHOOKS)]
        loop, source = asyncio.get_running_loop(), iter(requests)
        ended = [loop.create_future() for _ in range(CONNECTIONS)]
        for each in ended:
            await loop.create_connection(lambda each=each: Sender(source, each), "127.0.0.1", self._port)
        while not all(each.done() for each in ended):
            await asyncio.sleep(0)  # a sender that slept would have to be woken, at the server's cost
        await asyncio.gather(*ended)
        cpu, woken = (await self._child.ask("")).split()
        assert int(woken) == WEBHOOKS
        return float(cpu) / WEBHOOKS * 1e6


async def measure(loop: Loop) -> list[Row]:
    """Measure each kind of server on one kind of loop."""
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(STARTS):
        with ExitStack() as stack:
            rounds = {kind: Round(stack.enter_context(Child("receiving", kind, loop))) for kind in KINDS}
            for kind, costs in (await alternate(rounds, ROUNDS)).items():
                found[kind] += costs
    cost = medians(found)
    return [
        at_most(
            f"CPU of a webhook through {name}",
            loop,
            f"{cost[kind]:.0f} us",
            f"{against} by hand that does the same job {cost[base]:.0f} us",
            ratio(found[kind], found[base]),
            goal,
            "x",
        )
        for kind, name, base, against, goal in (
            ("routes", "`receiver.routes()`", "aiohttp", "an aiohttp handler", 1.30),
            ("serve", "`receiver.serve()`", "aiohttp", "an aiohttp handler", 1.15),
            ("asgi", "`receiver.asgi` under uvicorn[standard]", "fastapi", "FastAPI with pydantic", 0.40),
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

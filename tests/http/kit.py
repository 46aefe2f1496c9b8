"""What the transport's tests share: time that passes at once, and servers that do as they are told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from io import BytesIO
from typing import Any

import pytest
from aiohttp import web

from avaturn_async.http.endpoints import ApiRequest
from avaturn_async.http.session import ClientSessions
from avaturn_async.http.transport import Transport
from avaturn_async.http.upload import FormField, MultipartForm
from avaturn_async.redact import Secret

from ..servers import listening, running

TOKEN = "tok-Q7x9LmZ2-uVw4RtYp"
BASE = "https://api.example"
GET = ApiRequest(method="GET", path="/api/v1/thing")
POST = ApiRequest(method="POST", path="/api/v1/thing", repeatable=False)
DELETE = ApiRequest(method="DELETE", path="/api/v1/thing")
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Clock:
    """The running loop's clock, on which time passes only while the transport sleeps, and then immediately."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.sleeps: list[float] = []
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now)
        monkeypatch.setattr(ClientSessions, "sleep", lambda _, seconds: self.sleep(seconds))

    async def sleep(self, seconds: float) -> None:
        """Let so many seconds pass, and the loop turn once."""
        self.sleeps.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    @property
    def waited(self) -> list[float]:
        """The sleeps that took time."""
        return [seconds for seconds in self.sleeps if seconds]


def seed() -> random.Random:
    """Seed the jitter, print the seed, and return what draws the same numbers."""
    number = random.SystemRandom().randrange(10**6)
    print(f"jitter seed: {number}")
    random.seed(number)
    return random.Random(number)


def opened(base_url: str = BASE, **options: Any) -> aclosing[Transport]:
    """Return a transport that the end of an ``async with`` closes."""
    return aclosing(Transport(**{"token": Secret(TOKEN), "base_url": base_url, **options}))


def form(content: bytes = b"\xff\xd8\xff a face") -> MultipartForm:
    """Return a form with one photo."""
    field = FormField("frontal", BytesIO(content), len(content), "frontal.jpg", "image/jpeg")
    return MultipartForm([field])


@asynccontextmanager
async def serving(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]], **options: Any
) -> AsyncIterator[str]:
    """Run a server that hands everything to one handler; yield its url."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    async with running(web.AppRunner(app, handler_cancellation=True, **options)) as url:
        yield f"{url}/"


@asynccontextmanager
async def talking(talk: Talk) -> AsyncIterator[str]:
    """Run a server that says exactly what it is told to, over each connection; yield its url."""
    open_now: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await talk(reader, writer)

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(converse(reader, writer))
        open_now[task] = writer
        task.add_done_callback(lambda _: writer.close())

    try:
        async with listening(await asyncio.start_server(accept, "127.0.0.1", 0)) as url:
            yield url
    finally:
        for task in open_now:
            task.cancel()
        await asyncio.gather(*open_now, return_exceptions=True)
        await asyncio.gather(*(writer.wait_closed() for writer in open_now.values()), return_exceptions=True)


async def heard(reader: asyncio.StreamReader) -> bytes:
    """Read a request's head."""
    return await reader.readuntil(b"\r\n\r\n")


def reset(writer: asyncio.StreamWriter) -> None:
    """Break the connection with a RST."""
    writer.transport.abort()

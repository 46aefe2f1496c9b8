"""The ready-made answers say what aiohttp's own would say."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from avaturn_async import WebhookReceiver
from avaturn_async.webhooks import Reply, accepted, key_of
from avaturn_async.webhooks.receiver import ACCEPTED
from avaturn_async.webhooks.server import ReceiverServer

from .samples import SECRET, export_body, export_event

PATH = f"/avaturn/{SECRET}"


Connect = Callable[[int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Open connections that are closed at the end, however a test ends."""
    opened: list[asyncio.StreamWriter] = []

    async def open_one(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        opened.append(writer)
        return reader, writer

    yield open_one
    for writer in opened:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


def webhook(*, version: str = "1.1", more: str = "") -> bytes:
    """Return a whole request."""
    body = export_body()
    return f"POST {PATH} HTTP/{version}\r\nHost: a\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


async def head(reader: asyncio.StreamReader) -> dict[str, str]:
    """Return the status line and the headers of an answer without a body."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    return {"": lines[0]} | dict(line.split(": ", 1) for line in lines[1:] if line)


@pytest.mark.parametrize(
    ("version", "more", "connection"),
    [("1.1", "", None), ("1.1", "Connection: close\r\n", "close"), ("1.0", "Connection: keep-alive\r\n", "keep-alive")],
)
async def test_it_is_like_aiohttps_own(connect: Connect, version: str, more: str, connection: str | None) -> None:
    """Ready made or not: only whether the connection is kept differs, as it was asked for."""
    async with WebhookReceiver(SECRET).serve() as server:
        reader, writer = await connect(server.port)
        writer.write(webhook(version=version, more=more))
        found = await head(reader)
        assert f"HTTP/{version} 200 OK" == found.pop("")
        assert "0" == found.pop("Content-Length")
        assert connection == found.pop("Connection", None)
        assert found.pop("Date").endswith(" GMT")
        assert "aiohttp" in found.pop("Server")
        found.pop("Content-Type", None)
        assert {} == found
        if connection == "close":
            assert b"" == await reader.read()


async def test_one_answers_many(connect: Connect) -> None:
    """Also requests that come together, before the first is answered."""
    async with WebhookReceiver(SECRET).serve() as server:
        reader, writer = await connect(server.port)
        writer.write(3 * webhook())
        assert 3 * ["HTTP/1.1 200 OK"] == [(await head(reader))[""] for _ in range(3)]


def test_the_date_is_today(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is put together anew each second (RFC 9110, 6.6.1)."""
    head = accepted._Head()
    seconds = iter([0, 0, 1])
    monkeypatch.setattr(accepted, "time", SimpleNamespace(time=lambda: next(seconds)))
    first, again, later = (head() for _ in range(3))
    assert first is again
    assert b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n" in first
    assert b"Date: Thu, 01 Jan 1970 00:00:01 GMT\r\n" in later


async def test_a_sender_that_reads_no_answers(connect: Connect) -> None:
    """It is not answered any more, once what it has not read fills the buffers, and does not hold up the end."""
    async with Accepting().serve(shutdown_timeout=0) as server:
        _, writer = await connect(server.port)
        transport = await small_buffers(server, writer)
        with pytest.raises(TimeoutError):  # however long: the server takes no more
            await flood(writer)
        assert transport.get_write_buffer_size() < 200_000
    assert -1 == transport.get_extra_info("socket").fileno()


async def small_buffers(server: ReceiverServer, writer: asyncio.StreamWriter) -> asyncio.Transport:
    """Return the server's transport, once the kernel holds next to nothing of what its sender does not read."""
    transport_of(writer).pause_reading()
    assert server._connections is not None
    while not server._connections.connections:
        await asyncio.sleep(0)
    (transport,) = [handler.transport for handler in server._connections.connections]
    assert transport is not None
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return transport


class Accepting(WebhookReceiver):
    """Accepts whatever comes, quickly, and counts it."""

    def __init__(self) -> None:
        super().__init__(SECRET)
        self.taken = 0

    async def handle(self, body: bytes, **_: Any) -> Reply:
        """Accept it."""
        self.taken += 1
        return ACCEPTED


def transport_of(writer: asyncio.StreamWriter) -> asyncio.Transport:
    """Return the sender's transport, which can also be kept from reading."""
    assert isinstance(writer.transport, asyncio.Transport)
    return writer.transport


async def until_unread(transport: asyncio.Transport, writer: asyncio.StreamWriter, receiver: Accepting) -> None:
    """Send webhooks until an answer waits to be read; no more at once than the server answers without being read.

    It has taken them all in then: what is unread as a connection is closed resets it (RFC 1122, 4.2.2.13).
    """
    sent = receiver.taken
    while not transport.get_write_buffer_size():
        writer.write(50 * webhook())
        sent += 50
        while receiver.taken < sent:
            await asyncio.sleep(0)


async def read_later(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Read to the end, but not yet: only once the server waits for that."""
    for _ in range(20):
        await asyncio.sleep(0)
    transport_of(writer).resume_reading()
    return await reader.read()


async def test_answers_that_are_read_late(connect: Connect) -> None:
    """But within the time of the end: none is lost."""
    receiver = Accepting()
    async with receiver.serve(shutdown_timeout=60) as server:
        reader, writer = await connect(server.port)
        await until_unread(await small_buffers(server, writer), writer, receiver)
        reading = asyncio.create_task(read_later(reader, writer))
    assert receiver.taken == (await reading).count(b"HTTP/1.1 200 OK")


async def test_an_end_where_only_answers_are_left(connect: Connect) -> None:
    """A connection that aiohttp has closed waits for nobody who reads no answers."""
    receiver = Accepting()
    async with receiver.serve(shutdown_timeout=0) as server:
        _, writer = await connect(server.port)
        transport = await small_buffers(server, writer)
        await until_unread(transport, writer, receiver)
        writer.write(webhook(more="Connection: close\r\n"))
        while not transport.is_closing():
            await asyncio.sleep(0)
        assert -1 != transport.get_extra_info("socket").fileno()
    assert -1 == transport.get_extra_info("socket").fileno()


async def flood(writer: asyncio.StreamWriter) -> None:
    """Send webhooks for as long as they are taken, with no more than a second between."""
    for _ in range(200):
        writer.write(500 * webhook())
        async with asyncio.timeout(1):
            await writer.drain()


async def test_a_whole_body_that_is_too_large(connect: Connect) -> None:
    """It is refused like one that comes piece by piece, and the connection ends."""
    async with WebhookReceiver(SECRET, max_body=10).serve() as server:
        reader, writer = await connect(server.port)
        writer.write(webhook())
        found = await head(reader)
        assert ("413", "close") == (found[""].split()[1], found["Connection"])


async def test_a_sender_that_is_gone(connect: Connect) -> None:
    """The event is kept all the same."""
    receiver = WebhookReceiver(SECRET)
    async with receiver.serve() as server:
        _, writer = await connect(server.port)
        writer.write(webhook())
        await writer.drain()
        writer.transport.abort()
        assert (await receiver.mailbox.wait(key_of(export_event()), "")).authenticated


async def test_a_connection_that_ends_meanwhile() -> None:
    """It is aiohttp's to end the task, as for any answer that can't be sent."""

    class Request:
        transport = None

    with pytest.raises(ConnectionResetError):
        await accepted.Accepted().prepare(Request())  # type: ignore[arg-type]


# In an application of the user's own.

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Touch = Callable[[web.Response], object]


@asynccontextmanager
async def in_app(app: web.Application, receiver: WebhookReceiver | None = None) -> AsyncIterator[int]:
    """Serve an application in which a receiver is mounted."""
    (receiver or WebhookReceiver(SECRET)).setup(app)
    runner = web.AppRunner(app, shutdown_timeout=5)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def touching(touch: Touch) -> web.Application:
    """Return an application with a middleware that does something to each answer."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        assert isinstance(response, web.Response)
        assert not response.prepared
        touch(response)
        return response

    return web.Application(middlewares=[middleware])


@pytest.mark.parametrize(
    ("version", "more", "connection"),
    [("1.1", "", None), ("1.1", "Connection: close\r\n", "close"), ("1.0", "Connection: keep-alive\r\n", "keep-alive")],
)
async def test_in_an_app_it_is_like_aiohttps_own(
    connect: Connect, version: str, more: str, connection: str | None
) -> None:
    """Header by header, whether or not the connection is kept."""

    async def plain(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.router.add_post("/plain", plain)
    async with in_app(app) as port:
        answers = []
        for request in (webhook(version=version, more=more), webhook(version=version, more=more)):
            reader, writer = await connect(port)
            writer.write(request if not answers else request.replace(PATH.encode(), b"/plain"))
            answers.append(await head(reader))
    ours, own = answers
    assert f"HTTP/{version} 200 OK" == ours[""]
    assert connection == ours.get("Connection")
    assert (ours | {"Date": ""}) == (own | {"Date": ""})


async def test_in_an_app_a_connection_is_kept(connect: Connect) -> None:
    """Each of the requests on it gets an answer of its own."""
    async with in_app(web.Application()) as port:
        reader, writer = await connect(port)
        writer.write(3 * webhook())
        assert 3 * ["HTTP/1.1 200 OK"] == [(await head(reader))[""] for _ in range(3)]


@pytest.mark.parametrize(
    ("touch", "expected"),
    [
        (lambda answer: answer.headers.update({"X-Frame-Options": "DENY"}), {"X-Frame-Options": "DENY"}),
        (lambda answer: answer.set_cookie("a", "b"), {"Set-Cookie": "a=b; Path=/"}),
        (lambda answer: answer.set_status(202), {"": "HTTP/1.1 202 Accepted"}),
        (lambda answer: answer.set_status(200, reason="Fine"), {"": "HTTP/1.1 200 Fine"}),
        (lambda answer: answer.force_close(), {"Connection": "close"}),
        (lambda answer: setattr(answer, "text", "thanks"), {"Content-Length": "6"}),
        (lambda answer: answer.enable_chunked_encoding(), {"Transfer-Encoding": "chunked"}),
    ],
)
async def test_what_a_middleware_does_counts(connect: Connect, touch: Touch, expected: dict[str, str]) -> None:
    """Whatever it changes is sent."""
    async with in_app(touching(touch)) as port:
        reader, writer = await connect(port)
        writer.write(webhook())
        found = await head(reader)
        assert expected == {name: found.get(name) for name in expected}


async def test_a_signal_of_an_app_above_counts(connect: Connect) -> None:
    """It has the answer before it is sent, as any other."""

    async def sign(_: web.Request, response: web.StreamResponse) -> None:
        response.headers["X-Signed"] = "yes"

    app = web.Application()
    app.on_response_prepare.append(sign)
    below = web.Application()
    WebhookReceiver(SECRET).setup(below)
    app.add_subapp("/below", below)
    async with in_app(app) as port:
        for path in (PATH, f"/below{PATH}"):
            reader, writer = await connect(port)
            writer.write(webhook().replace(PATH.encode(), path.encode(), 1))
            found = await head(reader)
            assert ("HTTP/1.1 200 OK", "yes") == (found[""], found["X-Signed"])


async def test_a_middleware_that_sends_it_itself(connect: Connect) -> None:
    """It is sent once."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        assert await response.prepare(request) is request.writer
        assert response.prepared
        return response

    async with in_app(web.Application(middlewares=[middleware])) as port:
        reader, writer = await connect(port)
        writer.write(2 * webhook())
        assert 2 * ["HTTP/1.1 200 OK"] == [(await head(reader))[""] for _ in range(2)]


async def test_an_access_log_has_all_of_it(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    """Its status, the bytes that were sent, and its headers."""
    app = web.Application()
    WebhookReceiver(SECRET).setup(app)
    runner = web.AppRunner(app, access_log_format="%s %b %{Server}o %{Content-Length}o %{Date}o")
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    caplog.set_level(logging.INFO, "aiohttp.access")
    reader, writer = await connect(runner.addresses[0][1])
    writer.write(webhook())
    answer = await reader.readuntil(b"\r\n\r\n")
    await runner.cleanup()
    sent = dict(line.split(": ", 1) for line in answer.decode().split("\r\n")[1:] if line)
    assert [f"200 {len(answer)} {sent['Server']} 0 {sent['Date']}"] == caplog.messages


async def test_a_middleware_that_gives_another_answer(connect: Connect) -> None:
    """Also after it has prepared ours: one answer is sent, whichever it is."""
    answers: list[web.Response | Exception] = [web.Response(status=299), web.HTTPConflict(), OSError("a defect")]

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        await (await handler(request)).prepare(request)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with in_app(web.Application(middlewares=[middleware])) as port:
        for expected in ("299", "409", "500"):
            reader, writer = await connect(port)
            writer.write(webhook(more="Connection: close\r\n" if expected == "500" else ""))
            assert expected == (await head(reader))[""].split()[1]
            assert b"HTTP/1.1" not in (await reader.read() if expected == "500" else b"")


async def test_a_failure_after_it_was_sent(connect: Connect) -> None:
    """The connection ends, without another answer."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        await response.prepare(request)
        await response.write_eof()
        await response.write_eof()
        assert await response.prepare(request) is None
        raise OSError("a defect")

    async with in_app(web.Application(middlewares=[middleware])) as port:
        reader, writer = await connect(port)
        writer.write(webhook())
        assert "HTTP/1.1 200 OK" == (await head(reader))[""]
        assert b"" == await reader.read()


@pytest.mark.parametrize("ends", [True, False])
async def test_a_middleware_that_writes_a_body(connect: Connect, ends: bool) -> None:
    """It gets what aiohttp's own answer would give."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        await response.prepare(request)
        await (response.write_eof(b"ok") if ends else response.write(b"ok"))  # type: ignore[attr-defined]
        return response

    async def plain(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application(middlewares=[middleware])
    app.router.add_post("/plain", plain)
    async with in_app(app) as port:
        answers = []
        for path in (PATH, "/plain"):
            reader, writer = await connect(port)
            writer.write(webhook().replace(PATH.encode(), path.encode()))
            answers.append(await head(reader) | {"Date": ""})
    assert answers[0] == answers[1]


async def test_its_repr_at_every_stage(connect: Connect) -> None:
    """As a log of the app's might show it."""
    seen: list[str] = []

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        seen.append(repr(response))
        await response.prepare(request)
        seen.append(repr(response))
        await response.write_eof()
        seen.append(repr(response))
        return response

    async with in_app(web.Application(middlewares=[middleware])) as port:
        reader, writer = await connect(port)
        writer.write(webhook())
        await head(reader)
    assert [f"<AcceptedInApp OK {state}>" for state in ("not prepared", "prepared", "eof")] == seen


@pytest.mark.parametrize(("unread", "waits"), [(0, 0), (accepted._MOST_UNREAD, 0), (accepted._MOST_UNREAD + 1, 1)])
async def test_a_sender_that_reads_nothing_is_waited_for(unread: int, waits: int) -> None:
    """As soon as what it has not read is more than a few answers, whichever the server."""
    drained: list[bytes] = []

    class Transport:
        def is_closing(self) -> bool:
            return False

        def write(self, data: bytes) -> None:
            written.append(data)

        def get_write_buffer_size(self) -> int:
            return unread

    class Writer:
        output_size = 0

        async def drain(self) -> None:
            drained.append(written[-1])

    written: list[bytes] = []
    request: Any = SimpleNamespace(transport=Transport(), writer=Writer())
    await accepted.Accepted().prepare(request)
    answer = accepted.AcceptedInApp()
    answer._ready = request
    await answer.write_eof()
    assert (2, 2 * waits) == (len(written), len(drained))
    assert sum(map(len, written)) == request.writer.output_size

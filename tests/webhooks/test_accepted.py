"""The ready-made answer of the embedded server says what aiohttp's own would say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from types import SimpleNamespace

import pytest

from avaturn_async import WebhookReceiver
from avaturn_async.webhooks import Reply, accepted, key_of
from avaturn_async.webhooks.receiver import ACCEPTED

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
    answer = accepted.Accepted()
    seconds = iter([0, 0, 1])
    monkeypatch.setattr(accepted, "time", SimpleNamespace(time=lambda: next(seconds)))
    first, again, later = (answer._bytes() for _ in range(3))
    assert first is again
    assert b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n" in first
    assert b"Date: Thu, 01 Jan 1970 00:00:01 GMT\r\n" in later


async def test_a_sender_that_reads_no_answers(connect: Connect) -> None:
    """It is not answered any more, once what it has not read fills the buffers."""
    receiver = WebhookReceiver(SECRET)
    receiver.handle = accept  # type: ignore[method-assign]
    async with receiver.serve() as server:
        _, writer = await connect(server.port)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        with pytest.raises(TimeoutError):  # however long: the server takes no more
            await flood(writer)
        assert server._connections is not None
        (transport,) = [handler.transport for handler in server._connections.connections]
        assert transport is not None
        assert transport.get_write_buffer_size() < 200_000


async def flood(writer: asyncio.StreamWriter) -> None:
    """Send webhooks for as long as they are taken, with no more than a second between."""
    for _ in range(200):
        writer.write(500 * webhook())
        async with asyncio.timeout(1):
            await writer.drain()


async def accept(body: bytes, **_: object) -> Reply:
    """Accept whatever comes, quickly."""
    return ACCEPTED


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

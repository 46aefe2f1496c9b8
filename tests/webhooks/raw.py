"""A client that speaks HTTP by hand, as slowly and as wrongly as a test likes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def post(path: str, body: bytes, *headers: str, length: int | None = None) -> bytes:
    """Return the bytes of a POST; `length` to announce another length than the body's."""
    size = len(body) if length is None else length
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {size}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Streams]:
    """Open a connection and close it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        await closed(writer)


async def closed(writer: asyncio.StreamWriter) -> None:
    """Close a connection, whatever has become of it."""
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def status(reader: asyncio.StreamReader) -> int:
    """Read one answer, its body included, and return its status; 0 where the connection was closed instead."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, OSError):
        return 0
    lines = head.decode().lower().split("\r\n")
    length = next((int(line.split(":")[1]) for line in lines if line.startswith("content-length:")), 0)
    await reader.readexactly(length)
    return int(lines[0].split()[1])


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Read until the other side closes, or drops, the connection."""
    try:
        return await reader.read()
    except OSError:
        return b""


async def ask(port: int, request: bytes) -> tuple[int, dict[str, str]]:
    """Send one request on a connection of its own; return the answer's status and headers, names in lower case."""
    async with connected(port) as (reader, writer):
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = (line.partition(": ") for line in head[1:] if line)
        return int(head[0].split()[1]), {name.lower(): value for name, _, value in pairs}


async def trickle(streams: Streams, request: bytes) -> bytes:
    """Send a request byte by byte, until it is answered or dropped; return the answer."""
    reader, writer = streams
    answer = asyncio.ensure_future(rest(reader))
    for byte in request:
        if answer.done() or writer.is_closing():
            break
        writer.write(bytes([byte]))
        await asyncio.wait([answer], timeout=0.01)
    return await answer

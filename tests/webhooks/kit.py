"""Webhooks as Avaturn sends them, servers that take them, and a client that speaks HTTP by hand."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import hypercorn.asyncio
import hypercorn.config
import uvicorn
from aiohttp import web

from ..servers import running
from .samples import SECRET

PATH = f"/avaturn/{SECRET}"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


# A client by hand, as slow and as wrong as a test likes.


def post(path: str, body: bytes, *headers: str, length: int | None = None) -> bytes:
    """Return the bytes of a POST; `length` to announce another length than the body's."""
    size = len(body) if length is None else length
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {size}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def chunked(path: str, chunks: Iterable[bytes], *headers: str) -> bytes:
    """Return the bytes of a POST whose body comes in chunks, without a length."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Transfer-Encoding: chunked", *headers, "", ""]
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return "\r\n".join(lines).encode() + body + b"0\r\n\r\n"


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
    """Read one response with its body and return its status; 0 if the connection was closed instead."""
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
    """Send one request on a connection of its own; return the response's status and headers, in lower case."""
    async with connected(port) as (reader, writer):
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = (line.partition(": ") for line in head[1:] if line)
        return int(head[0].split()[1]), {name.lower(): value for name, _, value in pairs}


async def trickle(streams: Streams, request: bytes) -> bytes:
    """Send a request byte by byte until it is answered or dropped; return the response."""
    reader, writer = streams
    answer = asyncio.ensure_future(rest(reader))
    for byte in request:
        if answer.done() or writer.is_closing():
            break
        writer.write(bytes([byte]))
        await asyncio.wait([answer], timeout=0.01)
    return await answer


# Servers; each yields its port.


def free_port() -> int:
    """Return a port that is free for now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


async def listening(port: int) -> None:
    """Wait until a server listens."""
    while True:
        try:
            async with connected(port):
                return
        except OSError:
            await asyncio.sleep(0.01)


@asynccontextmanager
async def aiohttp_server(app: web.Application, **options: Any) -> AsyncIterator[int]:
    """Serve an aiohttp application."""
    runner = web.AppRunner(app, shutdown_timeout=5, **{"lingering_time": 0} | options)
    async with running(runner) as url:
        yield int(url.rpartition(":")[2])


@asynccontextmanager
async def uvicorn_server(app: Any, **options: Any) -> AsyncIterator[int]:
    """Serve an ASGI application by uvicorn, until it has shut down."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(app, **{"log_level": "critical", "timeout_graceful_shutdown": 5} | options)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            while not server.started and not task.done():
                await asyncio.sleep(0.002)
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            await task


@asynccontextmanager
async def hypercorn_server(app: Any, **options: Any) -> AsyncIterator[int]:
    """Serve an ASGI application by hypercorn, until it has shut down."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    config = hypercorn.config.Config.from_mapping(bind=[f"fd://{listening.detach()}"], **options)  # which closes it
    ended = asyncio.Event()
    task = asyncio.create_task(hypercorn.asyncio.serve(app, config, shutdown_trigger=ended.wait, mode="asgi"))
    try:
        yield port
    finally:
        ended.set()
        await task


@asynccontextmanager
async def granian_server(app: Any, **options: Any) -> AsyncIterator[int]:
    """Serve an ASGI application by granian, until it has shut down."""
    from granian.constants import Interfaces
    from granian.server.embed import Server

    port = free_port()
    server = Server(app, port=port, interface=Interfaces.ASGI, **options)
    task = asyncio.create_task(server.serve())
    try:
        await listening(port)
        yield port
    finally:
        server.stop()
        await task


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def wsgi_server(app: Any) -> Iterator[int]:
    """Serve a WSGI application by the standard library's server, in a thread."""
    with make_server("127.0.0.1", 0, app, handler_class=_Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()

"""Photo uploads to servers that behave in all the ways that servers do, over HTTP and TLS, on both event loops."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvloop

from avaturn_async.config import RetryPolicy, Timeouts
from avaturn_async.errors import (
    APIStatusError,
    AvaturnError,
    OutcomeUnknownError,
    RequestTimeoutError,
    ResponseFormatError,
    TransportError,
)
from avaturn_async.redact import SecretUrl

from ..servers import listening
from .kit import Talk, form, heard, opened, reset

LARGE = bytes(16 * 2**20)  # more than sockets buffer on both sides together
OK = b'HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{"status":"processing"}'[:-2]


class Server:
    """Holds one conversation on each connection, the last one repeatedly, and counts what is open."""

    def __init__(self, *talks: Talk) -> None:
        self.talks = talks
        self.connections = self.received = 0
        self.open: set[asyncio.Task[Any]] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hold a conversation, then read until the client ends the connection, which it must do."""
        task = asyncio.current_task()
        assert task is not None
        self.open.add(task)
        self.connections += 1
        try:
            await self.talks[min(self.connections, len(self.talks)) - 1](reader, writer)
            while piece := await reader.read(2**16):
                self.received += len(piece)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()
            self.open.discard(task)

    @asynccontextmanager
    async def run(self, context: ssl.SSLContext | None) -> AsyncIterator[str]:
        """Listen; yield the url. At the end, wait until the client has ended all connections."""
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)  # what the kernel takes counts as progress
        async with listening(await asyncio.start_server(self.accept, sock=listener, ssl=context)) as url:
            yield f"{url.replace('http', 'https') if context else url}/photos"
            async with asyncio.timeout(10):
                while self.open:
                    await asyncio.wait(self.open)


async def read_form(reader: asyncio.StreamReader, head: bytes = b"") -> None:
    """Read a request, or the rest of it, to the end of its body."""
    head = head or await heard(reader)
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
    while length:
        length -= len(await reader.read(min(length, 2**18)))


def late(*answers: bytes) -> Talk:
    """Return a conversation that answers after the whole form."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_form(reader)
        writer.write(b"".join(answers))

    return talk


def early(answer: bytes) -> Talk:
    """Return a conversation that answers after the head, and reads no more until the client ends the connection."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await heard(reader)
        writer.write(answer)

    return talk


def closing(answer: bytes) -> Talk:
    """Return a conversation that answers after the head and resets the connection, as servers with a small limit do."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await heard(reader)
        writer.write(answer)
        await writer.drain()
        reset(writer)

    return talk


def informing(*lines: bytes) -> Talk:
    """Return a conversation that sends informational responses after the head, and an answer after the form."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await heard(reader)
        writer.write(b"".join(b"HTTP/1.1 %b\r\n\r\n" % line for line in lines))
        await read_form(reader, head)
        writer.write(OK)

    return talk


async def read_head_alone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read nothing of the form until the client ends the connection, or what is left of it."""
    await heard(reader)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    with suppress(TimeoutError):
        async with asyncio.timeout(0.8):
            await asyncio.Event().wait()
    writer.transport.resume_reading()  # type: ignore[attr-defined]


async def read_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take longer for the form than the limit on standstill."""
    head = await heard(reader)
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
    while length:
        length -= len(await reader.read(min(length, 100_000)))
        await asyncio.sleep(0.015)
    writer.write(OK)


async def reset_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reset in the middle of the form."""
    await heard(reader)
    await reader.readexactly(2**20)
    reset(writer)


async def reset_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reset after the form."""
    await read_form(reader)
    reset(writer)


def status(line: str) -> bytes:
    """Return a response without a body."""
    headers = "Retry-After: 0.01\r\nLocation: http://127.0.0.1:9/elsewhere\r\nContent-Length: 0"
    return f"HTTP/1.1 {line}\r\n{headers}\r\n\r\n".encode()


#: Conversations, the outcome, and how many connections it takes.
SERVERS: dict[str, tuple[list[Talk], Any, int]] = {
    "ok": ([late(OK)], 200, 1),
    "slow": ([read_slowly], 200, 1),
    "head alone": ([read_head_alone], RequestTimeoutError, 3),
    "200 early": ([early(OK)], ResponseFormatError, 1),
    "413 early": ([early(status("413 Too Large"))], 413, 1),
    "413 closed": ([closing(status("413 Too Large"))], 413, 1),
    "413 late": ([late(status("413 Too Large"))], 413, 1),
    "400 early": ([early(status("400 Bad"))], 400, 1),
    "400 late": ([late(status("400 Bad"))], 400, 1),
    "307 early": ([early(status("307 Moved"))], 307, 1),
    "307 late": ([late(status("307 Moved"))], 307, 1),
    "500 early": ([early(status("500 Oops"))], 500, 3),
    "500 late": ([late(status("500 Oops"))], 500, 1),
    "reset early": ([reset_early], TransportError, 3),
    "reset once": ([reset_early, late(OK)], 200, 2),
    "reset late": ([reset_late], OutcomeUnknownError, 1),
    "100": ([informing(b"100 Continue")], 200, 1),
    "103": ([informing(b"103 Early Hints", b"103 Early Hints")], 200, 1),
    "429 early": ([early(status("429 Slow")), late(OK)], 200, 2),
    "429 closed": ([closing(status("429 Slow")), late(OK)], 200, 2),
    "429 late": ([late(status("429 Slow")), late(OK)], 200, 2),
    "503 early": ([early(status("503 Busy")), late(OK)], 200, 2),
    "503 late": ([late(status("503 Busy")), late(OK)], 200, 2),
    "503 for ever": ([late(status("503 Busy"))], 503, 3),
}


#: Seconds without progress that are allowed, where that matters; elsewhere a busy machine may pause for as long.
STANDSTILL = {"slow": 2.0, "head alone": 0.6}


async def outcome_of(
    server: Server, contexts: tuple[ssl.SSLContext, ssl.SSLContext] | None, standstill: float = 20
) -> Any:
    """Return the status of an upload, or the class of its error, and check that no task is left."""
    limits, retry = Timeouts(upload=standstill), RetryPolicy(attempts=3, base=0, retry_after_cap=1)
    async with server.run(contexts[0] if contexts else None) as url:
        options = {"ssl": contexts[1]} if contexts else {}
        async with opened("http://127.0.0.1", timeouts=limits, retry=retry, **options) as transport:
            before = asyncio.all_tasks() - server.open
            try:
                return (await transport.upload(SecretUrl(url), form(LARGE))).status
            except APIStatusError as error:
                return error.status_code
            except AvaturnError as error:
                return type(error)
            finally:
                assert asyncio.all_tasks() - server.open <= before


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_the_outcome_of_an_upload(
    name: str,
    secure: bool,
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    tls: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    """It is the right one, takes no needless attempts, and every connection ends."""
    talks, outcome, connections = SERVERS[name]
    server = Server(*talks)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        found = runner.run(outcome_of(server, tls if secure else None, STANDSTILL.get(name, 20)))
        assert (outcome, connections) == (found, server.connections)

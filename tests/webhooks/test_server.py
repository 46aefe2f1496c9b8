"""The embedded server: its url, its patience, and its end."""

from __future__ import annotations

import asyncio
import gzip
import logging
import random
import resource
import socket
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import aiohttp
import psutil
import pytest
import uvloop

from avaturn_async import BasicAuth, ExportReadyWebhook, WebhookReceiver
from avaturn_async.webhooks import Reply, key_of
from avaturn_async.webhooks.server import ReceiverServer

from .kit import PATH, Streams, ask, chunked, closed, connected, post, rest, status, trickle
from .samples import AVATAR, OTHER, SECRET, Gated, avatar, export_body, export_event

CROWD = 1000 if resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 4096 else 200


@pytest.fixture
def receiver() -> WebhookReceiver:
    """Make a receiver."""
    return WebhookReceiver(SECRET)


@pytest.fixture
async def server(receiver: WebhookReceiver) -> AsyncIterator[ReceiverServer]:
    """Serve it."""
    async with receiver.serve() as running:
        yield running


# The url.


async def test_the_url_has_the_secret(server: ReceiverServer) -> None:
    """The url is what the portal needs, and what is printed of the server is not."""
    assert f"http://127.0.0.1:{server.port}{PATH}" == server.url
    assert f"<ReceiverServer http://127.0.0.1:{server.port}/...>" == repr(server)
    assert 200 == (await ask(server.port, post(PATH, export_body())))[0]


@pytest.mark.parametrize(("prefix", "path"), [("", f"/{SECRET}"), ("/", f"/{SECRET}"), ("a/b", f"/a/b/{SECRET}")])
async def test_prefixes(receiver: WebhookReceiver, prefix: str, path: str) -> None:
    """The prefix may be written with slashes or without, or be nothing at all."""
    async with receiver.serve(prefix=prefix) as server:
        assert server.url.endswith(f"{server.port}{path}")
        assert 200 == (await ask(server.port, post(path, export_body())))[0]


async def test_a_public_url(receiver: WebhookReceiver) -> None:
    """The address by which the world comes in replaces the server's own."""
    async with receiver.serve(public_url="https://tunnel.example/") as server:
        assert f"https://tunnel.example{PATH}" == server.url
        assert "<ReceiverServer https://tunnel.example/...>" == repr(server)


@pytest.mark.parametrize(("host", "shown"), [("0.0.0.0", "127.0.0.1"), ("localhost", "localhost"), ("::1", "[::1]")])
async def test_hosts(receiver: WebhookReceiver, host: str, shown: str) -> None:
    """The url names a host that can be asked."""
    async with receiver.serve(host) as server:
        assert f"http://{shown}:{server.port}{PATH}" == server.url


async def test_a_url_without_a_secret() -> None:
    """With another verifier the url ends in the prefix, and webhooks are taken there and below."""
    async with WebhookReceiver(BasicAuth("a", "b")).serve() as server:
        assert server.url.endswith("/avaturn")
        headers = [(await ask(server.port, post(path, b"{}")))[1] for path in ("/avaturn", "/avaturn/x")]
        assert [True, True] == ["www-authenticate" in each for each in headers]


async def test_not_started(receiver: WebhookReceiver) -> None:
    """Before its start a server has no url and no port, and says how to get them."""
    server = receiver.serve()
    assert "<ReceiverServer not started>" == repr(server)
    with pytest.raises(RuntimeError, match="async with"):
        server.url  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(RuntimeError, match="not running"):
        server.port  # type: ignore[attr-defined]  # noqa: B018


async def test_served_twice(receiver: WebhookReceiver) -> None:
    """A server that was left can be entered again, and its url is of its new port."""
    server = receiver.serve()
    for _ in range(2):
        async with server as running:
            assert f"http://127.0.0.1:{running.port}{PATH}" == running.url
            assert 200 == (await ask(running.port, post(PATH, export_body())))[0]


async def test_a_port_that_is_taken(receiver: WebhookReceiver, server: ReceiverServer) -> None:
    """Another server at the same port is an OSError."""
    with pytest.raises(OSError, match="in use"):
        async with receiver.serve(port=server.port):
            raise AssertionError("it was served")


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_loops(new_loop: Any) -> None:
    """It runs on uvloop too."""

    async def main() -> None:
        async with (
            WebhookReceiver(SECRET).serve(header_timeout=1) as server,
            connected(server.port) as (reader, writer),
        ):
            writer.write(post(PATH, export_body()))
            assert 200 == await status(reader)
            assert b"" == await rest(reader)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


# Requests.


@pytest.mark.parametrize("path", [f"/avaturn/{OTHER}", "/avaturn", "/", f"/avaturnx/{SECRET}", f"/x/{SECRET}"])
async def test_other_paths(server: ReceiverServer, path: str) -> None:
    """A wrong secret looks like any other wrong path."""
    assert 404 == (await ask(server.port, post(path, export_body())))[0]


async def test_other_requests(server: ReceiverServer) -> None:
    """Other methods, large bodies and unknown events have their status."""
    code, headers = await ask(server.port, post(PATH, b"").replace(b"POST", b"GET"))
    assert (405, "POST") == (code, headers["allow"])
    assert 413 == (await ask(server.port, post(PATH, b"", length=65_537)))[0]
    assert 202 == (await ask(server.port, post(PATH, b'{"event": "new"}')))[0]


async def test_several_on_one_connection(server: ReceiverServer) -> None:
    """A connection carries one webhook after another, also ones that don't wait for the answer before."""
    async with connected(server.port) as (reader, writer):
        writer.write(post(PATH, export_body()) * 3)
        assert [200, 200, 200] == [await status(reader) for _ in range(3)]
        writer.write(post(PATH, export_body()))
        assert 200 == await status(reader)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"POST\r\n\r\n",
        f"POST {PATH} HTTP/9.9.9\r\n\r\n".encode(),
        f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n".encode(),
        f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n".encode(),
        f"POST {PATH} HTTP/1.1\r\nHost: x\r\nX: ".encode() + b"x" * 20_000 + b"\r\n\r\n",
        f"POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno length\r\n".encode(),
    ],
    ids=["tls", "no-path", "version", "length", "two-lengths", "long-header", "chunk"],
)
async def test_malformed_http(server: ReceiverServer, request_bytes: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """What is no HTTP is answered with 400 without a word in the logs of any library."""
    caplog.set_level(logging.DEBUG)
    assert 400 == (await ask(server.port, request_bytes))[0]
    assert {"avaturn_async"} >= {record.name.split(".")[0] for record in caplog.records if record.name != "asyncio"}
    assert SECRET not in caplog.text


async def test_no_log_shows_the_secret(receiver: WebhookReceiver, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is asked, no record of any logger has the secret in it, at DEBUG."""
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)

    @receiver.on("export.ready")
    async def raising(event: Any) -> None:
        raise ValueError("no")

    async with receiver.serve() as server:
        for body in (export_body(), b"{", b'{"event": "new"}'):
            await ask(server.port, post(PATH, body))
        await ask(server.port, post(PATH, b"").replace(b"POST", b"GET"))
        await ask(server.port, post(PATH + "/%zz?" + SECRET, b"{}", "Referer: " + server.url))
    receiver.body_timeout = 0.05
    async with receiver.serve(header_timeout=0.1) as server:
        for slow in (post(PATH, b"")[:-4], post(PATH, b"{", length=9)):
            async with connected(server.port) as (reader, writer):
                writer.write(slow)
                assert {b"", b"HTTP/1.1 408 "} >= {(await rest(reader))[:13]}
    logged = [f"{record.getMessage()} {record.__dict__} {record.exc_text}" for record in caplog.records]
    assert [] == [each for each in logged if SECRET in each]
    assert "POST /avaturn/*** answered 200" in caplog.messages


# Patience.


@pytest.mark.parametrize("sent", [b"", b"P", post(PATH, b"")[:-2]], ids=["nothing", "method", "headers"])
async def test_slow_headers_are_dropped(receiver: WebhookReceiver, sent: bytes) -> None:
    """A connection whose headers don't come is dropped without an answer."""
    async with receiver.serve(header_timeout=0.05) as server, connected(server.port) as (reader, writer):
        writer.write(sent)
        assert b"" == await rest(reader)


async def test_an_idle_connection_is_dropped(receiver: WebhookReceiver) -> None:
    """A connection that brought a webhook may bring the next in time, and is dropped after."""
    async with receiver.serve(header_timeout=1) as server, connected(server.port) as (reader, writer):
        for _ in range(3):
            writer.write(post(PATH, export_body()))
            assert 200 == await status(reader)
        assert b"" == await rest(reader)


async def test_a_slow_body_is_dropped() -> None:
    """A body that does not arrive is answered with 408, and the connection is closed."""
    receiver = WebhookReceiver(SECRET, body_timeout=0.05)
    async with receiver.serve(header_timeout=2) as server, connected(server.port) as streams:
        streams[1].write(post(PATH, b"{", length=1000))
        assert 408 == await status(streams[0])
        assert b"" == await rest(streams[0])


@pytest.mark.slow
async def test_a_crowd_of_slow_senders() -> None:
    """Senders of one byte at a time are dropped while valid webhooks are answered."""
    head, body = post(PATH, b" " * 5000).split(b"\r\n\r\n")
    receiver = WebhookReceiver(SECRET, body_timeout=3)
    async with (
        receiver.serve(header_timeout=3, max_connections=CROWD + 10) as server,
        AsyncExitStack() as stack,
    ):
        streams = [await stack.enter_async_context(connected(server.port)) for _ in range(CROWD)]
        for each in streams[1::2]:
            each[1].write(head + b"\r\n\r\n")
        slow = [asyncio.create_task(trickle(each, b"POST / HTTP/1.1\r\nX: " + b"x" * 5000)) for each in streams[::2]]
        slow += [asyncio.create_task(trickle(each, body)) for each in streams[1::2]]
        assert [200] * 20 == [(await ask(server.port, post(PATH, export_body())))[0] for _ in range(20)]
        answers = await asyncio.gather(*slow)
    assert [b""] * (CROWD // 2) == answers[: CROWD // 2]
    assert {b"", b"HTTP/1.1 408 "} >= {answer[:13] for answer in answers}


async def test_the_slowest_makes_room(receiver: WebhookReceiver) -> None:
    """At the limit whoever has been sending, or idle, for longest makes room for a connection that comes."""
    async with receiver.serve(max_connections=3) as server, AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(connected(server.port)) for _ in range(3)]
        for reader, writer in (streams[0], streams[2]):
            writer.write(post(PATH, export_body()))
            assert 200 == await status(reader)
        streams[1][1].write(post(PATH, b"{", length=100))
        for slowest in (1, 0, 2):
            reader, writer = await stack.enter_async_context(connected(server.port))
            writer.write(post(PATH, export_body()))
            assert 200 == await status(reader)
            assert b"" == await rest(streams[slowest][0])


@pytest.mark.parametrize("slow", [b"POST / HTTP/1.1\r\nX: ", post(PATH, b"{", length=300)], ids=["headers", "body"])
async def test_slow_senders_keep_nobody_out(receiver: WebhookReceiver, slow: bytes) -> None:
    """However many slow senders hold a connection, at the limit too, a webhook comes through."""
    async with receiver.serve(max_connections=50) as server, AsyncExitStack() as stack:
        for _ in range(150):
            _, writer = await stack.enter_async_context(connected(server.port))
            writer.write(slow)
        assert [200] * 20 == [(await ask(server.port, post(PATH, export_body())))[0] for _ in range(20)]


async def test_a_sender_that_waits_to_be_told(server: ReceiverServer) -> None:
    """A sender that asks whether its body may come is told so."""
    async with connected(server.port) as (reader, writer):
        writer.write(post(PATH, b"", "Expect: 100-continue", length=len(export_body())))
        assert 100 == await status(reader)
        writer.write(export_body())
        assert 200 == await status(reader)


async def test_connections_are_limited() -> None:
    """Where all connections wait for their answers a further one is dropped, until one of them ends."""
    mailbox = Gated()
    receiver = WebhookReceiver(SECRET, mailbox=mailbox)
    async with receiver.serve(max_connections=2) as server, AsyncExitStack() as stack:
        held = [await stack.enter_async_context(connected(server.port)) for _ in range(2)]
        for _, writer in held:
            writer.write(post(PATH, export_body()))
            await mailbox.asked.wait()
            mailbox.asked.clear()
        async with connected(server.port) as (reader, _):
            assert b"" == await rest(reader)
        mailbox.gate.set()
        assert [200, 200] == [await status(reader) for reader, _ in held]
        await closed(held[0][1])
        code = 0
        while code == 0:
            async with connected(server.port) as (reader, writer):
                writer.write(post(PATH, export_body()))
                code = await status(reader)
        assert 200 == code


# Refused bodies, and responses that are not read.


@pytest.fixture
def inflated() -> Iterator[list[object]]:
    """Count the decompressors that aiohttp makes."""
    made: list[object] = []

    def decompressobj(*arguments: Any, **options: Any) -> Any:
        made.append(arguments)
        return zlib.decompressobj(*arguments, **options)

    aiohttp.set_zlib_backend(SimpleNamespace(**vars(zlib) | {"decompressobj": decompressobj}))
    yield made
    aiohttp.set_zlib_backend(zlib)


@pytest.mark.parametrize("path", [PATH, f"/avaturn/{OTHER}"], ids=["authentic", "forged"])
async def test_a_compressed_body_is_refused(server: ReceiverServer, path: str, inflated: list[object]) -> None:
    """A compressed body is not decoded, and its connection is kept."""
    async with connected(server.port) as (reader, writer):
        for _ in range(2):
            writer.write(post(path, gzip.compress(export_body()), "Content-Encoding: gzip"))
            assert 415 == await status(reader)
    assert [] == inflated


async def test_a_refused_body_may_still_be_sent(server: ReceiverServer) -> None:
    """A sender that sends all of a refused body before it reads gets to see the response."""
    for request in (post(PATH, bytes(5_000_000)), chunked(PATH, [bytes(50_000)] * 100)):
        async with connected(server.port) as (reader, writer):
            writer.write(request)
            await writer.drain()
            assert 413 == await status(reader)
            assert b"" == await rest(reader)


async def test_a_refused_body_without_end(server: ReceiverServer) -> None:
    """A connection whose refused body goes on is closed within some seconds."""
    async with connected(server.port) as (reader, writer):
        writer.write(post(PATH, b"{", length=70_000))
        assert 413 == await status(reader)
        assert b"" == await rest(reader)


async def reading_nothing(server: ReceiverServer) -> Streams:
    """Open a connection that does not read, and let the kernel hold next to nothing for it, on both sides."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    while not (found := accepted_from(writer)):
        await asyncio.sleep(0)
    with socket.fromfd(found[0], socket.AF_INET, socket.SOCK_STREAM) as accepted:
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return reader, writer


def accepted_from(writer: asyncio.StreamWriter) -> list[int]:
    """Return the file descriptor of the server's end of a connection, until it is closed."""
    theirs = writer.get_extra_info("sockname")
    return [each.fd for each in psutil.Process().net_connections("tcp") if each.raddr == theirs]


async def test_a_sender_that_reads_no_responses(receiver: WebhookReceiver) -> None:
    """Once unread responses fill the buffers, the connection is dropped."""
    async with receiver.serve(header_timeout=600, shutdown_timeout=0) as server:
        _, writer = await reading_nothing(server)
        writer.write(2000 * post("/", b""))
        while accepted_from(writer):
            for _ in range(100):  # aiohttp handles one request in a turn of the loop
                await asyncio.sleep(0)
        writer.transport.abort()


async def test_responses_that_are_read_late(receiver: WebhookReceiver) -> None:
    """What a sender has not read when the server ends is still sent."""
    taken: list[Any] = []

    @receiver.on("export.ready")
    async def count(event: Any) -> None:
        taken.append(event)

    async with receiver.serve(shutdown_timeout=60) as server:
        reader, writer = await reading_nothing(server)
        writer.write(300 * post(PATH, export_body()))
        while len(taken) < 300:
            await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.05, writer.transport.resume_reading)  # type: ignore[attr-defined]
    assert 300 == (await rest(reader)).count(b"HTTP/1.1 200 OK")
    await closed(writer)


async def test_a_sender_that_is_gone(receiver: WebhookReceiver, server: ReceiverServer) -> None:
    """An event whose sender does not wait for the response is stored all the same."""
    async with connected(server.port) as (_, writer):
        writer.write(post(PATH, export_body()))
        await writer.drain()
        writer.transport.abort()
        assert (await receiver.mailbox.wait(key_of(export_event()), "")).authenticated


# The end.


async def test_idle_connections_do_not_hold_up_the_end(receiver: WebhookReceiver) -> None:
    """Connections that are idle, new or within their headers are closed at the end."""
    async with AsyncExitStack() as stack:
        async with receiver.serve() as server:
            port = server.port
            streams = [await stack.enter_async_context(connected(port)) for _ in range(3)]
            streams[0][1].write(post(PATH, export_body()))
            assert 200 == await status(streams[0][0])
            streams[1][1].write(b"POST ")
            assert 200 == (await ask(port, post(PATH, export_body())))[0]
        assert [b""] * 3 == [await rest(reader) for reader, _ in streams]
        with pytest.raises(OSError, match=r"(?i)connect"):
            await asyncio.open_connection("127.0.0.1", port)


async def test_a_body_under_way_does_not_hold_up_the_end(receiver: WebhookReceiver) -> None:
    """A request whose body doesn't come is cut off at the end."""
    async with AsyncExitStack() as stack:
        async with receiver.serve(shutdown_timeout=0.05) as server:
            reader, writer = await stack.enter_async_context(connected(server.port))
            writer.write(post(PATH, b"{", length=100))
            assert 200 == (await ask(server.port, post(PATH, export_body())))[0]
        assert b"" == await rest(reader)


class Hanging(WebhookReceiver):
    """Takes in a webhook without end, as with a mailbox that hangs."""

    def __init__(self) -> None:
        super().__init__(SECRET)
        self.reached, self.over = asyncio.Event(), asyncio.Event()

    async def handle(self, body: bytes, **_: Any) -> Reply:
        """Tell that it began, and that it was ended."""
        self.reached.set()
        try:
            return await asyncio.get_running_loop().create_future()
        finally:
            self.over.set()


@pytest.mark.parametrize("seconds", [0, 0.05])
async def test_a_mailbox_that_hangs_does_not_hold_up_the_end(seconds: float) -> None:
    """Its webhook is not answered, so that it is sent again; also where the end has no time at all."""
    receiver = Hanging()
    async with AsyncExitStack() as stack:
        async with receiver.serve(shutdown_timeout=seconds) as server:
            reader, writer = await stack.enter_async_context(connected(server.port))
            writer.write(post(PATH, export_body()))
            await receiver.reached.wait()
        await receiver.over.wait()
        assert b"" == await rest(reader)


async def test_an_end_that_is_cancelled_ends_handlers_too() -> None:
    """A webhook whose mailbox hangs is not waited for any longer."""
    receiver = Hanging()

    async def serve() -> None:
        async with AsyncExitStack() as stack, receiver.serve(shutdown_timeout=60) as server:
            _, writer = await stack.enter_async_context(connected(server.port))
            writer.write(post(PATH, export_body()))
            await receiver.reached.wait()

    task = asyncio.create_task(serve())
    await receiver.reached.wait()
    for _ in range(10):  # so that the end has begun
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    await receiver.over.wait()


@pytest.mark.parametrize("seconds", [0, 60])
@pytest.mark.parametrize("turns", range(7))
async def test_a_connection_that_comes_with_the_end(receiver: WebhookReceiver, turns: int, seconds: float) -> None:
    """Accepted just before the end, it neither holds it up nor outlives it."""
    async with receiver.serve(shutdown_timeout=seconds, header_timeout=600) as server:
        sock = socket.create_connection(("127.0.0.1", server.port))
        for _ in range(turns):
            await asyncio.sleep(0)
    sock.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=sock)
    assert b"" == await rest(reader)
    await closed(writer)


async def test_requests_under_way_have_time_to_end(receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A webhook that is being taken in when the end begins is answered."""
    reached, gate, handle = asyncio.Event(), asyncio.Event(), receiver.handle

    async def wait(*arguments: Any, **options: Any) -> Any:
        reached.set()
        await gate.wait()
        return await handle(*arguments, **options)

    monkeypatch.setattr(receiver, "handle", wait)
    async with AsyncExitStack() as stack:
        async with receiver.serve() as server:
            reader, writer = await stack.enter_async_context(connected(server.port))
            writer.write(post(PATH, export_body()))
            await reached.wait()
            asyncio.get_running_loop().call_later(0.05, gate.set)
        assert 200 == await status(reader)


@pytest.mark.parametrize("turns", range(1, 7))
async def test_an_end_that_is_cancelled(receiver: WebhookReceiver, turns: int) -> None:
    """Where the end itself is cancelled, connections are dropped and callbacks under way are still waited for."""
    heard: list[Any] = []
    gate, serving = asyncio.Event(), asyncio.Event()
    ports: list[int] = []

    @receiver.on(ExportReadyWebhook)
    async def callback(event: ExportReadyWebhook) -> None:
        await gate.wait()
        heard.append(event)

    async def serve() -> None:
        async with receiver.serve() as server:
            ports.append(server.port)
            serving.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(serve())
    await serving.wait()
    async with connected(ports[0]) as (reader, writer):
        writer.write(post(PATH, b"{", length=100))
        assert 200 == (await ask(ports[0], post(PATH, export_body())))[0]
        for _ in range(2):
            task.cancel()
            for _ in range(turns):
                await asyncio.sleep(0)
        assert b"" == await rest(reader)
        gate.set()
        await asyncio.wait([task])
    assert [export_event()] == heard


async def failing(server: ReceiverServer, ports: list[int]) -> None:
    """Serve, note the port, and fail."""
    async with server:
        ports.append(server.port)
        raise ZeroDivisionError


async def test_a_block_that_raises(receiver: WebhookReceiver) -> None:
    """An error in the block comes out, and the socket is closed."""
    server = ReceiverServer(receiver)
    with pytest.raises(ZeroDivisionError):
        await failing(server, ports := [])
    port = ports[0]
    socket.create_server(("127.0.0.1", port)).close()


async def sent(port: int, number: int) -> int | None:
    """Send one event, and return its number if it was accepted."""
    try:
        async with connected(port) as (reader, writer):
            writer.write(post(PATH, export_body(avatar(number))))
            return number if await status(reader) == 200 else None
    except OSError:
        return None


@pytest.mark.parametrize("end_after", [1, 50, 200, 400])
async def test_a_graceful_end(receiver: WebhookReceiver, end_after: int) -> None:
    """With events in flight at the end, none that was answered with a 2xx is lost to a waiter or a callback."""
    heard: list[Any] = []
    enough = asyncio.Event()

    @receiver.on(ExportReadyWebhook)
    async def callback(event: ExportReadyWebhook) -> None:
        await asyncio.sleep(0)
        heard.append(event.avatar_id)
        if len(heard) >= min(end_after, 400):
            enough.set()

    waiting = [receiver.mailbox.wait(key_of(export_event(avatar(number))), "") for number in range(400)]
    numbers = random.Random(20_260_101).sample(range(400), 400)
    async with receiver.serve(max_connections=2 * 400) as server:
        senders = [asyncio.create_task(sent(server.port, number)) for number in numbers]
        await enough.wait()
    at_the_end = set(heard)
    accepted = {number for number in await asyncio.gather(*senders) if number is not None}
    assert set() == {avatar(number) for number in accepted} - at_the_end
    assert set() == accepted - {number for number, waiter in enumerate(waiting) if waiter.done()}
    assert len(accepted) >= min(end_after, 400)
    for each in waiting:
        each.cancel()


async def test_nothing_is_left(receiver: WebhookReceiver) -> None:
    """After the end no task is left."""
    before = asyncio.all_tasks()
    async with receiver.serve() as server:
        for _ in range(3):
            assert 200 == (await ask(server.port, post(PATH, export_body(AVATAR))))[0]
    assert set() == asyncio.all_tasks() - before

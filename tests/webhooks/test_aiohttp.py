"""The receiver mounted in a real aiohttp application."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from avaturn_async import WebhookReceiver
from avaturn_async.webhooks import key_of

from .kit import PATH, aiohttp_server, ask, chunked, connected, post, rest, status
from .samples import OTHER, SECRET, export_body, export_event

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
def receiver() -> WebhookReceiver:
    """Make a receiver."""
    return WebhookReceiver(SECRET)


@pytest.fixture
async def port(receiver: WebhookReceiver) -> AsyncIterator[int]:
    """Serve an application in which the receiver is set up."""
    app = web.Application()
    receiver.setup(app)
    async with aiohttp_server(app) as port:
        yield port


async def test_an_event_is_accepted(receiver: WebhookReceiver, port: int) -> None:
    """An event comes through to who waits, with any Content-Type or none."""
    waiting = receiver.mailbox.wait(key_of(export_event()), "")
    assert 200 == (await ask(port, post(PATH, export_body())))[0]
    assert export_event() == (await waiting).event
    assert 200 == (await ask(port, post(PATH, export_body(), "Content-Type: image/png")))[0]


@pytest.mark.parametrize(
    ("prefix", "path"),
    [
        ("/a", f"/a/{SECRET}"),
        ("a/", f"/a/{SECRET}"),
        ("/a/b/", f"/a/b/{SECRET}"),
        ("", f"/{SECRET}"),
        ("/", f"/{SECRET}"),
    ],
)
@pytest.mark.parametrize("by_setup", [True, False])
async def test_prefixes(receiver: WebhookReceiver, prefix: str, path: str, by_setup: bool) -> None:
    """The prefix may be written with slashes or without, or be nothing at all."""
    app = web.Application()
    if by_setup:
        receiver.setup(app, prefix)
    else:
        app.add_routes(receiver.routes(prefix))
    async with aiohttp_server(app) as port:
        assert 200 == (await ask(port, post(path, export_body())))[0]
        assert 404 == (await ask(port, post(path.replace(SECRET, OTHER), export_body())))[0]


def mounted(app: web.Application, above: list[str]) -> web.Application:
    """Mount an application in others, at one path after the other."""
    for mount in above:
        inner, app = app, web.Application()
        app.add_subapp(mount, inner)
    return app


@pytest.mark.parametrize(
    ("prefix", "path"),
    [
        ("/avaturn", PATH),
        ("/avaturn", f"/%61vaturn/more/{SECRET}"),
        ("/hooks/{tenant}", f"/hooks/anyone/{SECRET}"),
        ("/100%25", f"/100%25/{SECRET}"),
        ("", f"/{SECRET}"),
    ],
)
@pytest.mark.parametrize("above", [[], ["/app"], ["/app", "/site"]])
async def test_apps_in_apps(receiver: WebhookReceiver, prefix: str, path: str, above: list[str]) -> None:
    """The app may be mounted in another, and the prefix may have a pattern in it."""
    app = web.Application()
    receiver.setup(app, prefix)
    app = mounted(app, above)
    async with aiohttp_server(app) as port:
        assert 200 == (await ask(port, post("".join(reversed(above)) + path, export_body())))[0]


def middleware(read: Callable[[web.Request], Awaitable[object]]) -> Any:
    """Return a middleware that reads each request before its handler does."""

    @web.middleware
    async def before(request: web.Request, handler: Handler) -> web.StreamResponse:
        await read(request)
        return await handler(request)

    return before


@pytest.mark.parametrize("request_bytes", [post(PATH, export_body()), chunked(PATH, [export_body()])])
@pytest.mark.parametrize("method", ["read", "text", "json", "post"])
async def test_a_middleware_that_reads_the_body(receiver: WebhookReceiver, method: str, request_bytes: bytes) -> None:
    """The body is taken from aiohttp's cache, however it was read."""
    app = web.Application(middlewares=[middleware(lambda request: getattr(request, method)())])
    receiver.setup(app)
    async with aiohttp_server(app) as port:
        assert 200 == (await ask(port, request_bytes))[0]
        assert 404 == (await ask(port, request_bytes.replace(SECRET.encode(), OTHER.encode())))[0]


async def test_a_middleware_that_reads_a_form(receiver: WebhookReceiver) -> None:
    """JSON that is announced as a form, and read as one, is still there."""
    app = web.Application(middlewares=[middleware(lambda request: request.post())])
    receiver.setup(app)
    async with aiohttp_server(app) as port:
        form = "Content-Type: application/x-www-form-urlencoded"
        assert 200 == (await ask(port, post(PATH, export_body(), form)))[0]
        multipart = b'--b\r\nContent-Disposition: form-data; name="event"\r\n\r\nexport.ready\r\n--b--\r\n'
        assert 400 == (await ask(port, post(PATH, multipart, "Content-Type: multipart/form-data; boundary=b")))[0]


@pytest.mark.parametrize("above", [[], ["/app"], ["/app", "/site"]], ids=len)
async def test_a_prefix_with_a_pattern(receiver: WebhookReceiver, above: list[str]) -> None:
    """The prefix is matched as aiohttp matches it."""
    app = web.Application()
    receiver.setup(app, "/hooks/{tenant}")
    app, root = mounted(app, above), "".join(reversed(above))
    async with aiohttp_server(app) as port:
        assert 200 == (await ask(port, post(f"{root}/hooks/someone/{SECRET}", export_body())))[0]
        assert 404 == (await ask(port, post(f"{root}/hooks//{SECRET}", export_body())))[0]


@pytest.mark.parametrize(
    "path", [f"/avaturn/{OTHER}", "/avaturn", "/avaturn/", f"{PATH}//", f"{PATH}/x", "/avaturnx", "/"]
)
async def test_other_paths(port: int, path: str) -> None:
    """A wrong secret looks like any other wrong path."""
    assert 404 == (await ask(port, post(path, export_body())))[0]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS"])
async def test_other_methods(port: int, method: str) -> None:
    """Only POST is allowed, and that is said."""
    code, headers = await ask(port, post(PATH, b"").replace(b"POST", method.encode(), 1))
    assert (405, "POST") == (code, headers["allow"])


async def test_a_large_body_is_refused_at_once(port: int) -> None:
    """An announced length beyond the limit is refused before the body comes, and the connection is closed."""
    async with connected(port) as (reader, writer):
        writer.write(post(PATH, b"", length=65_537))
        assert 413 == await status(reader)
        writer.write(b" " * 65_537)
        assert b"" == await rest(reader)


async def test_a_large_body_in_chunks_is_refused(port: int) -> None:
    """A body that never says its length is refused once it is too large."""
    async with connected(port) as (reader, writer):
        writer.write(b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"10001\r\n" + b" " * 0x10001)
        assert 413 == await status(reader)


async def test_a_body_in_chunks(port: int) -> None:
    """A body in several chunks is put together."""
    assert 200 == (await ask(port, chunked(PATH, [bytes([byte]) for byte in export_body()])))[0]
    head, body = chunked(PATH, [export_body()]).split(b"\r\n\r\n", 1)
    async with connected(port) as (reader, writer):
        writer.write(head + b"\r\n\r\n")
        for byte in body:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        assert 200 == await status(reader)


async def test_the_limit_of_the_application(receiver: WebhookReceiver) -> None:
    """The limit of bodies is the receiver's, whatever the application's is for its own handlers."""
    app = web.Application(client_max_size=100)
    receiver.setup(app)
    async with aiohttp_server(app) as port:
        assert 200 == (await ask(port, post(PATH, export_body())))[0]
        assert 413 == (await ask(port, post(PATH, b"", length=65_537)))[0]


async def test_a_slow_body() -> None:
    """A body that does not arrive in time is answered with 408."""
    app = web.Application()
    WebhookReceiver(SECRET, body_timeout=0.05).setup(app)
    async with aiohttp_server(app) as port, connected(port) as (reader, writer):
        writer.write(post(PATH, export_body()[:-1], length=len(export_body())))
        assert 408 == await status(reader)
        assert b"" == await rest(reader)


async def test_a_broken_body(port: int, caplog: pytest.LogCaptureFixture) -> None:
    """A body with a malformed chunk is the sender's fault, and its log shows no secret."""
    head = b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert 400 == (await ask(port, head + b"no length\r\n"))[0]
    assert SECRET not in caplog.text


# Compressed bodies.


BOMB = gzip.compress(bytes(2**26))  # 65 kB


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [("gzip", gzip.compress), ("GZIP", gzip.compress), ("deflate", zlib.compress), ("gzip, x", bytes), ("new", bytes)],
)
async def test_a_compressed_body_is_refused(port: int, encoding: str, encode: Callable[[bytes], bytes]) -> None:
    """Whatever the coding, known to aiohttp or not."""
    code, headers = await ask(port, post(PATH, encode(export_body()), f"Content-Encoding: {encoding}"))
    assert (415, "identity") == (code, headers["accept-encoding"])


@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
async def test_an_uncompressed_body_may_say_so(port: int, encoding: str) -> None:
    """Identity is no coding."""
    assert 200 == (await ask(port, post(PATH, export_body(), f"Content-Encoding: {encoding}")))[0]


@pytest.mark.parametrize("path", [PATH, f"/avaturn/{OTHER}"], ids=["authentic", "forged"])
async def test_a_bomb_is_not_decoded(receiver: WebhookReceiver, path: str) -> None:
    """Hardly any of a gzip bomb is decoded: the response is sent and the connection closed instead."""
    seen: list[web.Request] = []

    async def note(request: web.Request) -> None:
        seen.append(request)

    app = web.Application(middlewares=[middleware(note)])
    receiver.setup(app)
    async with aiohttp_server(app, lingering_time=10) as port, connected(port) as (reader, writer):
        writer.write(post(path, BOMB, "Content-Encoding: gzip"))
        assert 415 == await status(reader)
        assert b"" == await rest(reader)
        assert seen[0].content.total_bytes < 2**20


async def test_a_sender_that_goes_away(receiver: WebhookReceiver, port: int, caplog: pytest.LogCaptureFixture) -> None:
    """A connection that breaks within the body leaves nothing, and others are served."""
    async with connected(port) as (_, writer):
        writer.write(post(PATH, b"{", length=100))
        await writer.drain()
    assert 200 == (await ask(port, post(PATH, export_body())))[0]
    assert "Traceback" not in caplog.text


async def test_callbacks_are_drained_at_shutdown(receiver: WebhookReceiver) -> None:
    """The application's shutdown waits for callbacks, and further events are refused."""
    gate, ended = asyncio.Event(), []

    @receiver.on("export.ready")
    async def slow(event: Any) -> None:
        await gate.wait()
        ended.append(event)

    app = web.Application()
    receiver.setup(app)
    async with aiohttp_server(app) as port:
        assert 200 == (await ask(port, post(PATH, export_body())))[0]
        asyncio.get_running_loop().call_soon(gate.set)
    assert [export_event()] == ended
    assert 503 == (await receiver.handle(export_body(), path=PATH)).status


async def test_callbacks_of_bare_routes_run(receiver: WebhookReceiver) -> None:
    """With routes alone callbacks run on the application's loop, and are drained by hand."""
    called = []

    @receiver.on("export.ready")
    async def callback(event: Any) -> None:
        called.append(event)

    app = web.Application()
    app.add_routes(receiver.routes())
    async with aiohttp_server(app) as port:
        assert 200 == (await ask(port, post(PATH, export_body())))[0]
    await receiver.aclose()
    assert [export_event()] == called

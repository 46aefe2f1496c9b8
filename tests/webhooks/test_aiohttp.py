"""The receiver mounted in a real aiohttp application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
from aiohttp import web

from avaturn_async import WebhookReceiver
from avaturn_async.webhooks import aiohttp as shell, key_of

from .raw import ask, connected, post, rest, status
from .samples import OTHER, SECRET, export_body, export_event

PATH = f"/avaturn/{SECRET}"


@asynccontextmanager
async def running(app: web.Application) -> AsyncIterator[int]:
    """Serve an application at a free port."""
    runner = web.AppRunner(app, shutdown_timeout=5, lingering_time=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@pytest.fixture
def receiver() -> WebhookReceiver:
    """Make a receiver."""
    return WebhookReceiver(SECRET)


@pytest.fixture
async def port(receiver: WebhookReceiver) -> AsyncIterator[int]:
    """Serve an application in which the receiver is set up."""
    app = web.Application()
    receiver.setup(app)
    async with running(app) as port:
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
    async with running(app) as port:
        assert 200 == (await ask(port, post(path, export_body())))[0]
        assert 404 == (await ask(port, post(path.replace(SECRET, OTHER), export_body())))[0]


def mounted(app: web.Application, above: list[str]) -> web.Application:
    """Mount an application in others, at one path after the other."""
    for mount in above:
        inner, app = app, web.Application()
        app.add_subapp(mount, inner)
    return app


def noting(seen: list[web.UrlMappingMatchInfo]) -> Any:
    """Return a middleware that notes what was matched."""

    @web.middleware
    async def note(request: web.Request, handler: Any) -> Any:
        seen.append(request.match_info)
        return await handler(request)

    return note


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
    async with running(app) as port:
        assert 200 == (await ask(port, post("".join(reversed(above)) + path, export_body())))[0]


async def test_a_prefix_with_a_pattern(receiver: WebhookReceiver) -> None:
    """It is matched as aiohttp matches it, and what it finds is there for middlewares, but for the secret."""
    seen: list[web.UrlMappingMatchInfo] = []
    app = web.Application(middlewares=[noting(seen)])
    receiver.setup(app, "/hooks/{tenant}")
    async with running(app) as port:
        assert 200 == (await ask(port, post(f"/hooks/someone/{SECRET}", export_body())))[0]
        assert 404 == (await ask(port, post(f"/hooks//{SECRET}", export_body())))[0]
    assert [{"tenant": "someone"}, {}] == [dict(match) for match in seen]


async def test_another_route_at_the_same_path(receiver: WebhookReceiver) -> None:
    """One that somebody adds to the resource is found as well, as those do who add OPTIONS for CORS."""

    async def hello(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = web.Application()
    below, _ = receiver.routes()
    (route,) = attrs.evolve(below, method="POST").register(app.router)
    assert isinstance(route.resource, web.Resource)
    route.resource.add_route("GET", hello)
    async with running(app) as port:
        assert 200 == (await ask(port, post(PATH, export_body())))[0]
        async with connected(port) as (reader, writer):
            writer.write(f"GET {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            assert (await rest(reader)).endswith(b"hello")


def test_a_route_can_be_named(receiver: WebhookReceiver) -> None:
    """As any other of aiohttp's route definitions, for urls to be made of the name."""
    app = web.Application()
    below, _ = receiver.routes()
    app.add_routes([attrs.evolve(below, kwargs={"name": "webhooks"})])
    assert "/avaturn/x" == str(app.router["webhooks"].url_for(tail="x"))


@pytest.mark.parametrize("above", [[], ["/app"], ["/app", "/site"]])
async def test_the_router_shows_no_secret(receiver: WebhookReceiver, above: list[str]) -> None:
    """What middlewares log of a match is the route alone."""
    seen: list[web.UrlMappingMatchInfo] = []
    app = web.Application(middlewares=[noting(seen)])
    receiver.setup(app)
    app = mounted(app, above)
    async with running(app) as port:
        assert 200 == (await ask(port, post("".join(reversed(above)) + PATH, export_body())))[0]
    (match,) = seen
    assert "avaturn/{tail}" in repr(match)
    assert SECRET not in repr(match)


@pytest.mark.parametrize("path", [f"/avaturn/{OTHER}", "/avaturn", "/avaturn/", f"{PATH}/", "/avaturnx", "/"])
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
    chunks = b"".join(b"1\r\n" + bytes([byte]) + b"\r\n" for byte in export_body())
    head = b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert 200 == (await ask(port, head + chunks + b"0\r\n\r\n"))[0]


async def test_a_slow_body(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that doesn't come in time is answered with 408."""
    monkeypatch.setattr(shell, "BODY_TIMEOUT", 0.05)
    assert 408 == (await ask(port, post(PATH, export_body()[:-1], length=len(export_body()))))[0]


async def test_a_broken_body(port: int, caplog: pytest.LogCaptureFixture) -> None:
    """A body that can't be decoded is the sender's fault, and its log shows no secret."""
    broken = post(PATH, b"no gzip at all", "Content-Encoding: gzip")
    assert 400 == (await ask(port, broken))[0]
    assert SECRET not in caplog.text


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
    async with running(app) as port:
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
    async with running(app) as port:
        assert 200 == (await ask(port, post(PATH, export_body())))[0]
    await receiver.aclose()
    assert [export_event()] == called

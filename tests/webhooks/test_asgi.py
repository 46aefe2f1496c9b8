"""The receiver as an ASGI application: in Starlette and FastAPI under uvicorn, and called by hand."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from avaturn_async import WebhookReceiver
from avaturn_async.webhooks import key_of
from avaturn_async.webhooks.asgi import AsgiApp

from .raw import ask, post
from .samples import OTHER, SECRET, export_body, export_event

PATH = f"/avaturn/{SECRET}"
KEY = key_of(export_event())


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[int]:
    """Serve an ASGI application by uvicorn, until it has shut down."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=5))
    with listening, server.capture_signals():
        task = asyncio.create_task(server._serve([listening]))
        try:
            while not server.started and not task.done():
                await asyncio.sleep(0)
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            await task


def starlette_app(receiver: WebhookReceiver) -> Any:
    """Mount the receiver in Starlette, entered in its lifespan."""

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        async with receiver:
            yield

    return Starlette(routes=[Mount("/avaturn", receiver.asgi)], lifespan=lifespan)


def fastapi_app(receiver: WebhookReceiver) -> Any:
    """Mount the receiver in FastAPI, entered in its lifespan."""

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        async with receiver:
            yield

    app = FastAPI(lifespan=lifespan)
    app.mount("/avaturn", receiver.asgi)
    return app


@pytest.mark.parametrize("mounted", [starlette_app, fastapi_app, lambda receiver: receiver.asgi])
async def test_under_uvicorn(mounted: Any) -> None:
    """Events come through to who waits, refusals have their status, and the end waits for callbacks."""
    receiver, gate, ended = WebhookReceiver(SECRET), asyncio.Event(), []

    @receiver.on("export.ready")
    async def slow(event: Any) -> None:
        await gate.wait()
        ended.append(event)

    async with served(mounted(receiver)) as port:
        waiting = receiver.mailbox.wait(KEY, "")
        assert 200 == (await ask(port, post(PATH, export_body())))[0]
        assert export_event() == (await waiting).event
        assert 404 == (await ask(port, post(f"/avaturn/{OTHER}", export_body())))[0]
        assert 413 == (await ask(port, post(PATH, b" " * 65_537)))[0]
        code, headers = await ask(port, post(PATH, b"").replace(b"POST", b"PUT"))
        assert (405, "POST") == (code, headers["allow"])
        gate.set()
    assert [export_event()] == ended
    assert 503 == (await receiver.handle(export_body(), path=PATH)).status


# By hand.


def scope(kind: str = "http", **changes: Any) -> dict[str, Any]:
    """Make the scope of a POST."""
    return {"type": kind, "method": "POST", "path": PATH, "headers": [], "http_version": "1.1"} | changes


async def played(app: AsgiApp, of: dict[str, Any], messages: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Call the application with these messages, and nothing after them; return what it sends."""
    coming, sent = iter(messages), []

    async def receive() -> Any:
        for message in coming:
            return message
        return await asyncio.get_running_loop().create_future()

    async def send(message: Any) -> None:
        sent.append(message)

    await app(of, receive, send)
    return sent


def request(body: bytes, *, more: bool = False) -> dict[str, Any]:
    """Make a message with a part of a body."""
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_in_parts() -> None:
    """A body in several messages is put together, and a message may be without one."""
    parts = [request(export_body()[:9], more=True), {"type": "http.request", "more_body": True}]
    sent = await played(WebhookReceiver(SECRET).asgi, scope(), [*parts, request(export_body()[9:])])
    assert [200, b""] == [sent[0]["status"], sent[1]["body"]]


async def test_a_sender_that_goes_away() -> None:
    """A client that is gone gets no answer, and its half event is dropped."""
    receiver = WebhookReceiver(SECRET)
    parts = [request(export_body(), more=True), {"type": "http.disconnect"}]
    assert [] == await played(receiver.asgi, scope(), parts)
    assert "" == await receiver.mailbox.position(KEY)


@pytest.mark.parametrize(("version", "expected"), [("1.1", True), ("2", False)])
async def test_a_slow_body(version: str, expected: bool) -> None:
    """A body that doesn't come in time is answered with 408; HTTP/1 is told to close."""
    app = AsgiApp(WebhookReceiver(SECRET), body_timeout=0)
    sent = await played(app, scope(http_version=version), [request(b"{", more=True)])
    assert 408 == sent[0]["status"]
    assert expected == ((b"connection", b"close") in sent[0]["headers"])


async def test_headers_reach_the_verifier() -> None:
    """Header names come in any case, values in any bytes."""
    seen: list[Any] = []

    class Noting:
        def verify(self, body: bytes, *, path: str, headers: Any) -> bool:
            seen.append((path, dict(headers)))
            return True

    headers = [(b"X-Signature", b"\xff")]
    await played(WebhookReceiver(Noting()).asgi, scope(headers=headers), [request(export_body())])
    assert [(PATH, {"x-signature": "\xff"})] == seen


async def test_a_websocket_is_closed() -> None:
    """A websocket is no webhook."""
    sent = await played(WebhookReceiver(SECRET).asgi, scope("websocket"), [{"type": "websocket.connect"}])
    assert ["websocket.close"] == [message["type"] for message in sent]


async def test_another_protocol_is_left_alone() -> None:
    """What a scope of a kind to come is about is not known."""
    assert [] == await played(WebhookReceiver(SECRET).asgi, scope("new"), [])


async def test_the_lifespan() -> None:
    """Alone, the application opens and closes the receiver with the server."""
    receiver = WebhookReceiver(SECRET)
    await receiver.aclose()
    events = [{"type": f"lifespan.{each}"} for each in ("startup", "new", "shutdown")]
    sent = await played(receiver.asgi, {"type": "lifespan"}, events)
    assert ["lifespan.startup.complete", "lifespan.shutdown.complete"] == [message["type"] for message in sent]

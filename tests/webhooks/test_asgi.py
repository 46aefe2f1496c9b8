"""The receiver as an ASGI application: in frameworks, under servers, and called by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.applications import Starlette
from starlette.routing import Mount

from avaturn_async import WebhookReceiver
from avaturn_async.webhooks import key_of

from .kit import PATH, ask, chunked, granian_server, hypercorn_server, post, uvicorn_server
from .samples import OTHER, SECRET, export_body, export_event

KEY = key_of(export_event())


def entering(receiver: WebhookReceiver) -> Callable[[Any], Any]:
    """Return a lifespan that enters the receiver."""

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        async with receiver:
            yield

    return lifespan


def in_starlette(receiver: WebhookReceiver) -> Any:
    """Mount the receiver in Starlette."""
    return Starlette(routes=[Mount("/avaturn", receiver.asgi)], lifespan=entering(receiver))


def in_fastapi(receiver: WebhookReceiver) -> Any:
    """Mount the receiver in FastAPI, behind a middleware that reads every body."""
    app = FastAPI(lifespan=entering(receiver))

    @app.middleware("http")
    async def read(request: Request, call_next: Any) -> Any:
        await request.body()
        return await call_next(request)

    app.mount("/avaturn", receiver.asgi)
    return app


def in_litestar(receiver: WebhookReceiver) -> Any:
    """Mount the receiver in Litestar, which appends a slash to the path of a mounted application."""
    import litestar  # takes 0.2 s, which a process without these tests need not spend
    from litestar.handlers import asgi as litestar_asgi

    mounted = litestar_asgi("/avaturn", is_mount=True, copy_scope=True)(receiver.asgi)
    return litestar.Litestar([mounted], lifespan=[entering(receiver)], openapi_config=None, logging_config=None)


def alone(receiver: WebhookReceiver) -> Any:
    """Take the receiver as the whole application."""
    return receiver.asgi


@pytest.mark.parametrize("app", [in_starlette, in_fastapi, in_litestar, alone])
@pytest.mark.parametrize("server", [uvicorn_server, hypercorn_server, granian_server])
async def test_frameworks_and_servers(app: Any, server: Any) -> None:
    """Events reach their awaiters, refusals have their status, and the shutdown waits for callbacks."""
    receiver, gate, ended = WebhookReceiver(SECRET), asyncio.Event(), []

    @receiver.on("export.ready")
    async def slow(event: Any) -> None:
        await gate.wait()
        ended.append(event)

    async with server(app(receiver)) as port:
        waiting = receiver.mailbox.wait(KEY, "")
        assert 200 == (await ask(port, post(PATH, export_body())))[0]
        assert export_event() == (await waiting).event
        assert 404 == (await ask(port, post(f"/avaturn/{OTHER}", export_body())))[0]
        assert 413 == (await ask(port, post(PATH, b" " * 65_537)))[0]
        assert 413 == (await ask(port, chunked(PATH, [b" " * 33_000] * 2)))[0]
        assert 415 == (await ask(port, post(PATH, export_body(), "Content-Encoding: gzip")))[0]
        code, headers = await ask(port, post(PATH, b"").replace(b"POST", b"PUT"))
        assert (405, "POST") == (code, headers["allow"])
        gate.set()
    assert [export_event()] == ended
    assert 503 == (await receiver.handle(export_body(), path=PATH)).status


# By hand.


def scope(kind: str = "http", **changes: Any) -> dict[str, Any]:
    """Make the scope of a POST."""
    return {"type": kind, "method": "POST", "path": PATH, "headers": [], "http_version": "1.1"} | changes


async def played(app: Any, of: dict[str, Any], messages: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
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


def part(body: bytes, *, more: bool = False) -> dict[str, Any]:
    """Make a message with a part of a body."""
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_in_parts() -> None:
    """A body in several messages is put together, and a message may be without one."""
    parts = [part(export_body()[:9], more=True), {"type": "http.request", "more_body": True}]
    sent = await played(WebhookReceiver(SECRET).asgi, scope(), [*parts, part(export_body()[9:])])
    assert [200, b""] == [sent[0]["status"], sent[1]["body"]]


async def test_a_sender_that_goes_away() -> None:
    """A client that is gone gets no response, and its half event is dropped."""
    receiver = WebhookReceiver(SECRET)
    parts = [part(export_body(), more=True), {"type": "http.disconnect"}]
    assert [] == await played(receiver.asgi, scope(), parts)
    assert "" == await receiver.mailbox.position(KEY)


async def test_a_response_that_nobody_reads() -> None:
    """A server that reports by an OSError that the client is gone gets no error back, and the event is stored."""
    receiver = WebhookReceiver(SECRET)

    async def receive() -> Any:
        return part(export_body())

    async def send(message: Any) -> None:
        raise OSError

    await receiver.asgi(scope(), receive, send)
    assert "" != await receiver.mailbox.position(KEY)


@pytest.mark.parametrize(("version", "expected"), [("1.1", True), ("2", False)])
async def test_a_slow_body(version: str, expected: bool) -> None:
    """A body that does not arrive in time is answered with 408; HTTP/1 connections are closed."""
    app = WebhookReceiver(SECRET, body_timeout=0.01).asgi
    sent = await played(app, scope(http_version=version), [part(b"{", more=True)])
    assert 408 == sent[0]["status"]
    assert expected == ((b"connection", b"close") in sent[0]["headers"])


@pytest.mark.parametrize("length", [b"65537", b"9" * 5000])
async def test_a_large_body_is_refused_by_its_length(length: bytes) -> None:
    """A body that is announced as too large is not read."""
    sent = await played(WebhookReceiver(SECRET).asgi, scope(headers=[(b"content-length", length)]), [])
    assert 413 == sent[0]["status"]


async def test_a_length_that_is_no_number() -> None:
    """Most servers refuse such a request; with the others, the body counts."""
    headers = [(b"content-length", b"\xb2")]
    sent = await played(WebhookReceiver(SECRET).asgi, scope(headers=headers), [part(export_body())])
    assert 200 == sent[0]["status"]


async def test_headers_reach_the_verifier() -> None:
    """Names of headers come in lower case, values with any bytes."""
    seen: list[Any] = []

    class Noting:
        def verify(self, body: bytes, *, path: str, headers: Any) -> bool:
            seen.append((path, dict(headers)))
            return True

    headers = [(b"X-Signature", b"\xff")]
    await played(WebhookReceiver(Noting()).asgi, scope(headers=headers), [part(export_body())])
    assert [(PATH, {"x-signature": "\xff"})] == seen


async def test_a_websocket_is_closed() -> None:
    """A websocket is no webhook."""
    sent = await played(WebhookReceiver(SECRET).asgi, scope("websocket"), [{"type": "websocket.connect"}])
    assert ["websocket.close"] == [message["type"] for message in sent]


async def test_another_protocol_is_left_alone() -> None:
    """A scope of an unknown type is ignored."""
    assert [] == await played(WebhookReceiver(SECRET).asgi, scope("new"), [])


async def test_the_lifespan() -> None:
    """As the whole application, it opens and closes the receiver with the server."""
    receiver = WebhookReceiver(SECRET)
    await receiver.aclose()
    events = [{"type": f"lifespan.{each}"} for each in ("startup", "new", "shutdown")]
    sent = await played(receiver.asgi, {"type": "lifespan"}, events)
    assert ["lifespan.startup.complete", "lifespan.shutdown.complete"] == [message["type"] for message in sent]

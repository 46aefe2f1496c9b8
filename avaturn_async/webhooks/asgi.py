"""The receiver as an ASGI application (ASGI 3)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias

from .headers import LazyHeaders
from .receiver import ACCEPTED, NO_HEADERS, NOT_ALLOWED, TOO_LARGE, TOO_SLOW, Reply
from .within import within

if TYPE_CHECKING:
    from .receiver import WebhookReceiver

__all__ = ["AsgiApp"]

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

#: Seconds in which a body must be there.
BODY_TIMEOUT = 10.0


class AsgiApp:
    """Mount it under a prefix; the path's last segment is what follows the prefix.

    A mounted application gets no lifespan events: enter the receiver in your own lifespan to have its callbacks
    drained.
    """

    __slots__ = ("_body_timeout", "_receiver")

    def __init__(self, receiver: WebhookReceiver, *, body_timeout: float = BODY_TIMEOUT) -> None:
        self._receiver = receiver
        self._body_timeout = body_timeout

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one scope."""
        if scope["type"] == "http":
            self._receiver.bind_if_open()
            reply = await self._answer(scope, receive)
            if reply is not None:
                await _send(reply, send, scope)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})

    async def _answer(self, scope: Message, receive: Receive) -> Reply | None:
        if scope["method"] != "POST":
            return NOT_ALLOWED
        try:
            body = await within(self._body_timeout, self._read(receive))
        except TimeoutError:
            return TOO_SLOW
        if not isinstance(body, bytes):
            return body
        headers = LazyHeaders(lambda: _decoded(scope["headers"])) if self._receiver.reads_headers else NO_HEADERS
        return await self._receiver.handle(body, path=scope["path"], headers=headers)

    async def _read(self, receive: Receive) -> bytes | Reply | None:
        """Return the body, the reply that refuses it, or None where the client is gone."""
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            parts.append(part)
            size += len(part)
            if size > self._receiver.max_body:
                return TOO_LARGE
            if not message.get("more_body", False):
                return b"".join(parts)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._receiver.bind()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self._receiver.aclose()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _decoded(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[str, str]]:
    for name, value in headers:
        yield name.decode("latin-1"), value.decode("latin-1")


async def _send(reply: Reply, send: Send, scope: Message) -> None:
    headers = [(b"content-length", b"0")] if reply is ACCEPTED else _headers(reply, scope.get("http_version", "1.1"))
    try:
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})
    except OSError:  # the client is gone (ASGI HTTP 2.4); the event, if there was one, is kept
        return


def _headers(reply: Reply, version: str) -> list[tuple[bytes, bytes]]:
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(reply.body))]
    headers += [(name.lower().encode(), value.encode()) for name, value in reply.headers.items()]
    if (reply is TOO_SLOW or reply is TOO_LARGE) and version.startswith("1"):  # HTTP/2 has no such header
        headers.append((b"connection", b"close"))
    return headers

"""The receiver as an ASGI application (ASGI 3)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias

from ..redact import Secret
from .replies import COMPRESSED, NO_HEADERS, NOT_ALLOWED, TOO_LARGE, TOO_SLOW, Reply, is_encoded

if TYPE_CHECKING:
    from .replies import Receiver

__all__ = ["AsgiApp"]

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

_BODY_UNREAD = {reply.status for reply in (TOO_SLOW, TOO_LARGE, COMPRESSED)}


class AsgiApp:
    """Answers webhooks under any mount; with a path secret, the last segment of the path counts."""

    __slots__ = ("_receiver",)

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http":
            self._receiver.bind(reopen=False)
            reply = await self._answer(scope, receive)
            if reply is not None:
                await _send(reply, send, scope.get("http_version", "1.1"))
        elif scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})

    async def _answer(self, scope: Message, receive: Receive) -> Reply | None:
        """Return the reply, or None if the client is gone."""
        body = await self._body(scope, receive)
        if body is None or isinstance(body, Reply):
            return None if body is None else self._receiver.refuse(body)
        if self._receiver.reads_headers:
            headers: Mapping[str, str] = _decoded(scope["headers"])
        else:
            trace = dict(scope["headers"]).get(b"traceparent")
            headers = {"traceparent": trace.decode("latin-1")} if trace else NO_HEADERS
        return await self._receiver.handle(body, path=Secret(scope["path"]), headers=headers)

    async def _body(self, scope: Message, receive: Receive) -> bytes | Reply | None:
        """Return the body, the reply that refuses the request, or None if the client is gone."""
        if scope["method"] != "POST":
            return NOT_ALLOWED
        fields = dict(scope["headers"])  # their names are in lower case (ASGI HTTP)
        if is_encoded(fields.get(b"content-encoding", b"").decode("latin-1")):
            return COMPRESSED
        length = fields.get(b"content-length", b"")
        if length.isdigit() and int(length[:18]) > self._receiver.max_body:
            return TOO_LARGE
        try:
            async with asyncio.timeout(self._receiver.body_timeout):
                return await self._read(receive)
        except TimeoutError:
            return TOO_SLOW

    async def _read(self, receive: Receive) -> bytes | Reply | None:
        """Return the body, the reply that refuses it, or None if the client is gone."""
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self._receiver.max_body:
                return TOO_LARGE
            if not message.get("more_body", False):
                return bytes(body)

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._receiver.bind()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self._receiver.aclose()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _decoded(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}


async def _send(reply: Reply, send: Send, http_version: str) -> None:
    headers = [(name.lower().encode(), value.encode()) for name, value in reply.headers.items()]
    headers.append((b"content-length", b"%d" % len(reply.body)))
    if reply.status in _BODY_UNREAD and http_version.startswith("1"):  # HTTP/2 has no such header
        headers.append((b"connection", b"close"))
    try:
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})
    except OSError:  # the client is gone (ASGI HTTP 2.4); the event, if there was one, is stored
        return

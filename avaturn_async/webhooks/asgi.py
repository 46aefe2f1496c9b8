"""The receiver as an ASGI application (ASGI 3)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias

from ..redact import Secret
from .replies import COMPRESSED, TOO_LARGE, TOO_SLOW, Reply, refused_unread

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
        if scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        if scope["type"] != "http":
            return
        receiver = self._receiver
        receiver.bind(reopen=False)
        fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        encoding, length = fields.get("content-encoding"), fields.get("content-length")
        body = refused_unread(scope["method"], encoding, length, receiver.max_body) or await self._read(receive)
        if body is None:
            return
        if isinstance(body, Reply):
            reply = receiver.refuse(body)
        else:
            reply = await receiver.handle(body, path=Secret(scope["path"]), headers=fields)
        headers = [(name.lower().encode(), value.encode()) for name, value in reply.headers.items()]
        headers.append((b"content-length", b"%d" % len(reply.body)))
        if reply.status in _BODY_UNREAD and scope.get("http_version", "1.1").startswith("1"):  # not in HTTP/2
            headers.append((b"connection", b"close"))
        try:
            await send({"type": "http.response.start", "status": reply.status, "headers": headers})
            await send({"type": "http.response.body", "body": reply.body})
        except OSError:  # the client is gone (ASGI HTTP 2.4); the event, if there was one, is stored
            return

    async def _read(self, receive: Receive) -> bytes | Reply | None:
        """Return the body, the reply that refuses it, or None if the client is gone."""
        body, more = b"", True
        try:
            async with asyncio.timeout(self._receiver.body_timeout):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > self._receiver.max_body:
                        return TOO_LARGE
        except TimeoutError:
            return TOO_SLOW
        return body

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

"""The receiver in an aiohttp application."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from aiohttp import hdrs, web

from ..redact import Secret
from .replies import COMPRESSED, TOO_LARGE, TOO_SLOW, UNREADABLE, Reply, refused_unread

if TYPE_CHECKING:
    from .replies import Receiver

__all__ = ["answer", "routes", "setup"]

logger: logging.Logger = logging.getLogger(__name__)


def routes(receiver: Receiver, prefix: str) -> list[web.RouteDef]:
    """Return the routes of the webhook's url."""
    root = "/" + prefix.strip("/") if prefix.strip("/") else ""

    async def handler(request: web.Request) -> web.Response:
        receiver.bind(reopen=False)
        response = await answer(receiver, request)
        if response.status == COMPRESSED.status and not request.content.is_eof():
            # aiohttp would go on to decode what it reads before it closes the connection.
            await response.prepare(request)
            await response.write_eof()
            request.protocol.force_close()
        return response

    return [web.route("*", path, handler) for path in (f"{root}/{{tail:.*}}", root) if path]


def setup(receiver: Receiver, app: web.Application, prefix: str) -> None:
    """Add the routes, and drain callbacks when the app shuts down."""

    async def start(_: web.Application) -> None:
        receiver.bind()

    async def stop(_: web.Application) -> None:
        await receiver.aclose()

    app.add_routes(routes(receiver, prefix))
    app.on_startup.append(start)
    app.on_shutdown.append(stop)


async def answer(receiver: Receiver, request: web.BaseRequest) -> web.Response:
    """Read a request, bounded in size and time, and answer it; the connection closes unless its body was read."""
    encoding, length = request.headers.get(hdrs.CONTENT_ENCODING), request.headers.get(hdrs.CONTENT_LENGTH)
    refused = refused_unread(request.method, encoding, length, receiver.max_body)
    body = refused or await _read(receiver, request)
    if isinstance(body, Reply):
        reply = receiver.refuse(body)
    else:
        reply = await receiver.handle(body, path=Secret(request.path), headers=request.headers)
    response = web.Response(status=reply.status, body=reply.body or None, headers=reply.headers or None)
    if not request.content.is_eof():
        response.force_close()
    return response


async def _read(receiver: Receiver, request: web.BaseRequest) -> bytes | Reply:
    """Return the body, or the reply that refuses it."""
    content = request.content
    try:
        if content.at_eof():  # a middleware read it, and aiohttp keeps it
            return await request.read()
        if content.is_eof():  # it arrived with the headers
            return content.read_nowait()
        body = bytearray()
        async with asyncio.timeout(receiver.body_timeout):
            async for chunk in content.iter_any():
                body += chunk
                if len(body) > receiver.max_body:
                    return TOO_LARGE
        return bytes(body)
    except TimeoutError:
        return TOO_SLOW
    except Exception as error:  # noqa: BLE001 - cut off or badly encoded, the sender's fault
        logger.info("the body of a webhook can't be read: %s", type(error).__name__)
        return UNREADABLE

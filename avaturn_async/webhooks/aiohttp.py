"""The receiver in an aiohttp application."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aiohttp import web

from .accepted import AcceptedInApp
from .receiver import ACCEPTED, NOT_ALLOWED, TOO_LARGE, TOO_SLOW, UNREADABLE, Reply
from .routing import TailRoute
from .within import within

if TYPE_CHECKING:
    from .receiver import WebhookReceiver

__all__ = ["answer", "path_of", "routes", "setup"]

logger = logging.getLogger(__name__)

#: Seconds in which a body must be there.
BODY_TIMEOUT = 10.0


def routes(receiver: WebhookReceiver, prefix: str) -> list[web.RouteDef]:
    """Return the routes of the webhook's url."""
    root = "/" + prefix.strip("/") if prefix.strip("/") else ""

    async def handler(request: web.Request) -> web.StreamResponse:
        receiver.bind_if_open()
        return await answer(receiver, request, path_of(request), BODY_TIMEOUT)

    below: web.RouteDef = TailRoute("*", root + "/{tail:.*}", handler, {})
    return [below, web.route("*", root, handler)] if root else [below]


def setup(receiver: WebhookReceiver, app: web.Application, prefix: str) -> None:
    """Add the routes, and drain at the app's shutdown."""

    async def started(_: web.Application) -> None:
        receiver.bind()

    async def stopped(_: web.Application) -> None:
        await receiver.aclose()

    app.add_routes(routes(receiver, prefix))
    app.on_startup.append(started)
    app.on_shutdown.append(stopped)


async def answer(
    receiver: WebhookReceiver, request: web.BaseRequest, path: str, seconds: float, accepted: web.Response | None = None
) -> web.Response:
    """Read a request, bounded in size and time, and answer it; `accepted` is a 200 that is ready made."""
    if request.method != "POST":
        return _response(NOT_ALLOWED)
    content = request.content
    if content.is_eof() and content.exception() is None:  # as a rule it came whole, with the headers
        body: bytes | Reply = content.read_nowait()
    else:
        body = await read(request, receiver.max_body, seconds)
    if isinstance(body, Reply):
        return _last(body)
    reply = await receiver.handle(body, path=path, headers=request.headers)
    if reply is TOO_LARGE:
        return _last(reply)
    return accepted if reply is ACCEPTED and accepted is not None else _response(reply)


def path_of(request: web.BaseRequest) -> str:
    """Return the path; what needs no decoding is taken as it came, for a tenth of the time."""
    raw = request.raw_path
    plain = raw.startswith("/") and raw.isascii() and not ("%" in raw or "?" in raw or "#" in raw)
    return raw if plain else request.path


async def read(request: web.BaseRequest, most: int, seconds: float) -> bytes | Reply:
    """Return the body, or the reply that refuses it."""
    if request.content_length is not None and request.content_length > most:
        return TOO_LARGE
    try:
        return await within(seconds, _read(request, most))
    except TimeoutError:
        return TOO_SLOW
    except Exception as error:  # noqa: BLE001 - broken off or badly encoded: whichever, it is the sender's doing
        logger.info("the body of a webhook can't be read: %s", type(error).__name__)
        return UNREADABLE


async def _read(request: web.BaseRequest, most: int) -> bytes | Reply:
    parts, size = [], 0
    while part := await request.content.readany():
        parts.append(part)
        size += len(part)
        if size > most:
            return TOO_LARGE
    return b"".join(parts)


def _last(reply: Reply) -> web.Response:
    response = _response(reply)
    response.force_close()
    return response


def _response(reply: Reply) -> web.Response:
    if reply is ACCEPTED:
        return AcceptedInApp()
    return web.Response(status=reply.status, body=reply.body, headers=reply.headers, content_type="text/plain")

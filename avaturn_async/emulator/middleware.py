"""Middlewares: the request log, errors as JSON, the check of the Host header, faults, and the token."""

import asyncio
import contextlib
import hmac
import ipaddress
import math
import re
import socket
import struct
import time
from collections import Counter, deque
from email.utils import formatdate
from typing import Any
from urllib.parse import urlsplit

import attrs
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from .settings import Settings
from .validation import ApiError

__all__ = ["LOG", "Middleware", "RequestRecord"]

#: Requests that are kept in the log.
LOG = 100_000
API = "/api/"
HOST = re.compile(r"\[?([^][@/\\]*?)\]?\.?(?::\d*)?")
NO_LINGER = struct.pack("ii", 1, 0)
GATEWAY = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center></body></html>\n"


@attrs.frozen
class RequestRecord:
    """One request; `status` is None if the connection broke before the response."""

    method: str
    path: str
    query: str
    operation: str | None
    """The contract's operationId, or upload_photos, download_file, open_session, finish_session, document, or None."""
    status: int | None
    received: int
    """Bytes of the body that arrived."""
    at: float = attrs.field(factory=time.time)
    """When it ended, in seconds since the epoch."""


class Middleware:
    """The middlewares of an emulator that expects `token`, records requests and counts them by operation."""

    def __init__(self, settings: Settings, token: str, requests: deque[RequestRecord], counts: Counter[str]) -> None:
        self._settings = settings
        self._requests = requests
        self._counts = counts
        self._expected = f"Bearer {token}".encode()
        self._everywhere = settings.host in ("", "0.0.0.0", "::")  # noqa: S104
        public = settings.public_url and urlsplit(settings.public_url).hostname
        self._names = {"localhost", settings.host.lower(), public}

    def chain(self) -> list[Any]:
        """Return the middlewares, the outermost first."""
        return [self._record, self._answer_errors, self._check_host, self._inject_faults, self._check_token]

    @web.middleware
    async def _record(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count a request when it arrives, and record it when it ends."""
        operation = request.match_info.route.name
        if operation is not None:
            self._counts[operation] += 1
        status = None
        try:
            response = await handler(request)
            if request.transport is not None and not request.transport.is_closing():
                status = response.status
            return response
        finally:
            url, received = request.rel_url, request.content.total_bytes
            self._requests.append(
                RequestRecord(request.method, url.path, url.query_string, operation, status, received)
            )

    @web.middleware
    async def _answer_errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer `ApiError` and the errors of aiohttp in the shape of FastAPI."""
        try:
            return await handler(request)
        except ApiError as error:
            return web.json_response({"detail": error.detail}, status=error.status, headers=error.headers)
        except web.HTTPException as error:
            headers = {hdrs.ALLOW: error.headers[hdrs.ALLOW]} if hdrs.ALLOW in error.headers else None
            return web.json_response({"detail": error.reason}, status=error.status, headers=headers)

    @web.middleware
    async def _check_host(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse foreign names, so that web pages can't reach the emulator by DNS rebinding."""
        match = HOST.fullmatch(request.headers.get(hdrs.HOST, "").lower())
        name = match[1] if match else ""
        known = name in self._names or name.endswith(".localhost")
        with contextlib.suppress(ValueError):  # from a name that is no address
            local = request.transport and request.transport.get_extra_info("sockname")
            known |= ipaddress.ip_address(name).is_loopback or self._everywhere or bool(local and local[0] == name)
        if not known:
            raise ApiError(421, "The Host header is neither a loopback name nor the emulator's host or public_url")
        return await handler(request)

    @web.middleware
    async def _inject_faults(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Delay, refuse, reset or fail requests as the faults demand."""
        if request.match_info.route.name == "document":
            return await handler(request)
        settings, faults = self._settings, self._settings.faults
        if delay := settings.up_to("slow", faults.slow):
            await asyncio.sleep(delay)
        if settings.happens("rate_limited") and request.path.startswith(API):
            after = str(faults.retry_after)
            if faults.retry_after_date:
                after = formatdate(math.ceil(time.time()) + faults.retry_after, usegmt=True)
            raise ApiError(429, "Too Many Requests", {hdrs.RETRY_AFTER: after})
        if settings.happens("resets"):
            if settings.stream("resets").random() < 0.5:
                await _carry_out(request, handler)
            if request.transport is not None:
                # Without lingering, the client receives a RST instead of an end of stream.
                request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
                request.transport.abort()
            return web.Response(status=500)  # never sent
        if settings.happens("server_errors"):
            return await self._fail(request, handler)
        return await handler(request)

    async def _fail(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        stream = self._settings.stream("server_errors")
        status, late = stream.choice((500, 502, 503, 504)), stream.random() < 0.5
        if late and status != 503:
            await _carry_out(request, handler)
        if status in (502, 504):  # gateways answer in HTML
            title = f"{status} {'Bad Gateway' if status == 502 else 'Gateway Time-out'}"
            return web.Response(status=status, text=GATEWAY.format(title), content_type="text/html")
        raise ApiError(status, "Internal Server Error" if status == 500 else "Service Unavailable")

    @web.middleware
    async def _check_token(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer 401 to API calls without the token."""
        if request.path.startswith(API) and request.match_info.http_exception is None:
            given = request.headers.get(hdrs.AUTHORIZATION, "").encode(errors="surrogateescape")
            if not hmac.compare_digest(given, self._expected):
                raise ApiError(401, "Invalid or missing token", {hdrs.WWW_AUTHENTICATE: "Bearer"})
        return await handler(request)


async def _carry_out(request: web.Request, handler: Handler) -> None:
    """Handle a request whose response will be lost. Downloads are skipped, as they have no other effect."""
    if not request.path.startswith("/files/"):
        with contextlib.suppress(ApiError, web.HTTPException):
            await handler(request)

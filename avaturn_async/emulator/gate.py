"""What stands before the handlers: errors as JSON, faults, the token."""

import asyncio
import contextlib
import hmac
import math
import time
from email.utils import formatdate

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from .controls import Controls
from .faults import Dice
from .pages import DOCUMENT
from .problems import ProblemError
from .resets import reset

__all__ = ["Gate", "problems"]

API = "/api/"

GATEWAY = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center></body></html>\n"


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer problems, and aiohttp's own errors, the way FastAPI does."""
    try:
        return await handler(request)
    except ProblemError as problem:
        return web.json_response({"detail": problem.detail}, status=problem.status, headers=problem.headers)
    except web.HTTPException as error:
        headers = {hdrs.ALLOW: error.headers[hdrs.ALLOW]} if hdrs.ALLOW in error.headers else None
        return web.json_response({"detail": error.reason}, status=error.status, headers=headers)


class Gate:
    """Let requests through, or not."""

    def __init__(self, token: str, controls: Controls, dice: Dice) -> None:
        self._expected = f"Bearer {token}".encode()
        self._controls = controls
        self._dice = dice

    @web.middleware
    async def authenticate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer 401 to API calls without the right token."""
        if request.path.startswith(API) and request.match_info.http_exception is None:
            given = request.headers.get(hdrs.AUTHORIZATION, "").encode(errors="surrogateescape")
            if not hmac.compare_digest(given, self._expected):
                raise ProblemError(401, "Invalid or missing token", {hdrs.WWW_AUTHENTICATE: "Bearer"})
        return await handler(request)

    @web.middleware
    async def trouble(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Delay, refuse, break off or fail requests as the faults have it."""
        if request.path == DOCUMENT:
            return await handler(request)
        faults, dice = self._controls.faults, self._dice
        if delay := dice.upto("slow", faults.slow):
            await asyncio.sleep(delay)
        limited = dice.happens("rate_limited", faults.rate_limited)
        if limited and request.path.startswith(API):
            raise self._rate_limited()
        if dice.happens("resets", faults.resets):
            return await self._reset(request, handler)
        if dice.happens("server_errors", faults.server_errors):
            return await self._fail(request, handler)
        return await handler(request)

    def _rate_limited(self) -> ProblemError:
        faults = self._controls.faults
        after = str(faults.retry_after)
        if faults.retry_after_date:
            after = formatdate(math.ceil(time.time()) + faults.retry_after, usegmt=True)
        return ProblemError(429, "Too Many Requests", {hdrs.RETRY_AFTER: after})

    async def _reset(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._dice.happens("resets", 0.5):
            await _carry_out(request, handler)
        reset(request)
        # Nobody will get it.
        return web.Response(status=500)

    async def _fail(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        stream = self._dice.of("server_errors")
        status, late = stream.choice((500, 502, 503, 504)), stream.random() < 0.5
        if late and status != 503:
            await _carry_out(request, handler)
        if status in (502, 504):
            title = f"{status} {'Bad Gateway' if status == 502 else 'Gateway Time-out'}"
            return web.Response(status=status, text=GATEWAY.format(title), content_type="text/html")
        raise ProblemError(status, "Internal Server Error" if status == 500 else "Service Unavailable")


async def _carry_out(request: web.Request, handler: Handler) -> None:
    """Do what a request asks, whose answer will be lost; a download would be the answer itself."""
    if not request.path.startswith("/files/"):
        with contextlib.suppress(ProblemError, web.HTTPException):
            await handler(request)

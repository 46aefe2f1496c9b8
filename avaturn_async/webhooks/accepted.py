"""The answer to a webhook that was accepted, from bytes that are ready made.

aiohttp puts the headers of each answer together anew, which takes a sixth of the time that a webhook does; here nothing
in them ever differs but the date.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import TYPE_CHECKING

from aiohttp import HttpVersion11, web
from aiohttp.http import SERVER_SOFTWARE

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter
    from multidict import CIMultiDict

__all__ = ["Accepted", "AcceptedInApp"]


#: Bytes that may wait to be sent before a sender can be one that reads no answers: these are not to fill the memory.
_MOST_UNREAD = 16_384


class _Head:
    """Status line and headers of a 200 without a body, for HTTP/1.1 on a connection that is kept."""

    def __init__(self) -> None:
        self._second = -1
        self._bytes = b""

    def __call__(self) -> bytes:
        """Return them with the date of this second."""
        now = int(time.time())
        if now != self._second:
            date = formatdate(now, usegmt=True)
            head = f"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nDate: {date}\r\nServer: {SERVER_SOFTWARE}\r\n\r\n"
            self._bytes = head.encode()
            self._second = now  # last, for other threads
        return self._bytes


_head = _Head()


def _write(request: web.BaseRequest) -> bytes:
    """Send the answer; what is written is counted, for aiohttp closes a connection that fails after an answer."""
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the sender is gone")
    head = _head()
    transport.write(head)
    request.writer.output_size += len(head)
    return head


def _is_behind(request: web.BaseRequest) -> bool:
    """Say whether the sender may be one that reads no answers, and is to be waited for as the transport says."""
    transport = request.transport
    return transport is not None and transport.get_write_buffer_size() > _MOST_UNREAD


class Accepted(web.Response):
    """One object for any number of requests, in a server of our own: without cookies, signals, middlewares or a log."""

    @property
    def keep_alive(self) -> bool | None:
        """Keep the connection."""
        return True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send it."""
        _write(request)
        if _is_behind(request):
            await request.writer.drain()
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: all was sent."""


class AcceptedInApp(web.Response):
    """One for each request in an application of the user's own.

    Where a middleware has touched it, or a signal may, or the connection is not kept, it is sent as any other. Like any
    other, it is sent at its end, so that another can still take its place.
    """

    _ready: web.BaseRequest | None = None
    _sent = b""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Get ready to send it."""
        if self._sent:
            return None
        if self._ready is None and self._is_untouched() and _is_usual(request):
            self._ready = request
        return await super().prepare(request) if self._ready is None else request.writer

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write as any other does; it was not meant to have a body."""
        await self._become_any()
        await super().write(data)

    async def write_eof(self, data: bytes = b"") -> None:
        """Send it."""
        request = self._ready
        if request is None or data:
            await self._become_any()
            await super().write_eof(data)
            return
        self._ready = None
        self._sent = _write(request)
        self._body_length, self._eof_sent = len(self._sent), True  # as aiohttp's own, for logs and whoever sends again
        if _is_behind(request):
            await request.writer.drain()

    async def _become_any(self) -> None:
        request, self._ready = self._ready, None
        if request is not None:
            await super().prepare(request)

    def _is_untouched(self) -> bool:
        # The names with an underscore spare aiohttp the making of cookies; without them, whatever it is was touched.
        if getattr(self, "_headers", True) or getattr(self, "_cookies", True) or super().keep_alive is not None:
            return False
        return self.status == 200 and self.reason == "OK" and self.body is None and not self.chunked

    # What aiohttp and an access log ask for.

    @property
    def keep_alive(self) -> bool | None:
        """Say whether the connection is kept; None before that is known."""
        return True if self._sent else super().keep_alive

    @property
    def prepared(self) -> bool:
        """Say whether it can't be changed any more."""
        return self._ready is not None or super().prepared

    @property
    def headers(self) -> CIMultiDict[str]:
        """Its headers; once it was sent, also those of the ready made bytes."""
        headers = super().headers
        if self._sent and not headers:
            for line in self._sent.decode().split("\r\n")[1:-2]:
                name, _, value = line.partition(": ")
                headers[name] = value
        return headers

    def __repr__(self) -> str:
        state = "eof" if self._sent else "prepared" if self.prepared else "not prepared"
        return f"<{type(self).__name__} {self.reason} {state}>"


def _is_usual(request: web.BaseRequest) -> bool:
    """Say whether the connection is kept, and no application has a signal for responses."""
    if request.version != HttpVersion11 or not request.keep_alive or not isinstance(request, web.Request):
        return False
    for app in request.match_info.apps:  # noqa: SIM110 - a generator would cost more than all else here
        if app.on_response_prepare:
            return False
    return True

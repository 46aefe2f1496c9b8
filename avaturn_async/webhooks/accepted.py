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


#: Bytes of answers after which a sender that reads none is waited for: it is not to fill the memory with them.
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
            self._second = now
            date = formatdate(now, usegmt=True)
            head = f"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nDate: {date}\r\nServer: {SERVER_SOFTWARE}\r\n\r\n"
            self._bytes = head.encode()
        return self._bytes


_head = _Head()


async def _send(request: web.BaseRequest) -> bytes:
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the sender is gone")
    head = _head()
    transport.write(head)
    if transport.get_write_buffer_size() > _MOST_UNREAD:
        await request.writer.drain()
    return head


class Accepted(web.Response):
    """One object for any number of requests, in a server of our own: without cookies, signals, middlewares or a log."""

    @property
    def keep_alive(self) -> bool | None:
        """Keep the connection."""
        return True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send it."""
        await _send(request)
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: all was sent."""


class AcceptedInApp(web.Response):
    """One for each request in an application of the user's own.

    Where a middleware has touched it, or a signal may, or the connection is not kept, it is sent as any other.
    """

    _sent = b""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send it."""
        if self._sent:
            return request.writer
        if not (self._is_untouched() and _is_usual(request)):
            return await super().prepare(request)
        self._sent = await _send(request)
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing where all was sent."""
        if not self._sent:
            await super().write_eof(data)

    def _is_untouched(self) -> bool:
        # The names with an underscore spare aiohttp the making of cookies; without them, whatever it is was touched.
        if getattr(self, "_headers", True) or getattr(self, "_cookies", True) or super().keep_alive is not None:
            return False
        as_made = self.status == 200 and self.reason == "OK" and self.body is None
        return as_made and not (self.chunked or self.compression)

    # What an access log asks for, and aiohttp itself.

    @property
    def keep_alive(self) -> bool | None:
        """Say whether the connection is kept; None before that is known."""
        return True if self._sent else super().keep_alive

    @property
    def prepared(self) -> bool:
        """Say whether it was sent."""
        return bool(self._sent) or super().prepared

    @property
    def body_length(self) -> int:
        """How many bytes were sent."""
        return len(self._sent) or super().body_length

    @property
    def headers(self) -> CIMultiDict[str]:
        """Its headers; once it was sent, also those of the ready made bytes."""
        headers = super().headers
        if self._sent and not headers:
            for line in self._sent.decode().split("\r\n")[1:-2]:
                name, _, value = line.partition(": ")
                headers[name] = value
        return headers


def _is_usual(request: web.BaseRequest) -> bool:
    """Say whether the connection is kept, and no application has a signal for responses."""
    if request.version != HttpVersion11 or not request.keep_alive or not isinstance(request, web.Request):
        return False
    for app in request.match_info.apps:  # noqa: SIM110 - a generator would cost more than all else here
        if app.on_response_prepare:
            return False
    return True

"""The embedded server: webhooks from a socket of our own, without a router, patient with nobody."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Self

from aiohttp import HttpVersion11, hdrs, web

from ..redact import origin_of
from .accepted import Accepted
from .aiohttp import answer, path_of
from .deadlines import Deadlines
from .receiver import NOT_FOUND

if TYPE_CHECKING:
    from types import TracebackType

    from aiohttp import StreamReader
    from aiohttp.web_protocol import RequestHandler

    from .receiver import WebhookReceiver

__all__ = ["ReceiverServer"]

logger = logging.getLogger(__name__)

#: aiohttp's own messages show request lines, and so the secret in them.
_SILENT = logging.Logger(f"{__name__}.silent")
_SILENT.disabled = True

#: Seconds that a sender which was refused before its body ended has to read the answer.
_LINGER = 1.0

#: Seconds for aiohttp to cut off what is not over in time; 0 would mean as long as it takes.
_CUT_OFF = 0.001


class _Connections(web.Server):
    """aiohttp's low-level server, with a limit of connections and a deadline for headers.

    At the limit a newcomer takes the place of who has been sending a request for longest, so that slow senders keep
    nobody out. It is dropped itself only where each connection has brought a whole request that is being answered.
    """

    def __init__(self, handler: Any, *, most: int, header_timeout: float, **options: Any) -> None:
        super().__init__(handler, logger=_SILENT, access_log=None, lingering_time=_LINGER, **options)
        self._most = most
        self._headers_due: Deadlines[RequestHandler] = Deadlines(header_timeout, _abort)
        self._end_due: Deadlines[RequestHandler] = Deadlines(min(header_timeout, _LINGER), _abort)
        self._unread: dict[RequestHandler, StreamReader] = {}
        self._open: dict[RequestHandler, StreamReader | None] = {}  # and the body that is coming; the slowest first
        self._transports: dict[RequestHandler, asyncio.Transport] = {}  # aiohttp forgets those that it closes
        self._none_left: asyncio.Future[None] | None = None

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._transports[handler] = transport
        slowest = self._slowest() if len(self._open) >= self._most else None
        if slowest is not None:
            self._drop(slowest)
        if len(self._open) < self._most:
            self.expect_headers(handler)
        else:
            self._drop(handler)

    def _slowest(self) -> RequestHandler | None:
        return next((handler for handler, body in self._open.items() if body is None or not body.is_eof()), None)

    def _drop(self, handler: RequestHandler) -> None:
        self._open.pop(handler, None)
        self._lift(handler)
        if handler in self._transports:  # soon: aiohttp's task for a new connection must have begun
            asyncio.get_running_loop().call_soon(self._transports[handler].abort)

    def drop_all(self) -> None:
        """Drop every connection, and what its sender has not read."""
        for handler in tuple(self._transports):
            self._drop(handler)
        self._headers_due.clear()
        self._end_due.clear()

    async def end(self, seconds: float) -> None:
        """Let requests under way end, and answers be read, in this time; aiohttp takes it twice, or 0 for no limit."""
        try:
            async with asyncio.timeout(seconds):
                await self._close_idle()
                await self.shutdown(None)
                await self._all_lost()
        except TimeoutError:
            pass
        finally:
            await self.shutdown(_CUT_OFF)
            self.drop_all()
            await self._all_lost()

    async def _close_idle(self) -> None:
        for _ in range(3):  # what was accepted just before the end comes, and begins to wait, within so many turns
            self.pre_shutdown()
            await asyncio.sleep(0)

    async def _all_lost(self) -> None:
        if self._transports:
            self._none_left = asyncio.get_running_loop().create_future()
            await self._none_left

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        self._open.pop(handler, None)
        self._lift(handler)
        self._transports.pop(handler, None)
        if self._none_left is not None and not self._transports and not self._none_left.done():
            self._none_left.set_result(None)
        unread = self._unread.pop(handler, None)
        if unread is not None and not unread.is_eof():
            unread.feed_eof()  # else aiohttp's task waits on for the rest, and the connection counts
        super().connection_lost(handler, exc)

    def expect_headers(self, handler: RequestHandler) -> None:
        """Drop the connection unless whole headers come in time; an idle one is dropped as well."""
        self._open.pop(handler, None)
        if handler.transport is not None:
            self._open[handler] = None
            self._headers_due.set(handler)

    def expect_end(self, handler: RequestHandler, unread: StreamReader) -> None:
        """Drop the connection soon: it stays only for the last answer to be read, while the rest of a body comes."""
        self._unread[handler] = unread
        self._end_due.set(handler)

    def got_headers(self, handler: RequestHandler, body: StreamReader) -> None:
        """Lift the deadline; the connection counts as slow until the whole body is there."""
        self._headers_due.lift(handler)
        if self._unread:  # of whom there are none, as a rule
            self._end_due.lift(handler)
        if handler in self._open:
            self._open[handler] = body

    def _lift(self, handler: RequestHandler) -> None:
        self._headers_due.lift(handler)
        self._end_due.lift(handler)


def _abort(handler: RequestHandler) -> None:
    if handler.transport is not None:
        handler.transport.abort()


class ReceiverServer:
    """A server of a receiver's own; `async with` it.

    Args:
        receiver: whose webhooks are served.
        host: the address to listen at.
        port: the port, 0 for any that is free.
        prefix: what stands before the secret in the path.
        public_url: scheme and host under which the world reaches this server, for `url`.
        max_connections: connections at once; a further one takes the place of the slowest.
        header_timeout: seconds in which a request's headers must be there.
        body_timeout: seconds in which its body must be there.
        shutdown_timeout: seconds that requests under way have at the end.

    Entering raises ``OSError`` where the port is taken.
    """

    def __init__(
        self,
        receiver: WebhookReceiver,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        prefix: str = "/avaturn",
        public_url: str | None = None,
        max_connections: int = 1000,
        header_timeout: float = 10.0,
        body_timeout: float = 10.0,
        shutdown_timeout: float = 5.0,
    ) -> None:
        self._receiver = receiver
        self._address = (host, port)
        self._root = "/" + prefix.strip("/") if prefix.strip("/") else ""
        self._below = f"{self._root}/"
        self._public = public_url and public_url.rstrip("/")
        self._origin = self._public
        self._max_connections = max_connections
        self._header_timeout = header_timeout
        self._body_timeout = body_timeout
        self._shutdown_timeout = shutdown_timeout
        self._connections: _Connections | None = None
        self._server: asyncio.Server | None = None
        self._accepted = Accepted()

    @property
    def url(self) -> str:
        """The url to enter in the developer portal; a path secret is in it. RuntimeError before the start."""
        if self._origin is None:
            raise RuntimeError("the server has no url until it has started: use `async with`")
        return f"{self._origin}{self._root}/{self._receiver.path}".rstrip("/")

    @property
    def port(self) -> int:
        """The port that is listened at."""
        if self._server is None or not self._server.sockets:
            raise RuntimeError("the server is not running")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        self._receiver.bind()
        loop = asyncio.get_running_loop()
        self._connections = _Connections(
            self._handle, most=self._max_connections, header_timeout=self._header_timeout, keepalive_timeout=75
        )
        self._server = await loop.create_server(self._connections, *self._address, backlog=1024)
        if self._public is None:
            host = self._address[0]
            shown = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104
            self._origin = f"http://[{shown}]:{self.port}" if ":" in shown else f"http://{shown}:{self.port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop listening, let requests under way end, then drain the receiver's callbacks."""
        assert self._server is not None and self._connections is not None  # noqa: PT018, S101
        self._server.close()
        try:
            await self._connections.end(self._shutdown_timeout)
            await self._server.wait_closed()
        finally:  # also where the end itself is cancelled
            self._connections.drop_all()
            await self._receiver.aclose()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        assert self._connections is not None  # noqa: S101
        handler = request.protocol
        self._connections.got_headers(handler, request.content)
        try:
            response = await self._answer(request, path_of(request))
        finally:
            if handler.transport is None or request.content.is_eof():
                self._connections.expect_headers(handler)
            else:
                self._connections.expect_end(handler, request.content)
        logger.info("%s %s/*** answered %d", request.method, self._root, response.status)
        return response

    async def _answer(self, request: web.BaseRequest, path: str) -> web.Response:
        if not path.startswith(self._below) and path != self._root:
            return web.Response(status=NOT_FOUND.status)
        if hdrs.EXPECT in request.headers:
            await _invite(request)
        accepted = self._accepted if request.keep_alive and request.version == HttpVersion11 else None
        return await answer(self._receiver, request, path, self._body_timeout, accepted)

    def __repr__(self) -> str:
        return f"<ReceiverServer {origin_of(self._origin) if self._origin else 'not started'}>"


async def _invite(request: web.BaseRequest) -> None:
    """Tell a sender that waits to be told so that its body may come (RFC 9110, 10.1.1); no router does it here."""
    if request.headers[hdrs.EXPECT].lower() == "100-continue" and request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")

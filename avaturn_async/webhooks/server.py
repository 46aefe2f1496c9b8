"""The embedded server: webhooks on a socket of our own, with limits for slow senders."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Self, cast

from aiohttp import HttpVersion11, hdrs, web

from ..redact import SecretUrl, origin_of
from .aiohttp import answer
from .replies import NOT_FOUND

if TYPE_CHECKING:
    from types import TracebackType

    from aiohttp import StreamReader

    from .replies import Receiver

__all__ = ["ReceiverServer"]

logger: logging.Logger = logging.getLogger(__name__)

#: aiohttp's own messages quote request lines, which hold the secret.
_SILENT = logging.Logger(f"{__name__}.silent")
_SILENT.disabled = True

#: Seconds for a sender whose body was refused to read the response before its connection is closed.
_LINGER = 1.0
#: Seconds for cancelled requests to end.
_GRACE = 1.0


class ReceiverServer:
    """A server for one receiver; `async with` it. `WebhookReceiver.serve` documents its arguments.

    aiohttp's low-level server reads the requests. At the limit of connections a new one replaces the one that has
    waited longest for its sender, so that slow senders keep nobody out. It is refused only if every other connection
    has brought a whole request that is being answered.
    """

    _http: web.Server
    _none_open: asyncio.Event

    def __init__(
        self,
        receiver: Receiver,
        host: str = "127.0.0.1",
        port: int = 0,
        prefix: str = "/avaturn",
        public_url: str | None = None,
        max_connections: int = 1000,
        header_timeout: float = 10.0,
        shutdown_timeout: float = 5.0,
    ) -> None:
        self._receiver = receiver
        self._address = (host, port)
        self._root = "/" + prefix.strip("/") if prefix.strip("/") else ""
        self._public_url = public_url and public_url.rstrip("/")
        self._origin = self._public_url
        self._max_connections = max_connections
        self._header_timeout = header_timeout
        self._shutdown_timeout = shutdown_timeout
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.BaseTransport | None, _Connection] = {}  # those unchanged for longest come first
        self._handlers: set[asyncio.Task[object]] = set()
        self._closing = False

    @property
    def url(self) -> str:
        """The url to enter in the developer portal, path secret included; RuntimeError before the start."""
        if self._origin is None:
            raise RuntimeError("the server has no url until it has started: use `async with`")
        return SecretUrl(f"{self._origin}{self._root}/{self._receiver.path}".rstrip("/"))

    @property
    def port(self) -> int:
        """The port that the server listens on; RuntimeError while it is not running."""
        if self._server is None or not self._server.sockets:
            raise RuntimeError("the server is not running")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        self._receiver.bind()
        self._closing, self._none_open = False, asyncio.Event()
        self._http = web.Server(self._handle, logger=_SILENT, access_log=None, lingering_time=0, auto_decompress=False)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, *self._address, backlog=1024)
        if self._public_url is None:
            host = self._address[0]
            shown = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104
            self._origin = f"http://[{shown}]:{self.port}" if ":" in shown else f"http://{shown}:{self.port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop listening, let requests in flight end, then drain the receiver's callbacks."""
        try:
            await self._close()
        finally:
            await self._receiver.aclose()

    def _accept(self) -> _Connection:
        return _Connection(self, self._http(), self._header_timeout)

    def _add(self, connection: _Connection) -> None:
        """Keep a new connection, or drop it."""
        room = not self._closing
        if room and len(self._open) >= self._max_connections:
            waiting = (each for each in self._open.values() if each.body is None or not each.body.is_eof())
            slowest = next(waiting, None)
            if slowest is not None:
                slowest.drop()
            room = slowest is not None
        if room:
            self._open[connection.transport] = connection
            self._none_open.clear()
        else:
            connection.drop()

    def _discard(self, connection: _Connection) -> None:
        self._open.pop(connection.transport, None)
        if not self._open:
            self._none_open.set()

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        handler, connection = asyncio.current_task(), self._open.get(request.transport)
        assert handler is not None  # noqa: S101
        self._handlers.add(handler)
        if connection is not None:
            connection.body = request.content
            connection.deadline = float("inf")  # headers are complete, and the body has a timeout of its own
        try:
            if f"{request.path}/".startswith(f"{self._root}/"):
                if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and request.version >= HttpVersion11:
                    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")  # RFC 9110, 10.1.1
                response = await answer(self._receiver, request)
                logger.info("%s %s/*** answered %d", request.method, self._root, response.status)
            else:
                response = web.Response(status=NOT_FOUND.status)
            if self._closing:
                response.force_close()
            if not request.content.is_eof():
                await _linger(request, response)
            return response
        finally:
            self._handlers.discard(handler)
            if connection is not None:
                connection.expect_headers()
                if self._open.pop(connection.transport, None):
                    self._open[connection.transport] = connection

    async def _close(self) -> None:
        """Stop listening, close idle connections, give requests in flight time to end, and drop the rest."""
        assert self._server is not None  # noqa: S101
        try:
            await _stop_accepting(self._server)
            self._closing = True
            for connection in tuple(self._open.values()):
                if connection.body is None:
                    connection.transport.close()  # once its last response is read
            if self._open:
                self._none_open.clear()
                async with asyncio.timeout(self._shutdown_timeout):
                    await self._none_open.wait()
        except TimeoutError:
            pass
        finally:
            self._closing = True
            for handler in self._handlers:
                handler.cancel()
            for connection in tuple(self._open.values()):
                connection.drop()
            with suppress(TimeoutError):
                async with asyncio.timeout(_GRACE):
                    while self._http.connections:  # noqa: ASYNC110 - aiohttp's tasks end within a few turns of the loop
                        await asyncio.sleep(0)

    def __repr__(self) -> str:
        return f"<ReceiverServer {origin_of(self._origin) if self._origin else 'not started'}>"


class _Connection(asyncio.Protocol):
    """Passes a connection on to aiohttp, and drops it when headers are late or responses are not read."""

    transport: asyncio.Transport

    def __init__(self, server: ReceiverServer, http: asyncio.Protocol, header_timeout: float) -> None:
        self._server = server
        self._http = http
        self._header_timeout = header_timeout
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(header_timeout, self._check_deadline)
        self.expect_headers()

    def expect_headers(self) -> None:
        """Expect the next headers; until then, the last response has to be read."""
        self.body: StreamReader | None = None  # of the request that is being handled
        self.deadline = self._loop.time() + self._header_timeout

    def drop(self) -> None:
        """Abort the connection, and make room at once."""
        self._server._discard(self)
        self.transport.abort()

    def _check_deadline(self) -> None:
        left = self.deadline - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(min(left, self._header_timeout), self._check_deadline)
        else:
            self.drop()

    # asyncio's protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._http.connection_made(transport)
        self._server._add(self)

    def data_received(self, data: bytes) -> None:
        self._http.data_received(data)

    def eof_received(self) -> bool | None:
        return self._http.eof_received()

    def pause_writing(self) -> None:
        """Drop a sender that leaves so many responses unread that the transport's buffer is full."""
        self.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._server._discard(self)
        self._http.connection_lost(exc)


async def _stop_accepting(server: asyncio.Server) -> None:
    """Stop listening once what was accepted is a connection.

    asyncio never closes one that it accepts in the turn of the loop in which its server closes, and its sender waits.
    """
    loop = asyncio.get_running_loop()
    try:
        with suppress(NotImplementedError):  # Windows
            for listener in server.sockets:
                loop.remove_reader(listener)
        for _ in range(3):
            await asyncio.sleep(0)
    finally:
        server.close()


async def _linger(request: web.BaseRequest, response: web.Response) -> None:
    """Send the response to a request whose body is not complete, and read on so that its sender gets to see it."""
    with suppress(Exception):  # the sender is gone, or takes too long
        async with asyncio.timeout(_LINGER):
            await response.prepare(request)
            await response.write_eof()
            async for _ in request.content.iter_any():
                pass

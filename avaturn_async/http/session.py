"""The aiohttp sessions of one client: opened at first use, bound to one loop, closed once."""

from __future__ import annotations

import asyncio
import netrc
import os
import warnings
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from ssl import SSLContext
from typing import Any, TypeAlias, TypeVar

import aiohttp

from ..errors import ClientClosedError, ConfigurationError, WrongLoopError
from ..redact import SignedUrl
from .tasks import is_cancelled
from .urls import parse_proxy

__all__ = ["ClientSessions", "Ssl"]

T = TypeVar("T")

#: How a session verifies certificates, as in aiohttp.
Ssl: TypeAlias = SSLContext | aiohttp.Fingerprint | bool


class ClientSessions:
    """A session for the API, which may be borrowed, and sessions of our own for uploads and files.

    A borrowed session is used with its own settings and never closed. None of them reach the url of an upload or a
    file: default headers, cookies and credentials are meant for other hosts.
    """

    def __init__(
        self,
        *,
        max_connections: int,
        borrowed: aiohttp.ClientSession | None = None,
        proxy: SignedUrl | None = None,
        ssl: Ssl | None = None,
    ) -> None:
        if isinstance(max_connections, bool) or not isinstance(max_connections, int) or max_connections < 1:
            raise ConfigurationError(f"max_connections must be an integer of at least 1, not {max_connections!r:.80}")
        if borrowed is not None and borrowed.auth is not None:
            raise ConfigurationError("the borrowed session has an auth of its own, which excludes the API token")
        self.closed: bool = False
        self.borrowed = borrowed
        self.ends_of_uploads: set[Callable[[], None]] = set()
        self._max_connections = max_connections
        self.proxy: SignedUrl | None = parse_proxy(proxy)
        self._ssl: Ssl = True if ssl is None else ssl
        self._own: dict[str, aiohttp.ClientSession] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = asyncio.Event()
        self._netrc_applies: bool | None = None

    @property
    def limit(self) -> int:
        """How many requests can be sent at once without one waiting inside aiohttp, where its timeout would run."""
        connector = self.borrowed.connector if self.borrowed else None
        limits = (connector.limit, connector.limit_per_host) if connector else ()
        return min([self._max_connections, *(limit for limit in limits if limit)])

    def check_loop(self) -> asyncio.AbstractEventLoop:
        """Return the running loop; the first one is the only one on which the sessions can be used.

        Raises:
            ClientClosedError: after `aclose`.
            WrongLoopError: they, or the borrowed session, belong to another loop.
        """
        self.check_open()
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return loop
        if self._loop is not None:
            raise WrongLoopError("the client belongs to the event loop on which it was first used: make one per loop")
        if self.borrowed is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # nothing replaces the property
                if self.borrowed.loop is not loop:
                    raise WrongLoopError("the borrowed session belongs to another event loop than the running one")
        self._loop = loop
        return loop

    def check_open(self) -> None:
        """Raise ClientClosedError after `aclose`."""
        if self.closed:
            raise ClientClosedError("the client is closed")

    def for_uploads(self) -> aiohttp.ClientSession:
        """Return the session for uploads, which has connections of its own: a stuck upload holds up no call."""
        # A kept-alive connection may break just when photos are sent.
        return self.open("uploads", force_close=True)

    def open(
        self,
        name: str,
        *,
        force_close: bool = False,
        socket_factory: aiohttp.SocketFactoryType | None = None,
        **options: Any,
    ) -> aiohttp.ClientSession:
        """Return our own session of this name; the first call opens it, with `options` of aiohttp's session."""
        if name not in self._own:
            self._own[name] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._max_connections, ssl=self._ssl, force_close=force_close, socket_factory=socket_factory
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                proxy=self.proxy,
                **options,
            )
        return self._own[name]

    async def netrc_applies(self, host: str) -> bool:
        """Say whether a borrowed session would add credentials from .netrc, which exclude an Authorization header."""
        if self._netrc_applies is None:
            trusted = self.borrowed is not None and self.borrowed.trust_env
            self._netrc_applies = trusted and await asyncio.to_thread(_netrc_has, host)
        return self._netrc_applies

    async def attempt(self, work: Awaitable[T], *, borrows: bool = True) -> T | Exception:
        """Await one exchange; return what it raised, or ClientClosedError if a closed session was the reason.

        Args:
            work: sends a request and may read its response.
            borrows: whether it may use the borrowed session.
        """
        try:
            return await work
        except asyncio.CancelledError:
            closed = self.reason_closed(borrows=borrows)
            if closed is None or is_cancelled():
                raise
            return closed  # aiohttp cancels requests that resolve a name when its session is closed
        except Exception as error:  # noqa: BLE001 - a borrowed session's middlewares and tracing may raise anything
            return self.reason_closed(borrows=borrows) or error

    def reason_closed(self, *, borrows: bool = True) -> ClientClosedError | None:
        """Return why nothing can be sent any more, or None."""
        if self.closed:
            return ClientClosedError("the client was closed before the response was received")
        if borrows and self.borrowed is not None and self.borrowed.closed:
            return ClientClosedError("the borrowed session was closed by its owner")
        return None

    async def sleep(self, seconds: float) -> None:
        """Sleep, or raise ClientClosedError as soon as the client is closed."""
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return
        raise ClientClosedError("the client was closed while a request waited to be sent")

    async def aclose(self) -> None:
        """Close our own sessions; calling it again does nothing."""
        if self.closed:
            return
        if self._loop is not None:
            self.check_loop()
        self.closed = True
        self._closing.set()
        for end in tuple(self.ends_of_uploads):
            end()  # a graceful end would send on what is buffered, to a peer that may not read
        async with AsyncExitStack() as stack:
            for session in self._own.values():
                stack.push_async_callback(session.close)


def _netrc_has(host: str) -> bool:
    try:
        path = os.environ.get("NETRC") or Path.home() / ("_netrc" if os.name == "nt" else ".netrc")
        return netrc.netrc(path).authenticators(host) is not None
    except (OSError, RuntimeError, netrc.NetrcParseError):  # no file, no home, or not a .netrc
        return False

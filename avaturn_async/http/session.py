"""The HTTP session of one client: opened late, used on one loop, closed once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp

from ..errors import ClientClosedError, ConfigurationError, WrongLoopError

if TYPE_CHECKING:
    import ssl as ssl_module

    from yarl import URL

__all__ = ["Connections"]


class Connections:
    """A session of our own, or a borrowed one, which is used as it is and never closed.

    Args:
        most: the most connections at once.
        borrowed: a session to use instead of one of our own.
        proxy: an HTTP proxy for our own session.
        ssl: how our own session verifies certificates, as in aiohttp.
    """

    def __init__(
        self,
        *,
        most: int,
        borrowed: aiohttp.ClientSession | None = None,
        proxy: str | URL | None = None,
        ssl: ssl_module.SSLContext | aiohttp.Fingerprint | bool | None = None,
    ) -> None:
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise ConfigurationError(f"max_connections must be a whole number of at least 1, not {most!r}")
        if borrowed is not None and getattr(borrowed, "auth", None) is not None:
            raise ConfigurationError("the borrowed session has an auth of its own, which excludes the API token")
        self.closed = False
        self._most = most
        self._borrowed = borrowed
        self._own: aiohttp.ClientSession | None = None
        self._proxy = proxy
        self._ssl = True if ssl is None else ssl
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = asyncio.Event()

    @property
    def limit(self) -> int:
        """How many requests may be under way without one waiting inside aiohttp, where its timeout would run."""
        connector = self._borrowed.connector if self._borrowed else None
        limits = (connector.limit, connector.limit_per_host) if connector else ()
        return min([self._most, *(limit for limit in limits if limit)])

    @property
    def middlewares(self) -> tuple[aiohttp.ClientMiddlewareType, ...]:
        """The borrowed session's own, which those of a request would replace."""
        return tuple(getattr(self._borrowed, "_middlewares", ()))

    def check_loop(self) -> asyncio.AbstractEventLoop:
        """Return the running loop, which is from now on the only one that the session can be used from."""
        if self.closed:
            raise ClientClosedError("the client is closed")
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return loop
        if self._loop is not None:
            raise WrongLoopError("the client belongs to the event loop that it first ran on: make one for each loop")
        if getattr(self._borrowed, "_loop", loop) is not loop:
            raise WrongLoopError("the borrowed session belongs to another event loop than the one that is running")
        self._loop = loop
        return loop

    def session(self) -> aiohttp.ClientSession:
        """Return the session, opened now if need be."""
        if self._borrowed is not None:
            return self._borrowed
        if self._own is None:
            self._own = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._most, ssl=self._ssl),
                cookie_jar=aiohttp.DummyCookieJar(),
                proxy=self._proxy,
            )
        return self._own

    def reason_closed(self) -> ClientClosedError | None:
        """Return why nothing can be sent any more, or None where it can."""
        if self.closed:
            return ClientClosedError("the client was closed before the answer was there")
        if self._borrowed is not None and self._borrowed.closed:
            return ClientClosedError("the borrowed session was closed by its owner")
        return None

    async def rest(self, seconds: float) -> None:
        """Sleep, or raise ClientClosedError as soon as the client is closed."""
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return
        raise ClientClosedError("the client was closed while a request waited to be sent")

    async def aclose(self) -> None:
        """Close our own session and wait for its connections to end; calling it again does nothing more."""
        if self.closed:
            return
        if self._loop is not None:
            self.check_loop()
        self.closed = True
        self._closing.set()
        if self._own is not None:
            await self._own.close()

"""GET without the token, from public addresses only, through redirects that are looked at one by one."""

import asyncio
from collections.abc import Mapping
from ssl import SSLContext
from typing import TypeAlias

import aiohttp
from aiohttp import hdrs
from yarl import URL

from ..config import Timeouts
from ..errors import ClientClosedError, DownloadError, UnsafeAddressError, WrongLoopError
from ..redact import without_query
from .heap import keep_freed
from .ssrf import BlockedAddressError, check_resolved, parse_url, public_socket

__all__ = ["TRANSIENT", "GuardedSession", "Ssl", "describe"]

Ssl: TypeAlias = bool | aiohttp.Fingerprint | SSLContext

#: What a GET or a read may raise that another attempt may not.
TRANSIENT = (aiohttp.ClientError, TimeoutError, OSError)

_MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# asyncio receives 256 KiB at a time. With aiohttp's 64 KiB it would pause and resume the transport for each of them.
_READ_BUFFER = 256 * 1024
# An encoded body could neither be resumed nor be compared with its length.
_HEADERS = {hdrs.ACCEPT: "*/*", hdrs.ACCEPT_ENCODING: "identity", hdrs.USER_AGENT: "avaturn-async"}


class GuardedSession:
    """An aiohttp session of its own: made at first use, for one event loop, without cookies, .netrc or environment.

    With a proxy the sockets go there, so the guard knows only the url: IP literals, names that are private by
    convention, and names that resolve, here, to addresses that are not public.
    """

    def __init__(
        self,
        *,
        timeouts: Timeouts,
        allow_private_hosts: bool,
        allow_http: bool,
        max_connections: int,
        proxy: str | URL | None,
        ssl: Ssl,
    ) -> None:
        self._timeouts = timeouts
        self._allow_private = allow_private_hosts
        self._allow_http = allow_http
        self._limit = max_connections
        self._proxy = proxy
        self._ssl = ssl
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: aiohttp.ClientSession | None = None

    def parse(self, url: str) -> URL:
        """Return `url` parsed, or raise `UnsafeAddressError` where its form says enough."""
        return parse_url(url, allow_http=self._allow_http, allow_private=self._allow_private)

    def check_open(self) -> None:
        """Raise `ClientClosedError` after `aclose`."""
        if self._closed:
            raise ClientClosedError("the client is closed")

    async def get(self, url: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """Return the answer at the end of at most five redirects; raise `UnsafeAddressError`, or one of `TRANSIENT`."""
        target = self.parse(url)
        for _ in range(_MAX_REDIRECTS + 1):
            response = await self._send(target, headers)
            location = response.headers.get(hdrs.LOCATION)
            if response.status not in _REDIRECTS or location is None:
                return response
            response.close()
            target = self._follow(target, location)
        raise DownloadError(f"{without_query(url)} redirects more than {_MAX_REDIRECTS} times")

    async def aclose(self) -> None:
        """Close the connections. What is under way fails with `ClientClosedError`."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _follow(self, origin: URL, location: str) -> URL:
        target = parse_url(location, allow_http=self._allow_http, allow_private=self._allow_private, base=origin)
        if origin.scheme == "https" and target.scheme != "https":
            raise UnsafeAddressError(f"{without_query(str(origin))} redirects from https to {target.scheme}")
        return target

    async def _send(self, url: URL, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        session = self._opened()
        if self._proxy is not None and not self._allow_private:
            await check_resolved(url)
        try:
            return await session.get(url, headers=headers, proxy=self._proxy, allow_redirects=False)
        except aiohttp.ClientConnectorCertificateError:
            failure: DownloadError = DownloadError(f"the certificate of {url.raw_host} is not trusted")
        except aiohttp.ClientConnectorError as error:
            if not isinstance(error.os_error, BlockedAddressError):
                raise
            blocked = error.os_error.address
            failure = UnsafeAddressError(f"{url.raw_host} leads to {blocked}, which is not a public address")
        # Outside of the except block: aiohttp's error shows the whole url to who prints contexts.
        raise failure

    def _opened(self) -> aiohttp.ClientSession:
        self.check_open()
        loop = asyncio.get_running_loop()
        if self._session is None:
            self._session, self._loop = self._make(), loop
        if self._loop is not loop:
            raise WrongLoopError("the client belongs to the event loop that it first ran on; make one for each loop")
        return self._session

    def _make(self) -> aiohttp.ClientSession:
        keep_freed()
        guarded = self._proxy is None and not self._allow_private
        connector = aiohttp.TCPConnector(
            limit=self._limit, ssl=self._ssl, socket_factory=public_socket if guarded else None
        )
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._timeouts.connect, sock_read=self._timeouts.total)
        return aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            read_bufsize=_READ_BUFFER,
            headers=_HEADERS,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )


def describe(error: Exception) -> str:
    """Say what happened, without the url that the texts of aiohttp's errors may have in them."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"it could not be reached ({error.os_error.strerror or type(error.os_error).__name__})"
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "no connection was made in time"
    if isinstance(error, TimeoutError):
        return "nothing came for too long"
    return f"the connection broke ({type(error).__name__})"

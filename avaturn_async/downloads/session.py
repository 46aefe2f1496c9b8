"""GET without the API token, from public addresses only, following redirects that are checked one by one.

What a response holds, and of which version of the file, is told by its headers (RFC 9110).
"""

import asyncio
import re
from collections.abc import Mapping
from types import SimpleNamespace

import aiohttp
import attrs
from aiohttp import hdrs

from ..config import Timeouts
from ..errors import DownloadError, UnsafeAddressError
from ..http.responses import connect_problem
from ..http.session import ClientSessions
from ..http.urls import sent_to
from ..redact import SignedUrl, without_query
from .ssrf import BlockedAddressError, check_resolved, check_url, parse_url, public_socket

__all__ = ["STRONG_ETAG", "TRANSIENT", "Extent", "FileResponse", "GuardedSession", "describe", "extent", "strong_etag"]

#: What a request or a read may raise that another attempt may not.
TRANSIENT = (aiohttp.ClientError, TimeoutError, OSError)

_MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# asyncio receives up to 256 KiB at a time. With aiohttp's 64 KiB it would pause and resume the transport each time;
# with this it goes on receiving while a thread writes what came before.
_READ_BUFFER = 512 * 1024
# An encoded body could neither be resumed nor be compared with its length.
_HEADERS = {hdrs.ACCEPT: "*/*", hdrs.ACCEPT_ENCODING: "identity", hdrs.USER_AGENT: "avaturn-async"}

_DIGITS = re.compile(r"[0-9]{1,18}")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")
STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')


class FileResponse:
    """The response to a GET. Its repr, unlike that of aiohttp's, does not show the url with its query."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers
        self._chunked = hdrs.TRANSFER_ENCODING in response.headers

    async def read(self) -> bytes:
        """Return the next bytes, waiting for them; ``b""`` at the end."""
        if self._chunked:  # readchunk would return each chunk of the encoding by itself
            return await self._response.content.readany()
        return (await self._response.content.readchunk())[0]  # not joined, and so not copied, as readany would do

    def close(self) -> None:
        """Close the connection unless the whole body was read, which leaves it to the next request."""
        self._response.close()


class GuardedSession:
    """The client's session for files: without cookies, .netrc or environment.

    With a proxy the sockets lead there, so only urls are guarded: IP literals, names that are private by convention,
    and names that resolve, on this machine, to addresses that are not public.
    """

    def __init__(
        self, sessions: ClientSessions, *, timeouts: Timeouts, allow_private_hosts: bool, allow_http: bool
    ) -> None:
        self.sessions = sessions
        self._timeouts = timeouts
        self._allow_private = allow_private_hosts
        self._allow_http = allow_http
        self._connection_limit = _connection_limit(timeouts.connect + timeouts.total)

    def check_url(self, url: str, base: SignedUrl | None = None) -> SignedUrl:
        """Return `url`, resolved against `base`, or raise `UnsafeAddressError` if its form tells that it is unsafe."""
        return check_url(url, allow_http=self._allow_http, allow_private=self._allow_private, base=base)

    async def get(self, url: SignedUrl, headers: Mapping[str, str]) -> FileResponse:
        """Return the response after at most five redirects; raise `UnsafeAddressError` or one of `TRANSIENT`."""
        target = self.check_url(url)
        for _ in range(_MAX_REDIRECTS + 1):
            response = await self._send(target, headers)
            location = SignedUrl(response.headers.get(hdrs.LOCATION, ""))
            if response.status not in _REDIRECTS or not location:
                return response
            response.close()
            origin, target = target, self.check_url(location, base=target)
            if origin.startswith("https:") and not target.startswith("https:"):
                raise UnsafeAddressError(f"{without_query(origin)} redirects from https to http")
        raise DownloadError(f"{without_query(url)} redirects more than {_MAX_REDIRECTS} times")

    async def _send(self, url: SignedUrl, headers: Mapping[str, str]) -> FileResponse:
        self.sessions.check_loop()
        host = parse_url(url).raw_host or ""
        proxied = self.sessions.proxy is not None
        if proxied and not self._allow_private:
            await check_resolved(host, parse_url(url).port)
        session = self.sessions.open(
            "files",
            socket_factory=None if proxied or self._allow_private else public_socket,
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self._timeouts.connect, sock_read=self._timeouts.total
            ),
            read_bufsize=_READ_BUFFER,
            headers=_HEADERS,
            auto_decompress=False,
            trace_configs=[self._connection_limit],
        )
        shown = parse_url(url).with_query(None)
        async with asyncio.timeout(None) as deadline:
            sending = session.get(
                shown,
                headers=headers,
                allow_redirects=False,
                middlewares=(sent_to(url),),
                trace_request_ctx=deadline,
            )
            result = await self.sessions.attempt(sending, borrows=False)
        if isinstance(result, aiohttp.ClientConnectorCertificateError):
            result = DownloadError(f"the certificate of {host} is not trusted")
        elif isinstance(result, aiohttp.ClientConnectorError) and isinstance(result.os_error, BlockedAddressError):
            result = UnsafeAddressError(f"{host} leads to {result.os_error.address}, which is not a public address")
        if isinstance(result, Exception):
            raise result
        return FileResponse(result)


def _connection_limit(seconds: float) -> aiohttp.TraceConfig:
    """Limit each connection attempt, with DNS and a proxy's response, which aiohttp's sock_connect leaves out.

    Its `connect` would include the wait for one of the session's connections. The context of a request is its timeout.
    """

    async def begin(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.reschedule(asyncio.get_running_loop().time() + seconds)

    async def end(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.reschedule(None)

    config = aiohttp.TraceConfig()
    config.on_connection_create_start.append(begin)
    config.on_connection_create_end.append(end)
    return config


def describe(error: Exception) -> str:
    """Say what happened, without the url that the texts of aiohttp's errors may contain."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"it could not be reached ({connect_problem(error)})"
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "no connection was made in time"
    if isinstance(error, TimeoutError):
        return "nothing arrived for too long"
    return f"the connection broke ({type(error).__name__})"


@attrs.frozen
class Extent:
    """Where the body of a response lies in the whole file, in bytes.

    Attributes:
        start: the position of its first byte.
        stop: the position after its last byte, or None if unknown.
        total: the length of the whole file, or None if unknown.
    """

    start: int
    stop: int | None
    total: int | None


def extent(status: int, headers: Mapping[str, str]) -> Extent | None:
    """Return the extent of a 200 or 206 response, or None for a 206 without one consistent range and total."""
    length = headers.get("Content-Length", "").strip()
    size = int(length) if _DIGITS.fullmatch(length) else None
    if status != 206:
        return Extent(0, size, size)
    match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if match is None:
        return None
    start, stop, total = int(match[1]), int(match[2]) + 1, int(match[3])
    return Extent(start, stop, total) if start < stop <= total and size in (None, stop - start) else None


def strong_etag(headers: Mapping[str, str]) -> str | None:
    """Return the ETag if it is strong, and so names one version byte for byte (RFC 9110, 8.8.1), else None.

    A Last-Modified is not used instead: a 206 need not repeat it, so two versions could be joined unnoticed.
    """
    etag = headers.get("ETag", "").strip()
    return etag if STRONG_ETAG.fullmatch(etag) else None

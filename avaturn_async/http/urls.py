"""Validate where requests go and what they carry, before any is sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address

import aiohttp
from yarl import URL

from ..errors import ConfigurationError
from ..redact import Secret, SecretUrl, SignedUrl

__all__ = [
    "check_upload_url",
    "is_loopback",
    "parse_base_url",
    "parse_headers",
    "parse_proxy",
    "parse_token",
    "sent_to",
]

_VISIBLE_ASCII = r"[\x21-\x7e]+"
_URL = r"[^\x00-\x20\x7f]+"
_HEADER_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, 5.6.2
_HEADER_VALUE = r"[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?"  # RFC 9110, 5.5
_OWN_HEADERS = frozenset({"authorization", "host", "content-length", "content-type", "transfer-encoding"})


def parse_token(token: Secret) -> Secret:
    """Return the Authorization header for an API token, or raise ConfigurationError without showing the token."""
    if not token:
        raise ConfigurationError("the API token is empty")
    if not re.fullmatch(_VISIBLE_ASCII, token):
        raise ConfigurationError("the API token contains a character that no token has, such as a space or a line end")
    return Secret(f"Bearer {token}")


def parse_base_url(text: str, *, allow_http: bool) -> URL:
    """Return an absolute url without a trailing slash, or raise ConfigurationError."""
    _check_absolute(text, "base_url")
    if "?" in text or "#" in text:
        raise ConfigurationError(f"base_url must have no query and no fragment: {_shown(text)}")
    url = URL(text)
    if url.scheme == "http" and not allow_http and not is_loopback(url):
        raise ConfigurationError(
            f"base_url {_shown(text)} would send the token in the clear: use https, or set allow_http=True"
        )
    return url.with_path(url.raw_path.rstrip("/"), encoded=True)


def check_upload_url(text: SecretUrl, *, allow_http: bool) -> None:
    """Raise ConfigurationError unless photos can be uploaded to an absolute url, and not in the clear."""
    _check_absolute(text, "upload_url")
    if not allow_http and text[:5].lower() == "http:":
        raise ConfigurationError(
            f"upload_url {_shown(text)} would send the photos in the clear: it must be https, like base_url"
        )


def parse_proxy(proxy: SignedUrl | None) -> SignedUrl | None:
    """Return the url of an HTTP proxy, or raise ConfigurationError if aiohttp can't use it."""
    if proxy is not None and not _has_host(proxy, "http", "https"):
        raise ConfigurationError(
            f"proxy must be an http or https url such as http://proxy.example:3128, not {_shown(proxy)};"
            " for SOCKS, pass a session with a connector of its own"
        )
    return proxy


def parse_headers(headers: Mapping[str, Secret]) -> dict[str, Secret]:
    """Check the client's additional headers, or raise ConfigurationError without showing a value: it may be a key."""
    for name, value in headers.items():
        if not isinstance(name, str) or not re.fullmatch(_HEADER_NAME, name):
            raise ConfigurationError(f"header name {name!r:.80} is not valid")
        if name.lower() in _OWN_HEADERS:
            raise ConfigurationError(f"header {name} is set by the client")
        if not isinstance(value, Secret) or not re.fullmatch(_HEADER_VALUE, value):
            raise ConfigurationError(f"the value of header {name} must be a non-empty str without control characters")
    return dict(headers)


def is_loopback(url: URL) -> bool:
    """Say whether the host of a url is this machine, by its name or address alone."""
    if url.host == "localhost":
        return True
    try:
        return ip_address(url.host or "").is_loopback
    except ValueError:
        return False


def _check_absolute(text: str, name: str) -> None:
    if not _has_host(text, "http", "https"):
        raise ConfigurationError(f"{name} must be an http or https url with a host, not {_shown(text)}")
    if URL(text).raw_authority.rpartition("@")[1]:
        raise ConfigurationError(f"{name} must have no user or password in it: {_shown(text)}")


def _has_host(text: object, *schemes: str) -> bool:
    """Say whether a text is an absolute url; a url object would show its query in tracebacks with locals."""
    try:
        if not isinstance(text, str) or not re.fullmatch(_URL, text):
            return False
        url = URL(text)
        return url.scheme in schemes and bool(url.host) and bool(url.port)
    except ValueError:
        return False


def _shown(text: object) -> str:
    if not isinstance(text, str):
        return type(text).__name__
    return repr(text if isinstance(text, SecretUrl) else SignedUrl(text[:200]))


def sent_to(url: SignedUrl | SecretUrl) -> aiohttp.ClientMiddlewareType:
    """Return a middleware that sends a request to `url`, of which the session was given no more than may be shown.

    Whatever traces a session (OpenTelemetry, Sentry) exports the url that the session is given, and the texts of the
    errors that leave its middlewares.
    """

    async def send(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        shown, request.url = request.url, URL(str(url), encoded=url.isascii() and " " not in url).with_fragment(None)
        try:
            return await handler(request)
        except aiohttp.ConnectionTimeoutError:
            error: aiohttp.ClientError = aiohttp.ConnectionTimeoutError(f"Connection timeout to host {shown}")
        except aiohttp.ClientConnectorError:
            raise  # its text names host and port
        except aiohttp.ClientOSError as broken:
            error = type(broken)(broken.errno, "connection broken")
        raise error

    return send

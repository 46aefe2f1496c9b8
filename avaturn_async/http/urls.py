"""Check where requests go, and what they carry, before any is made."""

from __future__ import annotations

import re
from ipaddress import ip_address

from yarl import URL

from ..errors import ConfigurationError
from ..redact import Secret, without_query

__all__ = ["base_url_of", "bearer_of", "is_loopback", "upload_url_of"]

_TOKEN = re.compile(r"[\x21-\x7e]+")
_URL = re.compile(r"[^\x00-\x20\x7f]+")


def bearer_of(token: Secret | None) -> Secret:
    """Return the Authorization header's value, or raise ConfigurationError without showing the token."""
    if token is None:
        raise ConfigurationError("the API token must be a str")
    if not token:
        raise ConfigurationError("the API token is empty")
    if not _TOKEN.fullmatch(token):
        raise ConfigurationError(
            "the API token has a character in it that no token has: a space, a line end or the like"
        )
    return Secret(f"Bearer {token}")


def base_url_of(text: str, *, allow_http: bool) -> URL:
    """Return `text` as an absolute url without a slash at its end, or raise ConfigurationError."""
    url = _absolute(text, "base_url", encoded=False)
    if "?" in text or "#" in text:
        raise ConfigurationError(f"base_url must have no query and no fragment: {_shown(text)}")
    if url.scheme == "http" and not allow_http and not is_loopback(url):
        raise ConfigurationError(
            f"base_url {_shown(text)} would send the token in the clear: use https, or set allow_http=True"
        )
    return url.with_path(url.raw_path.rstrip("/"), encoded=True)


def upload_url_of(text: str, *, allow_http: bool) -> URL:
    """Return `text` as an absolute url to upload photos to, or raise ConfigurationError.

    It stays as it is, to the letter: a signature in it may cover the spelling.
    """
    url = _absolute(text, "upload_url", encoded=True)
    if url.scheme == "http" and not allow_http:
        raise ConfigurationError(
            f"upload_url {_shown(text)} would send the photos in the clear: it must be https, as base_url is"
        )
    return url


def _absolute(text: str, name: str, *, encoded: bool) -> URL:
    url = _parse(text, encoded=encoded)
    if url is None or url.scheme not in ("http", "https"):
        raise ConfigurationError(f"{name} must be an http or https url with a host, not {_shown(text)}")
    if url.raw_user is not None or url.raw_password is not None:
        raise ConfigurationError(f"{name} must have no user or password in it: {_shown(text)}")
    return url


def _parse(text: str, *, encoded: bool) -> URL | None:
    if not isinstance(text, str) or not _URL.fullmatch(text):
        return None
    try:
        url = URL(text, encoded=encoded and text.isascii())
        return url if url.host and url.port else None
    except ValueError:
        return None


def is_loopback(url: URL) -> bool:
    """Say whether a url leads to this machine by its host's name or address alone."""
    if url.host == "localhost":
        return True
    try:
        return ip_address(url.host or "").is_loopback
    except ValueError:
        return False


def _shown(text: object) -> str:
    return repr(without_query(text)[:200]) if isinstance(text, str) else type(text).__name__

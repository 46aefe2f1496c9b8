"""Verify that a webhook comes from Avaturn, and keep path secrets out of the logs of web servers and frameworks."""

from __future__ import annotations

import base64
import copy
import hmac
import logging
import re
import threading
from collections.abc import Iterable, Mapping
from typing import Any, Protocol
from urllib.parse import quote, unquote
from weakref import WeakKeyDictionary

from ..redact import Secret

__all__ = ["BasicAuth", "PathSecret", "Unauthenticated", "Verifier", "mask_in_access_logs"]

_SECRET = re.compile(r"[A-Za-z0-9_-]{22,}")

LOGGERS = (
    *("aiohttp.access", "uvicorn.access", "hypercorn.access", "granian.access", "gunicorn.access"),
    *("werkzeug", "django.server"),  # the development servers of Flask and Django
    # What else names paths: refusals, failures, and requests at the level of debugging.
    *("django.request", "django.security.csrf", "litestar", "gunicorn.error", "uvicorn.asgi"),
)

_PRINTABLE = bytes(range(0x20, 0x7F))

_lock = threading.Lock()
_secrets: WeakKeyDictionary[object, tuple[Secret, ...]] = WeakKeyDictionary()


class Verifier(Protocol):
    """Decides whether a webhook is authentic.

    The contract documents no signature. An implementation can check one all the same: of a gateway that signs what it
    forwards, or of an Avaturn that does so one day.
    """

    def verify(self, body: bytes, *, path: str, headers: Mapping[str, str]) -> bool:
        """Return True for an authentic webhook; an exception counts as False.

        Args:
            body: the body, as received.
            path: the path of the request, or what is left of it where the framework removed a prefix.
            headers: the headers, with names in lower case.
        """


class PathSecret:
    """Requires a secret as the last segment of the url that is entered in the developer portal.

    The receiver masks it in the access logs of aiohttp, uvicorn, hypercorn, granian and gunicorn, where they are
    written by its own process. A proxy, load balancer or API gateway in front logs the path too: leave the path out of
    its log format, or use `BasicAuth`, whose credentials are in a header.

    Args:
        secrets: each at least 22 url-safe characters, such as ``secrets.token_urlsafe(16)``. The first is used in
            urls; the others are accepted as well, for rotation.
    """

    __slots__ = ("path", "secrets")

    def __init__(self, *secrets: str) -> None:
        known = tuple(_masked(secret) for secret in secrets)
        del secrets  # a traceback that shows locals shows only what is masked
        if not known:
            raise ValueError("PathSecret needs at least one secret")
        for number, secret in enumerate(known, 1):
            if not _SECRET.fullmatch(secret):
                shown = f"path secret {number}" if len(known) > 1 else "the path secret"
                raise ValueError(f"{shown} must be at least 22 characters of A-Z, a-z, 0-9, '-' and '_'")
        self.path: Secret = known[0]
        self.secrets: tuple[Secret, ...] = known

    def verify(self, body: bytes, *, path: str, headers: Mapping[str, str]) -> bool:
        """Compare the last segment of the path with every secret, in constant time; one trailing slash is ignored."""
        given = path.removesuffix("/").rpartition("/")[2].encode("utf-8", "replace")
        found = False
        for secret in self.secrets:
            found |= hmac.compare_digest(given, secret.encode())
        return found

    def __repr__(self) -> str:
        return f"<PathSecret, {len(getattr(self, 'secrets', ()))} known>"


class BasicAuth:
    """Requires HTTP Basic authentication (RFC 7617): the portal's url is ``https://user:password@host/...``."""

    __slots__ = ("_expected",)

    def __init__(self, user: str, password: str) -> None:
        user, password = _masked(user), _masked(password)
        if not user or ":" in user:
            raise ValueError("BasicAuth.user must not be empty and must not contain a colon")
        if not password:
            raise ValueError("BasicAuth.password must not be empty")
        self._expected = Secret(base64.b64encode(f"{user}:{password}".encode()).decode())

    def verify(self, body: bytes, *, path: str, headers: Mapping[str, str]) -> bool:
        """Compare the Authorization header, in constant time."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode("utf-8", "replace"), self._expected.encode())
        return scheme.lower() == "basic" and same

    def __repr__(self) -> str:
        return "<BasicAuth>"


def _masked(secret: object) -> Secret:
    """Return a str that tracebacks mask; anything but a str becomes an empty one, which its caller refuses."""
    return Secret(secret if isinstance(secret, str) else "")


class Unauthenticated:
    """Accepts every webhook. Anyone can forge one, so an event only triggers a poll, and renders can't be awaited."""

    __slots__ = ()

    def verify(self, body: bytes, *, path: str, headers: Mapping[str, str]) -> bool:
        """Accept the webhook."""
        return True

    def __repr__(self) -> str:
        return "<Unauthenticated>"


def mask_in_access_logs(owner: object, secrets: Iterable[Secret]) -> None:
    """Mask `secrets` in what the loggers of web servers in this process write, for as long as `owner` lives.

    The filter survives a later configuration by `logging.config`, which replaces handlers only.
    """
    with _lock:
        _secrets[owner] = tuple(secrets)
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_mask_record)


def _mask_record(record: logging.LogRecord) -> bool:
    """Mask secrets in a record: in its message, its arguments and the fields that the server added."""
    with _lock:
        known = {secret for secrets in _secrets.values() for secret in secrets}
    if known:
        fields = vars(record)
        fields |= {name: _mask(value, known) for name, value in fields.items()}
    return True


def _mask(value: Any, secrets: set[Secret]) -> Any:
    """Return `value`, or a copy with masked text; its type stays, since formatters rely on it."""
    if isinstance(value, str):
        for secret in secrets:
            if secret in value:
                value = value.replace(secret, "***")
            if "%" in value and secret in (decoded := unquote(value)):  # some servers log the path as it was sent
                value = quote(decoded.replace(secret, "***"), safe=_PRINTABLE, errors="backslashreplace")
    elif isinstance(value, bytes):
        text = value.decode("latin-1")
        value = value if (masked := _mask(text, secrets)) == text else masked.encode("latin-1")
    elif isinstance(value, tuple):
        items = tuple(_mask(item, secrets) for item in value)
        return value if items == value else items  # a named tuple stays one
    elif isinstance(value, dict):
        masked = {name: _mask(item, secrets) for name, item in value.items()}
        if masked != value:
            value = copy.copy(value)
            value.update(masked)
    return value

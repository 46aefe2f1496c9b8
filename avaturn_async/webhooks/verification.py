"""Tell Avaturn's webhooks from forged ones."""

from __future__ import annotations

import base64
import hmac
import re
from typing import TYPE_CHECKING, Protocol

from ..redact import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BasicAuth", "PathSecret", "Unauthenticated", "Verifier"]

_SECRET = re.compile(r"[A-Za-z0-9_-]{22,}")


class Verifier(Protocol):
    """Says whether a webhook is authentic.

    Avaturn documents no signature; the protocol can carry one all the same, of a gateway that signs or one to come.
    """

    def verify(self, body: bytes, *, path: str, headers: Mapping[str, str]) -> bool:
        """Return True for an authentic webhook; whatever this raises is a refusal.

        Args:
            body: the body as it came.
            path: the path that was asked for, or what the framework left of it.
            headers: the headers, their names in lower case.
        """


class PathSecret:
    """The secret is the last segment of the url that is entered in the developer portal.

    Args:
        secrets: each at least 22 url-safe characters, such as ``secrets.token_urlsafe(16)``. The first is the one
            that urls are made with; the others are still accepted, for rotation.
    """

    __slots__ = ("_known", "path")

    def __init__(self, *secrets: str) -> None:
        known = tuple(_masked(secret) for secret in secrets)
        del secrets  # a traceback that shows locals shows only what is masked
        if not known:
            raise ValueError("PathSecret needs at least one secret")
        for number, secret in enumerate(known, 1):
            if not _SECRET.fullmatch(secret):
                raise ValueError(f"path secret {number} must be at least 22 characters of A-Z, a-z, 0-9, '-' and '_'")
        self.path = known[0]
        self._known = known

    def verify(self, body: bytes, *, path: str, headers: Mapping[str, str]) -> bool:
        """Compare the path's last segment with every secret, in constant time."""
        given = path.rpartition("/")[2]
        if not given.isascii():  # it is none of ours, and can't be compared
            return False
        found = False
        for secret in self._known:
            found |= hmac.compare_digest(given, secret)
        return found

    def __repr__(self) -> str:
        return f"<PathSecret, {len(getattr(self, '_known', ()))} known>"


class BasicAuth:
    """HTTP Basic authentication (RFC 7617): the url entered in the portal is ``https://user:password@host/...``."""

    __slots__ = ("_expected",)

    def __init__(self, user: str, password: str) -> None:
        user, password = _masked(user), _masked(password)
        if not user or ":" in user:
            raise ValueError("BasicAuth.user must not be empty and must not have a colon in it")
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
    """Return a secret that shows nowhere; what is no str becomes an empty one, which is then refused."""
    return Secret(secret if isinstance(secret, str) else "")


class Unauthenticated:
    """Accept every webhook as a mere hint: it wakes a read, within a budget, and proves nothing."""

    __slots__ = ()

    def verify(self, body: bytes, *, path: str, headers: Mapping[str, str]) -> bool:
        """Accept it."""
        return True

    def __repr__(self) -> str:
        return "<Unauthenticated>"

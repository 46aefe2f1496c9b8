"""Keep secrets out of everything that prints values: tracebacks with locals, logs, reprs.

The classes are subclasses of str and bytes that behave like their bases except for `repr`, and except that a slice is
masked too: traceback printers cut long values before they call `repr`.
"""

from __future__ import annotations

import re
from typing import Any, SupportsIndex, final

__all__ = [
    "MaskedBytes",
    "Secret",
    "SecretUrl",
    "SignedUrl",
    "mask_links",
    "origin_of",
    "without_queries",
    "without_query",
]

_USERINFO = r"(?<=://)[^/\s@]+@"
_QUERY = r"""(/[^\s?#"'<>]*)[?#][^\s"'<>]+"""


@final
class Secret(str):
    """A str whose repr is ``'***'``."""

    __slots__ = ()

    def __getitem__(self, key: SupportsIndex | slice) -> Secret:
        return Secret(super().__getitem__(key))

    def __repr__(self) -> str:
        return "'***'"


@final
class SignedUrl(str):
    """A url whose repr shows no query, fragment or userinfo: the parts of a signed link that give access."""

    __slots__ = ()

    def __getitem__(self, key: SupportsIndex | slice) -> SignedUrl:
        return SignedUrl(super().__getitem__(key))

    def __repr__(self) -> str:
        return repr(without_query(self))


@final
class SecretUrl(str):
    """A url whose repr shows scheme and host alone, for links whose path gives access too."""

    __slots__ = ()

    def __getitem__(self, key: SupportsIndex | slice) -> SecretUrl:
        return SecretUrl(super().__getitem__(key))

    def __repr__(self) -> str:
        return repr(origin_of(self))


@final
class MaskedBytes(bytes):
    """A body whose repr is its size: it may hold signed links or photos."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return MaskedBytes(found) if isinstance(found, bytes) else found

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


def mask_links(value: Any) -> Any:
    """Return JSON values with each string that has a query or userinfo turned into a `SignedUrl`."""
    if isinstance(value, str) and not isinstance(value, Secret | SecretUrl):
        return SignedUrl(value) if "?" in value or "@" in value else value
    if isinstance(value, dict):
        return {mask_links(key): mask_links(item) for key, item in value.items()}
    if isinstance(value, list):
        return [mask_links(item) for item in value]
    return value


def without_query(url: str) -> str:
    """Return `url` without query, fragment and userinfo."""
    head = str(url).partition("#")[0].partition("?")[0]
    scheme, separator, rest = head.partition("://")
    if not separator:
        return head
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"


def without_queries(text: str) -> str:
    """Return a message without the query, fragment and userinfo of any url or path that it quotes."""
    return re.sub(_QUERY, r"\1", re.sub(_USERINFO, "", text))


def origin_of(url: str) -> str:
    """Return scheme and host of `url` and an ellipsis."""
    scheme, separator, rest = without_query(url).partition("://")
    return f"{scheme}://{rest.split('/', 1)[0]}/..." if separator else "..."

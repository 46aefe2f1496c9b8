"""Keep secrets out of whatever prints values: tracebacks, logs, reprs."""

from __future__ import annotations

from typing import final

__all__ = ["MaskedBytes", "Secret", "SignedUrl", "origin_of", "without_query"]

MASK = "'***'"


@final
class Secret(str):
    """A str whose repr is masked, so that a traceback printer that shows locals shows ``'***'``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return MASK


@final
class SignedUrl(str):
    """A url whose repr shows neither query nor fragment nor userinfo, the parts of a signed link that give access."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(without_query(self))


@final
class MaskedBytes(bytes):
    """A body whose repr tells its size alone: it may hold signed links or photos."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


def without_query(url: str) -> str:
    """Return `url` without its query, fragment and userinfo: the parts of a temporary link that give access."""
    head = url.split("#", 1)[0].split("?", 1)[0]
    scheme, separator, rest = head.partition("://")
    if not separator:
        return head
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"


def origin_of(url: str) -> str:
    """Return the scheme and host of `url` and an ellipsis, where its path gives access too."""
    shown = without_query(url)
    scheme, separator, rest = shown.partition("://")
    return f"{scheme}://{rest.split('/', 1)[0]}/..." if separator else "..."

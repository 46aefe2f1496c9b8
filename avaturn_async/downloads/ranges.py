"""Which bytes of a file a response holds, and which version of it (RFC 9110). No I/O."""

import re
from collections.abc import Mapping

import attrs

__all__ = ["STRONG_ETAG", "Extent", "extent", "strong_etag"]

_DIGITS = re.compile(r"[0-9]{1,18}")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")
STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')


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

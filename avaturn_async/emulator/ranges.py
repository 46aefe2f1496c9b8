"""Byte ranges of downloads, as RFC 9110 has them."""

import re
from collections.abc import Mapping

__all__ = ["UnsatisfiableError", "span"]

# int() refuses more digits than these.
RANGE = re.compile(r"bytes=(\d{0,4000})-(\d{0,4000})", re.ASCII | re.IGNORECASE)


class UnsatisfiableError(Exception):
    """No byte of the range exists."""


def span(headers: Mapping[str, str], *, length: int, etag: str) -> range | None:
    """Return the positions that a GET asks for, or None for the whole.

    A range is not looked at when it is malformed, one of several, or bound by If-Range to another ETag. Raise
    `UnsatisfiableError` where a 416 is due.
    """
    match = RANGE.fullmatch(headers.get("Range", "").replace(" ", ""))
    if match is None or headers.get("If-Range", etag) != etag:
        return None
    first, last = (int(digits) if digits else None for digits in match.groups())
    if first is None:
        return None if last is None else _satisfied(max(0, length - last), length, length)
    if last is not None and last < first:
        return None
    return _satisfied(first, length if last is None else last + 1, length)


def _satisfied(start: int, stop: int, length: int) -> range:
    if start >= length:
        raise UnsatisfiableError
    return range(start, min(stop, length))

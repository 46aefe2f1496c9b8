"""What an answer says about the bytes in it: position, length and validator (RFC 9110). No I/O."""

import re
from collections.abc import Mapping
from datetime import timedelta

import attrs

from ..http.dates import http_date

__all__ = ["Extent", "extent", "validator"]

_DIGITS = re.compile(r"[0-9]{1,18}")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')


@attrs.frozen
class Extent:
    """Where an answer's body lies in the whole file, in bytes.

    Attributes:
        start: the position of its first byte.
        stop: the position after its last byte, or None where that is not said.
        total: the length of the whole file, or None where that is not said.
    """

    start: int
    stop: int | None
    total: int | None


def extent(status: int, headers: Mapping[str, str]) -> Extent | None:
    """Read the extent of a 200 or 206 answer, or None where a 206 does not say one that makes sense."""
    length = _number(headers.get("Content-Length", ""))
    if status != 206:
        return Extent(0, length, length)
    match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if match is None:
        return None
    start, stop = int(match[1]), int(match[2]) + 1
    total = _number(match[3])
    sane = start < stop and (total is None or stop <= total) and length in (None, stop - start)
    return Extent(start, stop, total) if sane else None


def validator(headers: Mapping[str, str]) -> str | None:
    """Return what If-Range may name: a strong ETag, else a Last-Modified that is one (RFC 9110, 8.8.2.2), else None."""
    etag = headers.get("ETag", "").strip()
    if etag:
        return etag if _STRONG_ETAG.fullmatch(etag) else None
    modified, sent = http_date(headers.get("Last-Modified", "")), http_date(headers.get("Date", ""))
    if modified is None or sent is None or sent - modified < timedelta(seconds=1):
        return None
    return headers["Last-Modified"].strip()


def _number(text: str) -> int | None:
    digits = text.strip()
    return int(digits) if _DIGITS.fullmatch(digits) else None

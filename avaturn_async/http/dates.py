"""The times in an answer's headers: dates, and when to come back (RFC 9110)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["http_date", "retry_after"]

_DELTA_SECONDS = re.compile(r"[+-]?[0-9]{1,300}(?:\.[0-9]*)?")


def http_date(text: str) -> datetime | None:
    """Return the moment of a Date or Last-Modified (RFC 9110, 5.6.7), or None where it is none."""
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that Retry-After asks for (RFC 9110, 10.2.3), or None where it is not there or makes no sense.

    A date is measured from the answer's own Date, so that a clock that is wrong here does no harm.
    """
    asked = headers.get("Retry-After", "").strip()
    if _DELTA_SECONDS.fullmatch(asked):
        return max(0.0, float(asked))
    until = http_date(asked)
    if until is None:
        return None
    since = http_date(headers.get("Date", "")) or datetime.now(UTC)
    return max(0.0, (until - since).total_seconds())

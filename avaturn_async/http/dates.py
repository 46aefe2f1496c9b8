"""Dates and delays in the headers of a response (RFC 9110)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["http_date", "retry_after"]

_DELTA_SECONDS = r"[+-]?[0-9]{1,300}(?:\.[0-9]*)?"


def http_date(text: str) -> datetime | None:
    """Parse a Date or Last-Modified header (RFC 9110, 5.6.7); return None if it is malformed."""
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a Retry-After header asks for (RFC 9110, 10.2.3), or None if missing or malformed.

    A date is measured from the response's own Date header, so that a wrong local clock does no harm.
    """
    asked = headers.get("Retry-After", "").strip()
    if re.fullmatch(_DELTA_SECONDS, asked):
        return max(0.0, float(asked))
    until = http_date(asked)
    if until is None:
        return None
    since = http_date(headers.get("Date", "")) or datetime.now(UTC)
    return max(0.0, (until - since).total_seconds())

"""How long a request waits before it is sent, or sent again: slots, the rate limit, hold-backs and retries."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Self

from ..config import RateLimit

__all__ = ["Throttle", "backoff", "retry_after"]

_DELTA_SECONDS = r"[+-]?[0-9]{1,300}(?:\.[0-9]*)?"


def backoff(failures: int, *, base: float, cap: float) -> float:
    """Return a random delay in seconds after so many failures in a row: exponential backoff with full jitter.

    The delay is below a bound that is `base` after the first failure and doubles with each, up to `cap`.
    """
    from tenacity import AsyncRetrying, RetryCallState, wait_random_exponential  # only once something failed

    state = RetryCallState(AsyncRetrying(), None, (), {})
    state.attempt_number = failures
    return wait_random_exponential(multiplier=base, max=cap)(state)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a Retry-After header asks for (RFC 9110, 10.2.3), or None if missing or malformed.

    A date is measured from the response's own Date header, so that a wrong local clock does no harm.
    """
    asked = headers.get("Retry-After", "").strip()
    if re.fullmatch(_DELTA_SECONDS, asked):
        return max(0.0, float(asked))
    until = _http_date(asked)
    if until is None:
        return None
    since = _http_date(headers.get("Date", "")) or datetime.now(UTC)
    return max(0.0, (until - since).total_seconds())


def _http_date(text: str) -> datetime | None:
    """Parse a date of HTTP (RFC 9110, 5.6.7); return None if it is malformed."""
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


class Throttle:
    """A context manager around each request to the API; requests enter in the order in which they ask.

    Of the requests that have a slot, only the first in the queue waits for the rate limit or the end of a hold-back.

    Args:
        slots: requests sent at once.
        rate: at most this many requests, evenly spaced.
        sleep: sleeps for a number of seconds, or raises once waiting is pointless.
    """

    def __init__(self, slots: int, rate: RateLimit | None, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._slots = asyncio.Semaphore(slots)
        self._queue = asyncio.Lock()
        self._spacing = rate.per_seconds / rate.requests if rate else 0.0
        self._opens_at = 0.0 if rate else -math.inf  # on the loop's clock
        self._sleep = sleep

    async def __aenter__(self) -> Self:
        await self._slots.acquire()
        if self._opens_at == -math.inf:  # nothing was ever held back
            return self
        try:
            async with self._queue:
                while (delay := self.remaining()) > 0:
                    await self._sleep(delay)
                if self._spacing:
                    self._opens_at = asyncio.get_running_loop().time() + self._spacing
        except BaseException:
            self._slots.release()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._slots.release()

    def hold(self, seconds: float) -> None:
        """Let no request enter for a number of seconds."""
        self._opens_at = max(self._opens_at, asyncio.get_running_loop().time() + seconds)

    def remaining(self) -> float:
        """Return the seconds until the next request may enter; none if not positive."""
        return self._opens_at - asyncio.get_running_loop().time()

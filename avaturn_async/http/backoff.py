"""Delays between attempts."""

from __future__ import annotations

__all__ = ["backoff"]


def backoff(failures: int, *, base: float, cap: float) -> float:
    """Return a random delay in seconds after so many failures in a row: exponential backoff with full jitter.

    The delay is below a bound that is `base` after the first failure and doubles with each, up to `cap`.
    """
    from tenacity import AsyncRetrying, RetryCallState, wait_random_exponential  # only once something failed

    state = RetryCallState(AsyncRetrying(), None, (), {})
    state.attempt_number = failures
    return wait_random_exponential(multiplier=base, max=cap)(state)

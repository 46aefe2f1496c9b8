"""Delays between attempts."""

from __future__ import annotations

import pytest

from avaturn_async.http.delays import backoff


@pytest.mark.parametrize(("failures", "bound"), [(1, 0.5), (2, 1), (3, 2), (5, 8), (6, 8), (100_000, 8)])
def test_a_delay_is_below_a_bound_that_doubles(failures: int, bound: float) -> None:
    """Up to the cap, and anywhere below it."""
    delays = [backoff(failures, base=0.5, cap=8) for _ in range(300)]
    assert 0 <= min(delays) < bound / 4
    assert bound * 3 / 4 < max(delays) <= bound


def test_no_delay() -> None:
    """A base of zero repeats at once."""
    assert 0 == backoff(3, base=0, cap=8)

"""Settings: their defaults are the documented ones, and nonsense is refused where it is made."""

from __future__ import annotations

import math
import re
from typing import Any

import attrs
import pytest

from avaturn_async import PollPolicy, RateLimit, RetryPolicy, Timeouts

SECONDS = [(Timeouts, "connect"), (Timeouts, "total"), (PollPolicy, "first"), (PollPolicy, "cap")]
SECONDS += [(PollPolicy, "first_with_webhooks"), (Timeouts, "upload")]
OR_ZERO = [(RetryPolicy, "base"), (RetryPolicy, "cap"), (RetryPolicy, "retry_after_cap")]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Timeouts(), {"connect": 5, "total": 30, "upload": 300}),
        (RetryPolicy(), {"attempts": 3, "base": 0.5, "cap": 8, "retry_after_cap": 60}),
        (PollPolicy(), {"first": 2, "factor": 1.5, "cap": 6, "jitter": 0.1, "first_with_webhooks": 15, "wait": None}),
        (RateLimit(5), {"requests": 5, "per_seconds": 1}),
        (RateLimit(5, 60), {"requests": 5, "per_seconds": 60}),
    ],
)
def test_defaults(settings: Any, expected: dict[str, float]) -> None:
    """They are those that the documentation says."""
    assert expected == attrs.asdict(settings)


@pytest.mark.parametrize("settings", [Timeouts(), RetryPolicy(), PollPolicy(), RateLimit(1)])
def test_settings_are_frozen(settings: Any) -> None:
    """One object may be shared by clients."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        settings.extra = 1


@pytest.mark.parametrize(("kind", "name"), SECONDS)
@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan, 1e308, 10**400])
def test_seconds_are_positive_and_bounded(kind: type[Any], name: str, value: float) -> None:
    """The message names the setting, the bound and the value."""
    with pytest.raises(ValueError, match=rf"'{name}' must be (> 0|<= 31622400)\.0: {re.escape(str(value))}"):
        kind(**{name: value})


@pytest.mark.parametrize(("kind", "name"), OR_ZERO)
@pytest.mark.parametrize("value", [-0.1, math.inf, math.nan, 1e308])
def test_delays_may_be_zero_but_not_less(kind: type[Any], name: str, value: float) -> None:
    """Zero means without delay."""
    assert 0 == getattr(kind(**{name: 0}), name)
    with pytest.raises(ValueError, match=rf"'{name}' must be (>= 0|<= 31622400)\.0: "):
        kind(**{name: value})


@pytest.mark.parametrize(("kind", "name"), [*SECONDS, *OR_ZERO, (PollPolicy, "factor"), (PollPolicy, "jitter")])
@pytest.mark.parametrize("value", ["1", None, True])
def test_numbers_are_numbers(kind: type[Any], name: str, value: Any) -> None:
    """A text from a configuration file is refused, not compared."""
    with pytest.raises(TypeError, match=rf"{kind.__name__}\.{name} must be a number, not {value!r}"):
        kind(**{name: value})


@pytest.mark.parametrize("make", [lambda value: RetryPolicy(attempts=value), RateLimit], ids=["attempts", "requests"])
@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_counts_are_positive_integers(make: Any, value: Any, error: type[Exception]) -> None:
    """Neither a fraction nor a bool is a count."""
    with pytest.raises(error, match=r"must be (>= 1: |an integer, not )"):
        make(value)


@pytest.mark.parametrize("value", [0.9, 0, math.inf, math.nan])
def test_polls_never_speed_up(value: float) -> None:
    """The factor between two delays is at least 1."""
    with pytest.raises(ValueError, match=r"'factor' must be (>= 1|<= 100)\.0: "):
        PollPolicy(factor=value)


@pytest.mark.parametrize("value", [-0.1, 1, 2, math.nan])
def test_jitter_is_a_share(value: float) -> None:
    """A delay is never spread down to nothing."""
    with pytest.raises(ValueError, match=r"'jitter' must be (>= 0|< 1)\.0: "):
        PollPolicy(jitter=value)


@pytest.mark.parametrize("value", [1, "no"])
def test_a_wait_strategy_is_callable(value: Any) -> None:
    """Anything else is refused when the policy is made."""
    with pytest.raises(TypeError, match=r"'wait' must be callable"):
        PollPolicy(wait=value)

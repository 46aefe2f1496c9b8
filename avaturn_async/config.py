"""Settings, validated when they are made."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import attrs

__all__ = ["CLIENT_DEFAULT", "ClientDefault", "PollPolicy", "RateLimit", "RetryPolicy", "Timeouts"]


def _seconds(instance: Any, attribute: attrs.Attribute[Any], value: float) -> None:
    _number(instance, attribute, value)
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{_name(instance, attribute)} must be a positive number of seconds, not {value!r}")


def _seconds_or_zero(instance: Any, attribute: attrs.Attribute[Any], value: float) -> None:
    _number(instance, attribute, value)
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{_name(instance, attribute)} must be zero or a positive number of seconds, not {value!r}")


def _number(instance: Any, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{_name(instance, attribute)} must be a number, not {value!r}")


def _count(instance: Any, attribute: attrs.Attribute[Any], value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{_name(instance, attribute)} must be a whole number, not {value!r}")
    if value < 1:
        raise ValueError(f"{_name(instance, attribute)} must be at least 1, not {value!r}")


def _factor(instance: Any, attribute: attrs.Attribute[Any], value: float) -> None:
    _number(instance, attribute, value)
    if not (value >= 1 and math.isfinite(value)):
        raise ValueError(f"{_name(instance, attribute)} must be at least 1, not {value!r}")


def _share(instance: Any, attribute: attrs.Attribute[Any], value: float) -> None:
    _number(instance, attribute, value)
    if not 0 <= value < 1:
        raise ValueError(f"{_name(instance, attribute)} must be at least 0 and less than 1, not {value!r}")


def _name(instance: Any, attribute: attrs.Attribute[Any]) -> str:
    return f"{type(instance).__name__}.{attribute.name}"


@attrs.frozen(kw_only=True)
class Timeouts:
    """Limits of one HTTP attempt, in seconds.

    Attributes:
        connect: for the TCP and TLS connection to one address.
        total: for the whole attempt, from when a connection slot is granted. Waits for a slot, for the rate limit or
            for a hold-back after a 429 are not counted.
        upload: the same for an upload of photos, which are megabytes on a line that may be slow.
    """

    connect: float = attrs.field(default=5.0, validator=_seconds)
    total: float = attrs.field(default=30.0, validator=_seconds)
    upload: float = attrs.field(default=300.0, validator=_seconds)


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How often and when a failed request is repeated.

    Attributes:
        attempts: the most times that a request is sent; 1 never repeats.
        base: seconds; before attempt n + 1 comes a random delay between 0 and ``base * 2 ** (n - 1)``.
        cap: seconds that such a delay never exceeds.
        retry_after_cap: seconds up to which the API's Retry-After is obeyed; beyond it the error is raised at once.
    """

    attempts: int = attrs.field(default=3, validator=_count)
    base: float = attrs.field(default=0.5, validator=_seconds_or_zero)
    cap: float = attrs.field(default=8.0, validator=_seconds_or_zero)
    retry_after_cap: float = attrs.field(default=60.0, validator=_seconds_or_zero)


@attrs.frozen(kw_only=True)
class PollPolicy:
    """When a pending job is polled.

    The delays grow exponentially. For a job older than ``cap / 0.15`` seconds they are 15 % of its age, at most 15
    seconds, or `cap` if that is longer. Polls of one job are at least 0.5 seconds apart, or `first` if that is less.

    Attributes:
        first: seconds from the job's creation to the first poll.
        factor: each delay is this many times the one before.
        cap: the longest delay in seconds, before its jitter.
        jitter: the share of each delay over which it is spread at random: 0.1 is 5 % either way.
        first_with_webhooks: the shortest delay in seconds while this client's jobs are resolved by webhooks.
        wait: a tenacity wait strategy, or another callable from a ``RetryCallState`` to seconds, that replaces all of
            the above. The state has the number of requests so far, the time of the job's creation on the loop's
            clock, and the last outcome, which is a status or an exception.
    """

    first: float = attrs.field(default=2.0, validator=_seconds)
    factor: float = attrs.field(default=1.5, validator=_factor)
    cap: float = attrs.field(default=6.0, validator=_seconds)
    jitter: float = attrs.field(default=0.1, validator=_share)
    first_with_webhooks: float = attrs.field(default=15.0, validator=_seconds)
    wait: Callable[[Any], float] | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.is_callable())
    )


@attrs.frozen
class RateLimit:
    """At most `requests` in any `per_seconds`, evenly spaced, for everything that a client sends to the API."""

    requests: int = attrs.field(validator=_count)
    per_seconds: float = attrs.field(default=1.0, validator=_seconds)


class ClientDefault:
    """The type of `CLIENT_DEFAULT`, which stands for the client's own ``wait_timeout``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<the client's wait_timeout>"


#: The default of ``timeout`` parameters: use the client's ``wait_timeout``.
CLIENT_DEFAULT: Final = ClientDefault()

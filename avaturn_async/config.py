"""Settings, validated when they are made."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs
from attrs.validators import ge, gt, is_callable, le, lt, optional

if TYPE_CHECKING:
    from tenacity import RetryCallState

    WaitStrategy: TypeAlias = Callable[[RetryCallState], float]
else:  # importing tenacity would slow down the import of every client
    WaitStrategy = Callable[[Any], float]

__all__ = [
    "CLIENT_DEFAULT",
    "MAX_SECONDS",
    "ClientDefault",
    "PollPolicy",
    "RateLimit",
    "RetryPolicy",
    "Timeouts",
    "WaitStrategy",
]

#: A year, the largest number of seconds in any setting: event loops overflow on much larger ones.
MAX_SECONDS = 366 * 86_400.0


def _number(instance: Any, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{type(instance).__name__}.{attribute.name} must be a number, not {value!r:.80}")


def _integer(instance: Any, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{type(instance).__name__}.{attribute.name} must be an integer, not {value!r:.80}")


_COUNT = [_integer, ge(1)]
_SECONDS = [_number, gt(0.0), le(MAX_SECONDS)]
_SECONDS_OR_ZERO = [_number, ge(0.0), le(MAX_SECONDS)]


@attrs.frozen(kw_only=True)
class Timeouts:
    """Limits of one HTTP attempt, in seconds.

    Attributes:
        connect: for the TCP and TLS connection to one address.
        total: for the whole attempt. Waiting for a connection slot, the rate limit or the end of a hold-back after a
            429 does not count.
        upload: for a photo upload, the longest time without progress: no bytes accepted by the network or, once all
            are sent, no response. The operating system accepts up to some 4 MB ahead of the line, which takes 80
            seconds at 50 kB/s.
    """

    connect: float = attrs.field(default=5.0, validator=_SECONDS)
    total: float = attrs.field(default=30.0, validator=_SECONDS)
    upload: float = attrs.field(default=300.0, validator=_SECONDS)


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How often and when a failed request is sent again.

    Attributes:
        attempts: the most times that a request is sent; 1 disables retries.
        base: seconds; attempt n + 1 follows after a random delay between 0 and ``base * 2 ** (n - 1)``.
        cap: the longest such delay, in seconds.
        retry_after_cap: the longest Retry-After of a response that is obeyed, in seconds; on a longer one the error is
            raised immediately.
    """

    attempts: int = attrs.field(default=3, validator=_COUNT)
    base: float = attrs.field(default=0.5, validator=_SECONDS_OR_ZERO)
    cap: float = attrs.field(default=8.0, validator=_SECONDS_OR_ZERO)
    retry_after_cap: float = attrs.field(default=60.0, validator=_SECONDS_OR_ZERO)


@attrs.frozen(kw_only=True)
class PollPolicy:
    """When a pending job is polled.

    The delays grow exponentially. For a job older than ``cap / 0.15`` seconds they are 15 % of its age, at most 15
    seconds, or `cap` if that is longer. Polls of one job are at least 0.5 seconds apart, or `first` if that is less.

    Attributes:
        first: seconds from the job's creation to the first poll.
        factor: each delay is this many times the one before.
        cap: the longest delay in seconds, before its jitter.
        jitter: the most by which a delay is randomly shortened or lengthened, as a share of it: 0.1 is up to 10 %.
        first_with_webhooks: the shortest delay in seconds, before its jitter, while webhooks resolve the client's jobs.
        wait: a tenacity wait strategy, or another callable from a ``RetryCallState`` to seconds, that replaces all of
            the above. The state has the number of requests so far, the time of the job's creation on the loop's
            clock, and the last outcome, which is a status or an exception.
    """

    first: float = attrs.field(default=2.0, validator=_SECONDS)
    factor: float = attrs.field(default=1.5, validator=[_number, ge(1.0), le(100.0)])
    cap: float = attrs.field(default=6.0, validator=_SECONDS)
    jitter: float = attrs.field(default=0.1, validator=[_number, ge(0.0), lt(1.0)])
    first_with_webhooks: float = attrs.field(default=15.0, validator=_SECONDS)
    wait: WaitStrategy | None = attrs.field(default=None, validator=optional(is_callable()))


@attrs.frozen
class RateLimit:
    """At most `requests` in any `per_seconds`, evenly spaced, of everything that a client sends to the API."""

    requests: int = attrs.field(validator=_COUNT)
    per_seconds: float = attrs.field(default=1.0, validator=_SECONDS)


class ClientDefault:
    """The type of `CLIENT_DEFAULT`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<the client's wait_timeout>"


#: The default of ``timeout`` parameters: the client's ``wait_timeout``.
CLIENT_DEFAULT: Final = ClientDefault()

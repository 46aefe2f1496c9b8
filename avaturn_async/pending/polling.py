"""When a job is polled: the schedule, whether webhooks arrive, and a limit on unauthenticated events."""

from __future__ import annotations

import random
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from ..config import PollPolicy

if TYPE_CHECKING:
    from tenacity import RetryCallState

__all__ = ["PollSchedule", "UnauthenticatedLimiter", "WebhookHealth"]

#: Seconds between the starts of two polls of one job.
_SPACING: Final = 0.5
#: A job older than `cap / _AGE_SHARE` seconds is polled every `_AGE_SHARE` of its age ...
_AGE_SHARE: Final = 0.15
#: ... but at least this often, in seconds.
_LONGEST_DELAY: Final = 15.0
#: Bound in seconds for the delays of a user's strategy: event loops overflow on larger ones.
_LONGEST_CUSTOM_DELAY: Final = 86_400.0


class WebhookHealth:
    """Whether webhooks resolve this client's jobs: a moving average over the results.

    Attributes:
        working: whether they resolved more than half of the recent jobs.
    """

    __slots__ = ("_share", "working")

    WEIGHT: Final = 0.2

    def __init__(self) -> None:
        self._share = 0.0
        self.working: bool = False

    def record(self, *, by_webhook: bool) -> None:
        """Count one more resolved job."""
        self._share += self.WEIGHT * (by_webhook - self._share)
        self.working = self._share > 0.5


class PollSchedule:
    """The delays between polls, from the tenacity strategy of a `PollPolicy`.

    Attributes:
        spacing: seconds that two polls of one job are always apart.
    """

    def __init__(self, policy: PollPolicy, health: WebhookHealth, rng: random.Random | None = None) -> None:
        from tenacity import AsyncRetrying  # here, as importing a client must not take longer

        self._wait = policy.wait or _DefaultWait(policy, health, rng or random.Random())
        self._retrying = AsyncRetrying()
        self.spacing: float = min(_SPACING, policy.first)

    def delay(self, attempt: int, outcome: object, *, started: float, now: float) -> float:
        """Return the seconds until the next poll.

        Args:
            attempt: number of requests so far, counting the one that created the job.
            outcome: what the last of them brought: the job's status, or an exception.
            started: time of the job's creation on the loop's clock.
            now: time of the last outcome on the loop's clock.

        Raises:
            ValueError: the user's strategy returned something else than a number of seconds.
        """
        from tenacity import RetryCallState

        state = RetryCallState(self._retrying, None, (), {})
        state.attempt_number, state.start_time = attempt, started
        if isinstance(outcome, BaseException):
            state.set_exception((type(outcome), outcome, outcome.__traceback__))
        else:
            state.set_result(outcome)
        state.outcome_timestamp = now
        delay: Any = self._wait(state)
        if not isinstance(delay, int | float) or not delay >= 0:
            raise ValueError(f"PollPolicy.wait must return a number of seconds from 0, not {delay!r:.80}")
        return min(delay, _LONGEST_CUSTOM_DELAY)


class _DefaultWait:
    """Exponential delays that follow the job's age later on, and slow ones while webhooks work."""

    def __init__(self, policy: PollPolicy, health: WebhookHealth, rng: random.Random) -> None:
        from tenacity import wait_exponential

        self._policy = policy
        self._health = health
        self._random = rng
        self._exponential = wait_exponential(multiplier=policy.first, exp_base=policy.factor, max=policy.cap)

    def __call__(self, retry_state: RetryCallState) -> float:
        policy = self._policy
        delay = self._exponential(retry_state)
        aged = _AGE_SHARE * (retry_state.seconds_since_start or 0.0)
        if aged > policy.cap:
            delay = min(aged, max(policy.cap, _LONGEST_DELAY))
        if self._health.working:
            delay = max(delay, policy.first_with_webhooks)
        return delay * self._random.uniform(1 - policy.jitter, 1 + policy.jitter)


class UnauthenticatedLimiter:
    """Limits the polls that unauthenticated events trigger: anyone can send any number of them."""

    __slots__ = ("_last", "_recent")

    #: Seconds between two such polls of one key.
    PER_KEY: Final = 5.0
    #: Such polls a second, of all keys.
    PER_SECOND: Final = 10

    def __init__(self) -> None:
        self._last: OrderedDict[str, float] = OrderedDict()
        self._recent: list[float] = []

    def allow(self, key: str, now: float) -> bool:
        """Return whether an event of `key` may trigger a poll `now`, in seconds; count it if so."""
        while self._last and next(iter(self._last.values())) <= now - self.PER_KEY:
            self._last.popitem(last=False)
        self._recent = [moment for moment in self._recent if moment > now - 1]
        if key in self._last or len(self._recent) >= self.PER_SECOND:
            return False
        self._last[key] = now
        self._recent.append(now)
        return True

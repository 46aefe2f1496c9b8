"""Say when a pending job is looked at again, and how far webhooks are to be relied on."""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from tenacity import RetryCallState, wait_exponential

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from .config import PollPolicy

__all__ = ["CONFIRM_DELAYS", "HintBudget", "Pace", "RecentVersions", "WebhookEvidence"]

#: Seconds to further looks where an authenticated event says ready and the API still says pending.
CONFIRM_DELAYS = (0.5, 1.0, 2.0)


class WebhookEvidence:
    """Whether webhooks are seen to resolve this client's jobs: a moving share of the last few results."""

    __slots__ = ("_share",)

    WEIGHT = 0.2

    def __init__(self) -> None:
        self._share = 0.0

    def note(self, *, by_webhook: bool) -> None:
        """Take one more result into account."""
        self._share += self.WEIGHT * (by_webhook - self._share)

    @property
    def working(self) -> bool:
        """Say whether more than half of the results came by webhook lately."""
        return self._share > 0.5


class Pace:
    """The delays between looks, by tenacity's exponential strategy, with jitter."""

    __slots__ = ("_evidence", "_jitter", "_quick", "_random", "_slow")

    def __init__(self, policy: PollPolicy, evidence: WebhookEvidence, rng: random.Random | None = None) -> None:
        slow = policy.first_with_webhooks
        self._quick = wait_exponential(multiplier=policy.first, exp_base=policy.factor, max=policy.cap)
        self._slow = wait_exponential(multiplier=slow, exp_base=policy.factor, max=max(policy.cap, slow))
        self._jitter = policy.jitter
        self._evidence = evidence
        self._random = rng or random.Random()

    def delay(self, looks: int) -> float:
        """Return the seconds until the next look, where `looks` were made so far."""
        state = RetryCallState(None, None, (), {})  # type: ignore[arg-type]
        state.attempt_number = looks + 1
        strategy = self._slow if self._evidence.working else self._quick
        return strategy(state) * (1 + self._jitter * self._random.uniform(-1, 1))


class HintBudget:
    """Bound the reads that unauthenticated events can cause: one a key in 5 s, ten a second in all."""

    __slots__ = ("_clock", "_last", "_recent")

    EVERY = 5.0
    A_SECOND = 10

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: OrderedDict[Hashable, float] = OrderedDict()
        self._recent: list[float] = []

    def take(self, key: Hashable) -> bool:
        """Say whether a hint for `key` may cause a read now, and count it if so."""
        now = self._clock()
        self._forget(now)
        if key in self._last or len(self._recent) >= self.A_SECOND:
            return False
        self._last[key] = now
        self._recent.append(now)
        return True

    def _forget(self, now: float) -> None:
        while self._last and next(iter(self._last.values())) <= now - self.EVERY:
            self._last.popitem(last=False)
        self._recent = [moment for moment in self._recent if moment > now - 1]


class RecentVersions:
    """Remember which avatars got a new version after an export, while an event for the older one may still come.

    An event names no version (contract, ExportReadyWebhook), so a `failed` for such an avatar may be the older one's.
    """

    __slots__ = ("_clock", "_exported", "_revised")

    KEPT = 900.0
    LIMIT = 10_000

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._exported: OrderedDict[Hashable, float] = OrderedDict()
        self._revised: OrderedDict[Hashable, float] = OrderedDict()

    def exported(self, avatar: Hashable) -> None:
        """Note that an export of `avatar` was asked for."""
        self._note(self._exported, avatar)

    def revised(self, avatar: Hashable) -> None:
        """Note that the customization of `avatar` was set."""
        if avatar in self._exported:
            self._note(self._revised, avatar)

    def ambiguous(self, avatar: Hashable) -> bool:
        """Say whether an event for `avatar` may belong to a version that is no longer wanted."""
        return self._revised.get(avatar, -self.KEPT) > self._clock() - self.KEPT

    def _note(self, kept: OrderedDict[Hashable, float], avatar: Hashable) -> None:
        now = self._clock()
        kept[avatar] = now
        kept.move_to_end(avatar)
        while len(kept) > self.LIMIT or next(iter(kept.values())) <= now - self.KEPT:
            kept.popitem(last=False)

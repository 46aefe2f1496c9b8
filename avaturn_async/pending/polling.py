"""Say when a pending job is looked at again, and how far webhooks are to be relied on."""

from __future__ import annotations

import random
import time
from collections import OrderedDict, defaultdict, deque
from typing import TYPE_CHECKING

from tenacity import RetryCallState, wait_exponential

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from ..config import PollPolicy

__all__ = ["CONFIRM_DELAYS", "Durations", "HintBudget", "Pace", "WebhookEvidence"]

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


class Durations:
    """How long the jobs of one kind took lately, as far as this client could tell."""

    __slots__ = ("_ranked", "_recent")

    KEPT = 64
    ENOUGH = 5
    QUICK = 0.15
    #: Where already the first look sees a job over, how much of its age it is taken to have needed.
    UNSEEN = 0.85

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=self.KEPT)
        self._ranked: list[float] = []  # put in order when somebody asks

    def note(self, *, seen: float, pending: float) -> None:
        """Take one more job into account, over when it was `seen` and not yet when it was last seen `pending`."""
        self._recent.append((seen + pending) / 2 if pending else seen * self.UNSEEN)
        self._ranked = []

    @property
    def soonest(self) -> float | None:
        """Seconds in which the quick ones were over, up to the 15th percentile; None while too few are known."""
        known = len(self._recent)
        return self._in_order()[int(self.QUICK * known)] if known >= self.ENOUGH else None

    @property
    def typical(self) -> float:
        """Their median, in seconds."""
        return self._in_order()[len(self._recent) // 2]

    def _in_order(self) -> list[float]:
        if not self._ranked:
            self._ranked = sorted(self._recent)
        return self._ranked


class Pace:
    """The delays between looks, with jitter: by tenacity's exponential strategy, or by what was learned.

    The figures of what is learned were chosen by simulation of constant, log-normal, bimodal, heavy-tailed and recorded
    durations (benchmarks/polls.py): beside a look every 2 s they cost less than half of the looks, and a tenth more of
    waiting at the most.
    """

    __slots__ = ("_delays", "_durations", "_evidence", "_policy", "_quick", "_random", "_slow", "_state")

    #: Between two looks at a job that may be over: the share of its age, or of the typical age if that is more.
    AGEING = 0.15
    #: Looks up to which the exponential delays are remembered.
    MANY = 1000

    def __init__(self, policy: PollPolicy, evidence: WebhookEvidence, rng: random.Random | None = None) -> None:
        slow = policy.first_with_webhooks
        self._quick = wait_exponential(multiplier=policy.first, exp_base=policy.factor, max=policy.cap)
        self._slow = wait_exponential(multiplier=slow, exp_base=policy.factor, max=max(policy.cap, slow))
        self._policy = policy
        self._evidence = evidence
        self._durations: defaultdict[str, Durations] = defaultdict(Durations)
        self._random = rng or random.Random()
        self._delays: dict[tuple[bool, int], float] = {}  # what the strategies said: asking them costs ten times that
        self._state = RetryCallState(None, None, (), {})  # type: ignore[arg-type]  # all that strategies read is its number

    def delay(self, looks: int, *, age: float = 0.0, kind: str = "", misses: int = 0) -> float:
        """Return the seconds until the next look at a job.

        Args:
            looks: how often it was looked at.
            age: its age in seconds.
            kind: what kind of job it is.
            misses: how many of the last looks in a row failed: the delay is never less than after so many looks.
        """
        swing = 2 * self._random.random() - 1
        return self._middle(looks, age, kind, misses) * (1 + self._policy.jitter * swing)

    def ended(self, kind: str, *, seen: float, pending: float) -> None:
        """Learn at what ages in seconds a job of this kind was first seen to be over, and last to be pending."""
        self._durations[kind].note(seen=seen, pending=pending)

    def _middle(self, looks: int, age: float, kind: str, misses: int) -> float:
        working = self._evidence.working
        if working or not self._policy.learn:
            return self._exponential(looks, working)
        learned = self._durations[kind]
        soonest = learned.soonest
        if soonest is None:
            return self._exponential(looks, working)
        step = self.AGEING * max(age, learned.typical)
        least = self._exponential(misses, working) if misses else self._policy.first
        return min(self._policy.cap, max(least, soonest - age, step))

    def _exponential(self, looks: int, working: bool) -> float:
        delay = self._delays.get((working, looks))
        if delay is None:
            self._state.attempt_number = looks + 1
            delay = (self._slow if working else self._quick)(self._state)
            if looks < self.MANY:
                self._delays[working, looks] = delay
        return delay


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

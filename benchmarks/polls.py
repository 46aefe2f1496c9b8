"""How many polls does an export need without webhooks, and when is its end seen, compared with a poll every 2 s?

This simulates 2,000 exports in virtual time. 16 are pending at once, and the next one is created when the end of one is
seen. A poll takes no time. The first one is `next_delay(0, 0)` seconds after the creation, and after the n-th the next
one follows in `next_delay(n, age)` seconds; the first poll at or after the job's end is the last one. Every policy gets
the same durations in the same order. This is repeated with five seeds, and the medians are reported.

- Polls: all polls of all exports, divided by those of a poll every 2 s from the creation on. Goal: at most half.
- Waiting: the sum over all exports of the seconds from the creation to the last poll, divided by the same sum of a poll
  every 2 s. Goal: at most a tenth more. The delay shown beside it is the part after the job's end.

For exports of exactly 20 s, a poll every 2 s has no delay at all, by coincidence. How long Avaturn's exports take is
not public. The recorded durations are those of a similar service: of 26,392 successful requests for images to Stable
Diffusion in production in 2024. They are drawn independently from the percentiles of `lora_request_trace.csv` in
https://github.com/alibaba/clusterdata (cluster-trace-v2026-GenAI; Lin et al., SoCC '25); in the original, neighbors
resemble each other a little (autocorrelation 0.18).

The oracle polls each export once, when it ends: the best possible result.
"""

from __future__ import annotations

import heapq
import itertools
import random
import statistics
from typing import TYPE_CHECKING, Protocol

import attrs

from avaturn_async.config import PollPolicy
from avaturn_async.pending.context import PollSchedule, WebhookHealth

from .kit import Row, at_most, show

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EXPORTS = 2_000
IN_FLIGHT = 16
SEEDS = range(5)
POLLS = 0.5
WAITING = 1.10

RECORDED = (
    (0.0, 3), (0.01, 8), (0.05, 11), (0.1, 13), (0.2, 16), (0.3, 18), (0.4, 20), (0.5, 23), (0.6, 26), (0.7, 30),
    (0.8, 38), (0.85, 44), (0.9, 53), (0.95, 70), (0.98, 90), (0.99, 106), (0.995, 119), (0.999, 159), (1.0, 567),
)  # fmt: skip
"""Cumulative shares of the recorded jobs, and their durations in seconds."""


class Policy(Protocol):
    """When the exports of one client are polled."""

    def next_delay(self, polls: int, age: float) -> float:
        """Return the seconds to the next poll of an export after so many polls, at that age in seconds."""


class Every:
    """A poll in regular intervals."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def next_delay(self, polls: int, age: float) -> float:
        """Return the interval."""
        return self._seconds


class Scheduled:
    """The SDK's default schedule, for a client without webhooks."""

    def __init__(self, rng: random.Random) -> None:
        self._schedule = PollSchedule(PollPolicy(), WebhookHealth(), rng)

    def next_delay(self, polls: int, age: float) -> float:
        """Return the schedule's delay."""
        return self._schedule.delay(polls + 1, "pending", started=0.0, now=age)


POLICIES: dict[str, Callable[[random.Random], Policy]] = {"SDK": Scheduled}
"""The policies that are compared with a poll every 2 s."""


@attrs.frozen
class Cost:
    """The cost of a policy for each export: polls, seconds of waiting, and those after the job's end."""

    polls: float
    waiting: float
    delay: float
    delay_p95: float

    def __str__(self) -> str:
        late = f"late by {self.delay:.2f} (p95 {self.delay_p95:.1f})"
        return f"{self.polls:.2f} polls, seen after {self.waiting:.1f} s, {late}"


@attrs.define
class _Job:
    """A pending export."""

    created: float
    duration: float
    polls: int = 0


def run() -> list[Row]:
    """Simulate each distribution with each policy."""
    return [row for name in DISTRIBUTIONS for policy in POLICIES for row in _rows(name, policy)]


def _rows(distribution: str, policy: str) -> list[Row]:
    pairs = [_pair(distribution, policy, seed) for seed in SEEDS]
    ours, theirs, oracle = (_median([costs[index] for costs in pairs]) for index in range(3))
    reference = f"every 2 s: {theirs}; oracle: {oracle.polls:g} poll, seen after {oracle.waiting:.1f} s"
    shown = f"{policy}: {ours}"
    polls = statistics.median(mine.polls / other.polls for mine, other, _ in pairs)
    waiting = statistics.median(mine.waiting / other.waiting for mine, other, _ in pairs)
    return [
        at_most("polls for an export", distribution, shown, reference, polls, POLLS),
        at_most("waiting for an export", distribution, shown, reference, waiting, WAITING),
    ]


def _pair(distribution: str, policy: str, seed: int) -> tuple[Cost, Cost, Cost]:
    rng = random.Random(f"{distribution} {seed}")
    durations = [DISTRIBUTIONS[distribution](rng) for _ in range(EXPORTS)]
    oracle = Cost(1, statistics.fmean(durations), 0, 0)
    return simulate(POLICIES[policy](random.Random(seed)), durations), simulate(Every(2), durations), oracle


def _median(costs: Sequence[Cost]) -> Cost:
    rows = zip(*(attrs.astuple(cost) for cost in costs), strict=True)
    return Cost(*(statistics.median(row) for row in rows))


def simulate(policy: Policy, durations: Sequence[float]) -> Cost:
    """Return the cost of a policy for exports of these durations, created in that order."""
    left = iter(durations)
    order = itertools.count()
    schedule: list[tuple[float, int, _Job]] = []
    ages, delays, polls = [], [], 0

    def plan(now: float, job: _Job) -> None:
        delay = policy.next_delay(job.polls, now - job.created)
        heapq.heappush(schedule, (now + delay, next(order), job))

    for duration in itertools.islice(left, IN_FLIGHT):
        plan(0.0, _Job(0.0, duration))
    while schedule:
        now, _, job = heapq.heappop(schedule)
        polls, job.polls, age = polls + 1, job.polls + 1, now - job.created
        if age < job.duration - 1e-6:  # sums of floats fall short of whole numbers
            plan(now, job)
            continue
        ages.append(age)
        delays.append(age - job.duration)
        for duration in itertools.islice(left, 1):
            plan(now, _Job(now, duration))
    p95 = statistics.quantiles(delays, n=20)[18]
    return Cost(polls / len(ages), statistics.fmean(ages), statistics.fmean(delays), p95)


def _constant(rng: random.Random) -> float:
    return 20.0


def _log_normal(rng: random.Random) -> float:
    return 20 * rng.lognormvariate(0, 0.5)


def _bimodal(rng: random.Random) -> float:
    return max(1.0, rng.gauss(10, 1.5) if rng.random() < 0.7 else rng.gauss(60, 9))


def _heavy_tail(rng: random.Random) -> float:
    return min(900.0, 8 * rng.paretovariate(1.5))


def _recorded(rng: random.Random) -> float:
    share = rng.random()
    for (low, shorter), (high, longer) in itertools.pairwise(RECORDED):
        if share <= high:
            return shorter + (longer - shorter) * (share - low) / (high - low)
    raise AssertionError(share)


DISTRIBUTIONS: dict[str, Callable[[random.Random], float]] = {
    "constant, 20 s": _constant,
    "log-normal, median 20 s, sigma 0.5": _log_normal,
    "bimodal, 70 % around 10 s and 30 % around 60 s": _bimodal,
    "heavy tail, Pareto from 8 s, alpha 1.5, at most 900 s": _heavy_tail,
    "recorded, images generated in production": _recorded,
}


if __name__ == "__main__":
    show(run())

"""The schedule of polls, their timers, the health of webhooks, and the limit on unauthenticated events."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st
from tenacity import RetryCallState, wait_chain, wait_fixed, wait_none

from avaturn_async import PollPolicy, ServerError
from avaturn_async.pending.context import PollSchedule, PollTimers, UnauthenticatedLimiter, WebhookHealth

from .kit import now, run

STEADY = PollPolicy(first=1, factor=2, cap=8, jitter=0, first_with_webhooks=15)


def delays(policy: PollPolicy, count: int, health: WebhookHealth | None = None) -> list[float]:
    """Return the first delays of a job that is polled as the policy says."""
    schedule, age, found = PollSchedule(policy, health or WebhookHealth()), 0.0, []
    for attempt in range(1, count + 1):
        found.append(schedule.delay(attempt, "pending", started=100.0, now=100.0 + age))
        age += found[-1]
    return found


def working() -> WebhookHealth:
    """Return the health of webhooks that resolve every job."""
    health = WebhookHealth()
    for _ in range(10):
        health.record(by_webhook=True)
    return health


def test_delays_grow_to_the_cap() -> None:
    """They are those of tenacity's exponential strategy."""
    assert [1, 2, 4, 8, 8, 8] == delays(STEADY, 6)


def test_the_default_policy() -> None:
    """The delays that benchmarks/polls.py measures."""
    assert [2, 3, 4.5, 6, 6, 6] == delays(PollPolicy(jitter=0), 6)


@pytest.mark.parametrize(("age", "delay"), [(39, 6), (41, 6.15), (80, 12), (101, 15), (10_000, 15)])
def test_old_jobs_are_polled_by_their_age(age: float, delay: float) -> None:
    """Beyond cap / 0.15 seconds every 15 % of it, at most every 15 s."""
    schedule = PollSchedule(PollPolicy(jitter=0), WebhookHealth())
    assert delay == pytest.approx(schedule.delay(20, "pending", started=7.0, now=7.0 + age))


def test_a_cap_above_15_s_is_kept() -> None:
    """The age never makes polls more frequent than the cap."""
    schedule = PollSchedule(PollPolicy(cap=60, jitter=0), WebhookHealth())
    assert 60 == schedule.delay(1000, "pending", started=0.0, now=10_000.0)


def test_delays_are_slow_while_webhooks_work() -> None:
    """The first and all others, while the policy has shorter ones."""
    assert [15, 15, 15] == delays(STEADY, 3, working())


def test_large_numbers_of_attempts_do_not_overflow() -> None:
    """A job that is polled for weeks."""
    assert 15 == PollSchedule(STEADY, WebhookHealth()).delay(10_000_000, "pending", started=0.0, now=1e9)


@given(st.integers(1, 100), st.floats(0, 0.99), st.integers())
def test_jitter_spreads_the_delay(attempt: int, jitter: float, seed: int) -> None:
    """By no more than that share of it."""
    policy = PollPolicy(first=2, factor=1.5, cap=6, jitter=jitter)
    delay = PollSchedule(policy, WebhookHealth(), random.Random(seed)).delay(attempt, "pending", started=0.0, now=0.0)
    middle = min(6, 2 * 1.5 ** (attempt - 1))
    assert middle * (1 - jitter) - 1e-9 <= delay <= middle * (1 + jitter) + 1e-9


def test_jitter_of_a_tenth_is_ten_percent_either_way() -> None:
    """The default spreads the first delay of 2 s from 1.8 to 2.2 s."""
    schedules = [PollSchedule(PollPolicy(), WebhookHealth(), random.Random(seed)) for seed in range(1000)]
    delays = [each.delay(1, "pending", started=0.0, now=0.0) for each in schedules]
    assert (pytest.approx(1.8, abs=0.01), pytest.approx(2.2, abs=0.01)) == (min(delays), max(delays))


@pytest.mark.parametrize(("first", "spacing"), [(2, 0.5), (0.5, 0.5), (0.02, 0.02)])
def test_spacing(first: float, spacing: float) -> None:
    """Polls are half a second apart unless the policy begins with less."""
    assert spacing == PollSchedule(PollPolicy(first=first), WebhookHealth()).spacing


def test_tenacity_strategies_decide_instead() -> None:
    """Also while webhooks work, and combined as tenacity combines them."""
    policy = PollPolicy(wait=wait_chain(wait_fixed(1), wait_fixed(2)) + wait_none())
    assert [1, 2, 2] == delays(policy, 3, working())


def test_a_strategy_gets_a_genuine_state() -> None:
    """Number of the attempt, start and age on the loop's clock, and the last outcome."""
    seen: list[RetryCallState] = []

    def strategy(state: RetryCallState) -> float:
        seen.append(state)
        return 1

    schedule, error = PollSchedule(PollPolicy(wait=strategy), WebhookHealth()), ServerError("500", status_code=500)
    schedule.delay(1, "pending", started=50.0, now=50.0)
    schedule.delay(3, error, started=50.0, now=57.0)
    first, second = seen
    assert (1, 50.0, 0.0) == (first.attempt_number, first.start_time, first.seconds_since_start)
    assert (3, 50.0, 7.0) == (second.attempt_number, second.start_time, second.seconds_since_start)
    assert first.outcome is not None
    assert second.outcome is not None
    assert ("pending", 1) == (first.outcome.result(), first.outcome.attempt_number)
    assert (True, error, 3) == (second.outcome.failed, second.outcome.exception(), second.outcome.attempt_number)
    assert "returned pending" in repr(first)


@pytest.mark.parametrize("value", [math.nan, -1, None, "1"], ids=repr)
def test_nonsense_from_a_strategy_is_refused(value: object) -> None:
    """A timer must not get it."""
    schedule = PollSchedule(PollPolicy(wait=lambda _: value), WebhookHealth())  # type: ignore[arg-type,return-value]
    with pytest.raises(ValueError, match=r"PollPolicy\.wait must return a number of seconds"):
        schedule.delay(1, "pending", started=0.0, now=0.0)


@pytest.mark.parametrize("value", [1e308, math.inf])
def test_a_strategy_s_delay_is_bounded(value: float) -> None:
    """Timers overflow on larger ones."""
    schedule = PollSchedule(PollPolicy(wait=lambda _: value), WebhookHealth())
    assert 86_400 == schedule.delay(1, "pending", started=0.0, now=0.0)


def test_webhooks_work_once_they_resolve_most_jobs() -> None:
    """A few are needed to believe it, and a few others to doubt it."""
    health = WebhookHealth()
    by_webhook = [health.record(by_webhook=True) or health.working for _ in range(6)]
    by_poll = [health.record(by_webhook=False) or health.working for _ in range(6)]
    assert (False, True) == (by_webhook[0], by_webhook[-1])
    assert (True, False) == (by_poll[0], by_poll[-1])
    assert (sorted(by_webhook), sorted(by_poll, reverse=True)) == (by_webhook, by_poll)


def test_a_key_gets_one_poll_in_five_seconds() -> None:
    """However many unauthenticated events come."""
    limiter = UnauthenticatedLimiter()
    allowed = [tenth / 10 for tenth in range(120) if limiter.allow("export:a", tenth / 10)]
    assert [0, 5, 10] == allowed


def test_all_keys_together_get_ten_polls_in_a_second() -> None:
    """In any second, not only in those of the clock."""
    limiter = UnauthenticatedLimiter()
    allowed = [moment for moment in (n / 1000 for n in range(3000)) if limiter.allow(f"export:{moment}", moment)]
    assert 30 == len(allowed)
    assert all(later - earlier >= 1 for earlier, later in zip(allowed, allowed[10:], strict=False))


def test_refused_events_are_not_remembered() -> None:
    """The memory is bounded by what was allowed."""
    limiter = UnauthenticatedLimiter()
    for _ in range(10):
        limiter.allow("export:a", 0.0)
    assert limiter.allow("export:b", 0.0)
    assert limiter.allow("export:a", 5.0)


class Poll:
    """Stands for a race, whose poll is noted and takes no time."""

    urgent = False

    def __init__(self, note: Callable[[], object]) -> None:
        self.note = note

    def start_poll(self) -> asyncio.Future[None]:
        self.note()
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ended.set_result(None)
        return ended

    def finish(self, error: Exception) -> None:
        raise error


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 60)), max_size=40))
def test_polls_start_at_their_times(plan: list[tuple[int, int]]) -> None:
    """In the order of their times, unless they are cancelled before."""
    started: list[tuple[int, float]] = []

    async def story() -> None:
        loop, timers, begin = asyncio.get_running_loop(), PollTimers(1), now()
        for number, (due, cancelled) in enumerate(plan):
            poll = Poll(lambda number=number: started.append((number, round(now() - begin, 6))))  # type: ignore[misc]
            timer = timers.set(loop, begin + due, poll)
            if cancelled < due:
                loop.call_at(begin + cancelled, timers.cancel, timer)
        await asyncio.sleep(70)

    run(story())
    expected = [(number, float(due)) for number, (due, cancelled) in enumerate(plan) if cancelled >= due]
    assert sorted(expected) == sorted(started)
    assert [when for _, when in started] == sorted(when for _, when in expected)


def test_a_poll_may_set_and_cancel_other_timers() -> None:
    """As one that starts at once, with eager tasks, does."""
    started: list[float] = []

    async def story() -> None:
        loop, timers, begin = asyncio.get_running_loop(), PollTimers(1), now()
        later = timers.set(loop, begin + 2, Poll(lambda: started.append(-1)))

        def first() -> None:
            started.append(round(now() - begin, 6))
            timers.cancel(later)
            timers.set(loop, begin + 1, Poll(lambda: started.append(round(now() - begin, 6))))

        timers.set(loop, begin + 1, Poll(first))
        await asyncio.sleep(5)

    run(story())
    assert [1, 1] == started


def test_a_poll_that_can_not_start_stops_no_other() -> None:
    """As with a task factory that raises; its exception ends the wait."""
    started: list[float] = []
    failed: list[object] = []

    class Failing(Poll):
        def finish(self, error: Exception) -> None:
            failed.append(error)

    async def story() -> None:
        loop, timers, begin = asyncio.get_running_loop(), PollTimers(1), now()
        timers.set(loop, begin + 1, Failing(lambda: 1 / 0))
        for due in (1, 2):
            timers.set(loop, begin + due, Poll(lambda: started.append(round(now() - begin, 6))))
        await asyncio.sleep(5)

    run(story())
    assert [1, 2] == started
    assert [ZeroDivisionError] == [type(error) for error in failed]

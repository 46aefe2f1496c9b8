"""The schedule of polls, their queue, the health of webhooks, and the limit on unauthenticated events."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st
from tenacity import RetryCallState, wait_chain, wait_fixed, wait_none

from avaturn_async import PollPolicy, ServerError
from avaturn_async.pending.context import PollQueue, PollSchedule, UnauthenticatedLimiter, WebhookHealth

from .kit import run

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
    """Stands for a race: its poll notes its name, and ends when the test ends it."""

    def __init__(self, name: str, started: list[str], then: Callable[[], object] = lambda: None) -> None:
        self.name, self.started, self.then = name, started, then
        self.task: asyncio.Future[None] | None = asyncio.get_running_loop().create_future()

    def start_poll(self) -> asyncio.Future[None] | None:
        self.started.append(self.name)
        self.then()
        return self.task

    def finish(self, error: Exception) -> None:
        raise error


def at_once(name: str, started: list[str], then: Callable[[], object] = lambda: None) -> Poll:
    """Return a poll that has ended when it is started, as with eager tasks."""
    poll = Poll(name, started, then)
    assert poll.task is not None
    poll.task.set_result(None)
    return poll


def test_polls_start_in_the_order_of_their_times() -> None:
    """So many at once; each that ends makes room for the next, and those that were removed do not start."""

    async def story() -> None:
        queue, started = PollQueue(2), list[str]()
        polls = {name: Poll(name, started) for name in ("a", "b", "late", "early", "removed")}
        for due, name in ((1, "a"), (2, "b"), (4, "late"), (3, "early"), (3, "removed")):
            queue.add(polls[name], due)
        queue.remove(polls["removed"])
        assert ["a", "b"] == started
        assert [name for name, poll in polls.items() if poll in queue] == ["late", "early"]
        for name in ("b", "a"):
            task = polls[name].task
            assert task is not None
            task.set_result(None)
            await asyncio.sleep(0)
        assert ["a", "b", "early", "late"] == started

    run(story())


def test_a_poll_may_add_and_remove_others() -> None:
    """As one that starts at once, with eager tasks, does."""

    async def story() -> None:
        queue, started = PollQueue(1), list[str]()
        first, other, more = Poll("first", started), at_once("other", started), at_once("more", started)

        def change() -> None:
            queue.remove(other)
            queue.add(more, 3)

        assert first.task is not None
        queue.add(first, 1)
        queue.add(at_once("changing", started, change), 2)
        queue.add(other, 2.5)
        first.task.set_result(None)
        await asyncio.sleep(0)
        assert ["first", "changing", "more"] == started

    run(story())


def test_a_poll_that_can_not_start_takes_no_place() -> None:
    """As with a task factory that raises."""

    async def story() -> None:
        queue, started = PollQueue(1), list[str]()
        failing = Poll("failing", started)
        failing.task = None
        queue.add(failing, 1)
        queue.add(Poll("next", started), 2)
        assert ["failing", "next"] == started

    run(story())

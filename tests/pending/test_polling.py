"""When a pending job is looked at again, and how far webhooks are relied on."""

from __future__ import annotations

import random
from uuid import uuid4

import pytest
from hypothesis import given, strategies as st

from avaturn_async import PollPolicy
from avaturn_async.pending.polling import HintBudget, Pace, WebhookEvidence

STEADY = PollPolicy(first=1, factor=2, cap=10, jitter=0, first_with_webhooks=20)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return what it shows."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Give a clock."""
    return Clock()


def working() -> WebhookEvidence:
    """Return the evidence of webhooks that have just resolved a few jobs."""
    evidence = WebhookEvidence()
    for _ in range(10):
        evidence.note(by_webhook=True)
    return evidence


def test_polls_back_off_to_the_cap() -> None:
    """Each delay is so many times the one before, up to the cap."""
    pace = Pace(STEADY, WebhookEvidence())
    assert [1, 2, 4, 8, 10, 10] == [pace.delay(looks) for looks in range(6)]


def test_polls_are_slow_while_webhooks_work() -> None:
    """Then even the first look is far away, and none comes sooner."""
    pace = Pace(STEADY, working())
    assert [20, 20, 20] == [pace.delay(looks) for looks in range(3)]


def test_polls_are_quick_again_once_webhooks_stop() -> None:
    """The same pace changes with the evidence."""
    evidence = working()
    pace = Pace(STEADY, evidence)
    for _ in range(10):
        evidence.note(by_webhook=False)
    assert 1 == pace.delay(0)


def test_the_cap_holds_after_many_looks() -> None:
    """A wait of days does not overflow."""
    assert 10 == Pace(STEADY, WebhookEvidence()).delay(100_000)


@given(st.integers(0, 50), st.floats(0, 0.99), st.integers())
def test_jitter_spreads_either_way(looks: int, jitter: float, seed: int) -> None:
    """A delay is never further from its middle than the policy says, and never nothing."""
    policy = PollPolicy(first=1, factor=2, cap=10, jitter=jitter)
    middle = min(2.0**looks, 10)
    delay = Pace(policy, WebhookEvidence(), random.Random(seed)).delay(looks)
    assert middle * (1 - jitter) <= delay <= middle * (1 + jitter)
    assert delay > 0


def learned(*ends: tuple[float, float], policy: PollPolicy = STEADY) -> Pace:
    """Return the pace of a client that saw exports pending and then over at these ages."""
    pace = Pace(policy, WebhookEvidence())
    for pending, seen in ends:
        pace.ended("export", seen=seen, pending=pending)
    return pace


def test_a_pace_is_learned() -> None:
    """The first look comes when the quick jobs were over, later ones as the job ages."""
    pace = learned(*[(7, 9)] * 3, *[(19, 21)] * 7)
    assert [8, 3, 3, 4.5] == [pace.delay(9, age=age, kind="export") for age in (0, 8, 20, 30)]


def test_a_few_jobs_teach_nothing() -> None:
    """Nor do those of another kind."""
    assert 1 == learned(*[(9, 11)] * 4).delay(0, kind="export")
    assert 1 == learned(*[(9, 11)] * 5).delay(0, kind="avatar")
    assert 10 == learned(*[(9, 11)] * 5).delay(0, kind="export")


def test_what_is_learned_is_bounded() -> None:
    """By `first` for quick jobs, and by `cap` for slow ones."""
    assert 1 == learned(*[(0.1, 0.2)] * 9).delay(0, kind="export")
    assert [10, 10, 10] == [learned(*[(90, 110)] * 9).delay(0, age=age, kind="export") for age in (0, 10, 1000)]


def test_what_is_learned_is_forgotten() -> None:
    """Where jobs become quicker, looks come sooner, also where each first look comes too late to tell by how much."""
    pace = learned(*[(90, 110)] * 200, policy=PollPolicy(jitter=0, cap=600))
    for _ in range(200):
        seen = pace.delay(0, kind="export")
        pace.ended("export", seen=seen, pending=0)
    assert pace.delay(0, kind="export") < 20


def test_nothing_is_learned_where_that_is_not_wanted() -> None:
    """Then the policy is all there is, and while webhooks work it is the slow one."""
    assert 1 == learned(*[(9, 11)] * 9, policy=PollPolicy(jitter=0, learn=False)).delay(0, kind="export")
    pace = Pace(STEADY, working())
    for _ in range(9):
        pace.ended("export", seen=9, pending=9)
    assert 20 == pace.delay(0, kind="export")


def test_jitter_differs() -> None:
    """Two clients that start together do not stay together."""
    pace = Pace(PollPolicy(jitter=0.5), WebhookEvidence(), random.Random(1))
    assert 10 == len({pace.delay(0) for _ in range(10)})


def test_webhooks_are_not_relied_on_until_they_are_seen() -> None:
    """A receiver that nothing reaches does not slow the polls."""
    evidence = WebhookEvidence()
    seen = []
    for _ in range(5):
        seen.append(evidence.working)
        evidence.note(by_webhook=True)
    assert [False, False, False, False, True] == seen


def test_one_lost_webhook_changes_nothing() -> None:
    """A few in a row do."""
    evidence = working()
    seen = []
    for _ in range(4):
        evidence.note(by_webhook=False)
        seen.append(evidence.working)
    assert [True, True, False, False] == seen


def test_a_hint_a_key_in_five_seconds(clock: Clock) -> None:
    """Who repeats a forged event causes no more than that."""
    budget = HintBudget(clock)
    taken = []
    for _ in range(12):
        taken.append(budget.take("export:a"))
        clock.now += 1
    assert [at % 5 == 0 for at in range(12)] == taken


def test_ten_hints_a_second(clock: Clock) -> None:
    """Whatever number of keys is guessed."""
    budget = HintBudget(clock)
    assert [True] * 10 + [False] * 90 == [budget.take(uuid4()) for _ in range(100)]
    clock.now += 0.99
    assert not budget.take("export:a")
    clock.now += 0.01
    assert budget.take("export:a")


def test_a_refused_hint_is_not_counted(clock: Clock) -> None:
    """A key that was refused for the others' sake may cause a read as soon as they are quiet."""
    budget = HintBudget(clock)
    for number in range(10):
        budget.take(number)
    assert not budget.take("export:a")
    clock.now += 1
    assert budget.take("export:a")


def test_hints_take_no_memory(clock: Clock) -> None:
    """What is remembered is bounded by the budget itself."""
    budget = HintBudget(clock)
    for number in range(1000):
        budget.take(number)
        clock.now += 0.05
    assert len(budget._last) <= 50
    assert len(budget._recent) <= 10

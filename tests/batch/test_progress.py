"""What on_progress is told: numbers that add up, a rate, and an eta that promises nothing that can't be known."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from unittest import mock
from uuid import uuid4

import pytest

from avaturn_async import BatchProgress
from avaturn_async.batch.progress import Meter
from tests.pending.world import run

from .kit import Instant, avatars, run_batch
from .test_batch import new_batch


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Shop:
    """A meter, and exports that are counted by it."""

    def __init__(self, at_once: int) -> None:
        self.clock = Clock()
        self.meter = Meter(at_once, self.clock)

    def begin(self, count: int) -> None:
        for _ in range(count):
            self.meter.began()

    def end(self, count: int, *, at: float) -> None:
        self.clock.now = 100.0 + at
        for _ in range(count):
            self.meter.ended()
            self.meter.count(well=True)

    def told(self, total: int | None, *, at: float) -> tuple[float | None, float | None]:
        self.clock.now = 100.0 + at
        now = self.meter.snapshot(total)
        return now.rate, now.eta


async def test_the_numbers_add_up(tmp_path: Path) -> None:
    """At the end what is done and what failed is the total, which has no duplicates in it."""
    told: list[BatchProgress] = []
    async with avatars(12) as (_, client, ids):
        given = [*ids, ids[0], "junk"]
        async with client.exports.batch(given, download_to=tmp_path, on_progress=told.append) as batch:
            report = await batch.run()
    last = told[-1]
    assert (13, 12, 1, 0) == (last.total, last.done, last.failed, last.pending)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == last.bytes
    assert (0.0, 13) == (last.eta, len(report.outcomes))
    assert last.rate is not None
    assert all(earlier.done <= later.done for earlier, later in pairwise(told))


async def test_what_an_earlier_run_did_is_done_but_no_rate(tmp_path: Path) -> None:
    """Else the eta of a resumed batch would be far too good."""
    told: list[BatchProgress] = []
    async with avatars(3) as (_, client, ids):
        await run_batch(client, ids, tmp_path)
        await run_batch(client, ids, tmp_path, on_progress=told.append)
    assert (3, 3, None, 0.0) == (told[-1].total, told[-1].done, told[-1].rate, told[-1].eta)


def test_it_is_told_ten_times_a_second() -> None:
    """And at the beginning and the end, however much happens."""
    told: list[BatchProgress] = []

    async def story() -> None:
        ids = (uuid4() for _ in range(1_000))
        async with new_batch(Instant(seconds=0.1), ids, max_pending=10, on_progress=told.append) as batch:
            await batch.run()

    run(story())
    assert 100 <= len(told) <= 103
    assert {None} == {now.total for now in told} | {now.eta for now in told}
    assert 1_000 == told[-1].done


def test_nothing_is_known_at_first() -> None:
    """Neither a rate before the first end, nor an eta before there was time for a second round."""
    shop = Shop(at_once=100)
    assert (None, None) == shop.told(1_000, at=0)
    shop.begin(100)
    assert (None, None) == shop.told(1_000, at=5)
    shop.end(100, at=10)
    assert (10.0, None) == shop.told(1_000, at=10)
    assert (5.0, 180.0) == shop.told(1_000, at=20)
    assert (5.0, None) == shop.told(None, at=20)


def test_a_wave_that_has_just_ended_promises_nothing() -> None:
    """Over whole rounds the rate is that of the rounds: a hundred in ten seconds."""
    shop = Shop(at_once=100)
    for wave in range(1, 8):
        shop.begin(100)
        shop.end(100, at=10 * wave)
        assert 10.0 == shop.told(10_000, at=10 * wave)[0]
    rate, eta = shop.told(10_000, at=75)
    assert rate == pytest.approx(200 / 25)
    assert eta == pytest.approx(9_300 / (200 / 25))


def test_a_standstill_shows() -> None:
    """The rate falls while nothing ends."""
    shop = Shop(at_once=2)
    shop.begin(4)
    shop.end(4, at=4)
    assert (0.5, 12.0) == shop.told(10, at=8)
    assert (0.04, 150.0) == shop.told(10, at=100)


def test_the_end_needs_no_rate() -> None:
    """And a length that was too small is no negative eta."""
    meter = Meter(1)
    meter.count(well=False)
    assert (0.0, 0.0) == (meter.snapshot(1).eta, meter.snapshot(0).eta)


def test_a_clock_that_stands_is_no_division_by_zero() -> None:
    """Two readings of a coarse clock may be equal."""
    shop = Shop(at_once=1)
    shop.begin(1)
    shop.end(1, at=0)
    assert (None, None) == shop.told(2, at=0)


async def test_nobody_is_told_where_nobody_listens() -> None:
    """Then no snapshot is made at all."""
    with mock.patch.object(Meter, "snapshot") as snapshot:
        async with new_batch(Instant(), [uuid4()]) as batch:
            await batch.run()
    await asyncio.sleep(0)
    snapshot.assert_not_called()

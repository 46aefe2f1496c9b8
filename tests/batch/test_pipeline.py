"""What bounds a batch: reads of its input, concurrent exports and downloads, memory; and what that costs in time."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from avaturn_async import BatchReport
from tests.chaos.kit import scaled

from .kit import FakeExports, new_batch, run_virtual, turns, uuids


def run_timed(count: int, exports: FakeExports, **options: Any) -> BatchReport:
    """Run a batch in virtual time; its `elapsed` is virtual as well."""

    async def story() -> BatchReport:
        async with new_batch(exports, uuids(count), **options) as batch:
            return await batch.run()

    return run_virtual(story())


def test_slots_are_never_idle() -> None:
    """5,000 exports of a second each, 256 at once, take at most a tenth longer than they must."""
    exports = FakeExports(seconds=1.0)
    report = run_timed(5_000, exports)
    assert 5_000 == len(report.succeeded)
    assert 256 == exports.most_awaited
    assert report.elapsed <= 1.10 * 5_000 / 256


def test_downloads_cost_exports_no_time(tmp_path: Path) -> None:
    """Waves of exports that end at the same moment are spread by their downloads once, and then flow."""
    exports = FakeExports(seconds=1.0, download_seconds=0.02)
    report = run_timed(5_000, exports, download_to=tmp_path)
    assert 5_000 == len(report.succeeded)
    assert (256, 8) == (exports.most_awaited, exports.most_downloads)
    assert report.elapsed <= 1.10 * 5_000 / 256


def test_slow_downloads_hold_exports_back(tmp_path: Path) -> None:
    """The number of exports that wait for their download is bounded: their urls would expire."""
    exports = FakeExports(seconds=0.01, download_seconds=1.0)
    report = run_timed(100, exports, download_to=tmp_path, max_pending=4, max_downloads=3)
    assert 100 == len(report.succeeded)
    assert all(created <= number + 3 + 4 for number, (_, created) in enumerate(exports.fetched, 1))


async def test_a_slow_consumer_holds_the_input_back() -> None:
    """No more is read than what was taken and what is under way."""
    read = 0

    async def source() -> AsyncIterator[UUID]:
        nonlocal read
        for avatar_id in uuids(200):
            read += 1
            yield avatar_id

    async with new_batch(FakeExports(), source(), max_pending=4, max_downloads=3) as batch:
        taken = 0
        async for _ in batch:
            taken += 1
            await turns()
            assert read <= taken + 4
    assert 200 == taken == read


async def test_an_endless_input_is_read_as_far_as_there_is_room() -> None:
    """With 7 exports at once, 7 ids."""
    read = 0

    def source() -> Iterator[UUID]:
        nonlocal read
        while True:
            read += 1
            yield uuid4()

    exports = FakeExports(seconds=3600)
    async with new_batch(exports, source(), max_pending=7) as batch:
        asking = asyncio.create_task(batch.__anext__())
        while len(exports.created) < 7:
            await asyncio.sleep(0)
        await turns(50)
        asking.cancel()
    assert 7 == read


async def test_repeated_ids_hold_places_as_others_do() -> None:
    """A million offers of one avatar that is under way are not all read."""
    read = 0

    def source() -> Iterator[UUID]:
        nonlocal read
        while True:
            read += 1
            yield UUID(int=4)

    async with new_batch(FakeExports(seconds=3600), source(), max_pending=7) as batch:
        asking = asyncio.create_task(batch.__anext__())
        await turns(50)
        asking.cancel()
    assert 7 == read


async def growth(ids: Iterator[Any], count: int, journal: Path | None = None) -> int:
    """Return how many blocks of memory a batch of `count` items holds more near its end than near its beginning."""
    exports = FakeExports()
    exports.keep_created = False
    blocks = []
    # Few at once: each that is under way takes some sixty blocks.
    async with new_batch(exports, ids, journal=journal, max_pending=16) as batch:
        number = 0
        async for _ in batch:
            number += 1
            if number in (1_000, count - 300):
                gc.collect()
                blocks.append(sys.getallocatedblocks())
    before, after = blocks
    print(f"{after - before} blocks more after {count:,} items")
    return after - before


@pytest.mark.timeout(600)
@pytest.mark.parametrize("with_journal", [False, True], ids=["without-journal", "with-journal"])
@pytest.mark.parametrize(
    "count", [10_000, pytest.param(scaled(100_000, 20_000), marks=pytest.mark.chaos)], ids=["10,000", "more"]
)
async def test_memory_is_bounded_by_what_is_under_way(count: int, with_journal: bool, tmp_path: Path) -> None:
    """Nothing is kept of an item whose outcome was taken."""
    journal = tmp_path / "journal.db" if with_journal else None
    assert await growth(uuids(count), count, journal) <= 5_000  # one object kept of each would be 9,000


@pytest.mark.parametrize(
    "count", [10_000, pytest.param(scaled(100_000, 20_000), marks=pytest.mark.chaos)], ids=["10,000", "more"]
)
async def test_memory_is_flat_over_repeated_offers(count: int) -> None:
    """An avatar that is offered again and again is not remembered after its outcome was taken."""
    ids = list(uuids(400))
    assert await growth((ids[number % 400] for number in range(count)), count) <= 5_000

"""What a batch never exceeds: reads of its input, exports at once, memory; and the time that this costs."""

from __future__ import annotations

import asyncio
import gc
import random
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import UUID, uuid4

import pytest

from avaturn_async import BatchReport, Download, Export
from avaturn_async.batch.ids import Intake, _Seen
from avaturn_async.batch.journal import Journal
from tests.pending.world import run

from .kit import Instant, Ready
from .test_batch import new_batch


def uuids(count: int) -> Iterator[UUID]:
    """Make ids as they are asked for."""
    rng = random.Random(count)
    return (UUID(int=rng.getrandbits(128), version=4) for _ in range(count))


class Counting(Instant):
    """Counts how many exports are awaited at once."""

    async def create(self, avatar_id: Any) -> Any:
        counting = self
        ready = await super().create(avatar_id)

        class Counted(Ready):
            async def wait(self, *, timeout: object = None) -> Export:
                counting.now += 1
                counting.most = max(counting.most, counting.now)
                try:
                    return await super().wait(timeout=timeout)
                finally:
                    counting.now -= 1

        return Counted(ready.avatar_id, self.seconds)


class Spool:
    """Stands for the downloads: counts those at once, and takes `seconds` for each."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.now = self.most = 0

    async def fetch(self, url: str, path: Path, **_: object) -> Download:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(self.seconds)
        self.now -= 1
        return Download(path, 1, "")


def timed(count: int, exports: Instant, spool: Spool | None = None, **options: Any) -> BatchReport:
    """Run a batch in virtual time; its `elapsed` is virtual, too."""

    async def directly(work: Any, *arguments: Any, **_: Any) -> Any:
        return None

    async def story() -> BatchReport:
        clock = mock.Mock(monotonic=asyncio.get_running_loop().time)
        with (
            mock.patch("avaturn_async.batch.export_batch.time", clock),
            mock.patch("avaturn_async.batch.export_batch.run_in_thread", directly),
        ):
            async with new_batch(exports, uuids(count), download_to=spool and "models", **options) as batch:
                return await batch.run()

    patched = mock.patch.object(Ready, "downloader", spool, create=True)
    with patched:
        return run(story())


def test_slots_are_never_idle() -> None:
    """5,000 exports of a second each, 256 at once, take no more than a tenth longer than they must."""
    exports = Counting(seconds=1.0)
    report = timed(5_000, exports)
    assert 5_000 == len(report.succeeded)
    assert 256 == exports.most
    assert report.elapsed <= 1.10 * 5_000 / 256


def test_downloads_hold_no_slot_of_an_export() -> None:
    """Waves of exports that end at the same moment are spread by their downloads, and cost no further time."""
    exports, spool = Counting(seconds=1.0), Spool(seconds=0.02)
    report = timed(5_000, exports, spool)
    assert 5_000 == len(report.succeeded)
    assert (256, 8) == (exports.most, spool.most)
    assert report.elapsed <= 1.10 * 5_000 / 256


def test_slow_downloads_hold_the_exports_back() -> None:
    """What waits for a download is bounded, so exports do not run ahead, whose urls would expire."""
    exports, spool = Counting(seconds=0.01), Spool(seconds=1.0)
    begun: list[int] = []

    async def slowly(self: Spool, url: str, path: Path, **_: object) -> Download:
        begun.append(len(exports.created))
        await asyncio.sleep(self.seconds)
        return Download(path, 1, "")

    with mock.patch.object(Spool, "fetch", slowly):
        report = timed(100, exports, spool, max_pending=4, max_downloads=3)
    assert 100 == len(report.succeeded)
    # each download has before it no more than those that were begun, those that wait, and those in their slots
    assert all(created <= number + 3 + 3 + 4 for number, created in enumerate(begun, 1))


async def test_a_slow_consumer_holds_the_input_back() -> None:
    """No more is read than what is in a slot, waits for the consumer, or was taken."""
    read = 0

    async def source() -> AsyncIterator[UUID]:
        nonlocal read
        for avatar_id in uuids(200):
            read += 1
            yield avatar_id

    async with new_batch(Instant(), source(), max_pending=4, max_downloads=3) as batch:
        taken = 0
        async for _ in batch:
            taken += 1
            for _ in range(20):
                await asyncio.sleep(0)
            assert read <= taken + 4 + 3
    assert 200 == taken == read


async def test_the_input_is_read_as_far_as_there_is_room() -> None:
    """An endless input is fine."""
    read = 0

    def source() -> Iterator[UUID]:
        nonlocal read
        while True:
            read += 1
            yield uuid4()

    exports = Instant(seconds=3600)
    async with new_batch(exports, source(), max_pending=7) as batch:
        asking = asyncio.create_task(anext(batch))  # type: ignore[arg-type]
        while len(exports.created) < 7:
            await asyncio.sleep(0)
        for _ in range(50):
            await asyncio.sleep(0)
        asking.cancel()
    assert 7 == read


async def test_duplicates_do_not_hold_the_loop() -> None:
    """Others have their turn while a long run of them is skipped."""
    intake = Intake([avatar := uuid4(), *[avatar] * 1_000, uuid4()])
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    assert await intake.take() == (1, avatar)
    assert (await intake.take() or (0,))[0] == 2
    assert [None, None] == [await intake.take(), await intake.take()]
    task.cancel()
    assert turns >= 1_000
    assert 2 == intake.total


@pytest.mark.parametrize("count", [2_000, 20_000])
async def test_an_id_takes_less_than_a_hundred_bytes(count: int) -> None:
    """Which is what a batch keeps of those that are over."""
    ids = list(uuids(count))
    intake = Intake(iter(ids))
    tracemalloc.start()
    for _ in ids:
        await intake.take()
    grown, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert max(grown, most) <= 100 * count
    assert intake.total is None


def test_ids_across_the_border_of_two_others_are_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen bytes that stand in the middle of what is remembered are no id that came."""
    monkeypatch.setattr(_Seen, "BUCKETS", 1)
    seen = _Seen()
    one, two, three = uuids(3)
    remembered = one.bytes + two.bytes + three.bytes
    across = [UUID(bytes=remembered[start : start + 16]) for start in (1, 15, 17, 24)]
    ids = [one, two, three, *across]
    assert [True] * 7 == [seen.add(each) for each in ids]
    assert [False] * 7 == [seen.add(each) for each in ids]


@pytest.mark.parametrize(
    ("count", "with_journal"),
    [
        (500, False),
        (500, True),
        pytest.param(2_000, False, marks=pytest.mark.chaos),
        pytest.param(2_000, True, marks=pytest.mark.chaos),
    ],
)
async def test_iterated_outcomes_are_not_kept(count: int, with_journal: bool, tmp_path: Path) -> None:
    """The peak memory of ten times as many is at most half as much again."""

    async def peak(count: int) -> int:
        journal = Journal(tmp_path / f"{count}.db", "u") if with_journal else None
        gc.collect()
        tracemalloc.start()
        seen = 0
        async with new_batch(Forgetful(), uuids(count), journal=journal) as batch:
            async for _ in batch:
                seen += 1
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == seen
        return most

    await peak(100)
    few, many = await peak(count), await peak(10 * count)
    print(f"{count}: {few} bytes, {10 * count}: {many} bytes")
    assert many <= 1.5 * few


class Forgetful(Instant):
    """Does not remember what it created."""

    async def create(self, avatar_id: Any) -> Any:
        await asyncio.sleep(0)
        return Ready(avatar_id)

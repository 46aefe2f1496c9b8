"""Batches that end before their end: left, cancelled, or by an error of the caller's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from avaturn_async import BatchProgress
from avaturn_async.emulator import Timing
from tests.pending.world import VirtualLoop, run

from .kit import Instant, avatars, is_right, is_whole, run_batch
from .test_batch import new_batch


class Unlucky(Exception):
    """Something of the caller's own."""


async def test_leaving_early_leaves_nothing() -> None:
    """However many outcomes were taken, no task stays and nobody waits for an export any more."""
    async with avatars(20) as (_, client, ids):
        for wanted in range(0, 20, 3):
            async with client.exports.batch(ids, max_pending=6) as batch:
                for _ in range(wanted):
                    await anext(batch)
            assert not [task for task in asyncio.all_tasks() if "ExportBatch" in repr(task)]
            assert not client._context.armed


@pytest.mark.parametrize("steps", range(40))
def test_a_cancellation_at_any_step_is_one(steps: int, caplog: pytest.LogCaptureFixture) -> None:
    """The consumer ends as cancelled, the input is closed, and no task or complaint is left."""
    closed = []

    async def source() -> AsyncIterator[UUID]:
        try:
            while True:
                yield uuid4()
                await asyncio.sleep(0.01)
        finally:
            closed.append(True)

    async def consume() -> None:
        async with new_batch(Instant(seconds=0.05), source(), max_pending=4) as batch:
            async for _ in batch:
                pass

    async def story() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        task = loop.create_task(consume())
        loop.after_steps(steps, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    run(story())
    assert [] == caplog.records
    assert not closed or [True] == closed


@pytest.mark.parametrize("requests", [1, 4, 9, 14, 20, 30])
async def test_a_batch_that_was_cancelled_is_resumed(requests: int, tmp_path: Path) -> None:
    """A later run with the journal ends well, wherever the first was, and has each export tried once."""
    async with avatars(8, timing=Timing(scan=0, export=0.1)) as (avaturn, client, ids):
        before = avaturn.counts.total()
        running = asyncio.create_task(run_batch(client, ids, tmp_path, max_pending=4))
        while avaturn.counts.total() < before + requests and not running.done():
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])
        assert all(map(is_whole, (tmp_path / "models").glob("*.glb")))
        outcomes = await run_batch(client, ids, tmp_path)
        assert ids == [outcome.avatar_id for outcome in outcomes]
        assert all(map(is_right, outcomes))
        assert {f"{avatar_id}.glb" for avatar_id in ids} == {path.name for path in (tmp_path / "models").iterdir()}
        # a create that was cut off before the journal knew of it is asked for again
        assert {1} == {outcome.attempts for outcome in outcomes}
    assert not [
        thread for thread in threading.enumerate() if thread.name.startswith("avaturn-journal_") and _lives(thread)
    ]


def _lives(thread: threading.Thread) -> bool:
    thread.join(timeout=10)
    return thread.is_alive()


def _broken(ids: list[UUID]) -> Iterator[UUID]:
    yield from ids
    raise Unlucky("no more")


async def _broken_too(ids: list[UUID]) -> AsyncIterator[UUID]:
    for avatar_id in ids:
        yield avatar_id
    raise Unlucky("no more")


@pytest.mark.parametrize("source", [_broken, _broken_too])
@pytest.mark.parametrize("good", [0, 3])
async def test_an_input_that_raises_ends_the_batch(source: Any, good: int) -> None:
    """With its own error, as often as it is asked, and with no task left."""
    async with new_batch(Instant(seconds=3600), source([uuid4() for _ in range(good)])) as batch:
        for _ in range(2):
            with pytest.raises(Unlucky, match="no more"):
                await anext(batch)
        with pytest.raises(Unlucky):
            await batch.run()


async def test_an_input_that_raised_is_no_complaint_of_those_who_left(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever leaves before the error comes out does not meet it."""
    async with new_batch(Instant(), _broken([uuid4()])) as batch:
        assert (await anext(batch)).ok
        while batch._work is not None and not batch._work.done():
            await asyncio.sleep(0)
    assert [] == caplog.records


async def test_an_input_whose_cleanup_raises_still_closes_the_journal(tmp_path: Path) -> None:
    """What the cleanup raised comes out of the block."""

    async def source() -> AsyncIterator[UUID]:
        try:
            while True:
                yield uuid4()
        finally:
            raise Unlucky("cleanup")

    from avaturn_async.batch.journal import Journal

    journal = Journal(tmp_path / "journal.db", "u")
    with pytest.raises(Unlucky, match="cleanup"):
        async with new_batch(Instant(), source(), journal=journal) as batch:
            await anext(batch)
    assert journal._database is None


@pytest.mark.parametrize("failing_call", [1, 2])
async def test_a_callback_that_raises_ends_the_batch(failing_call: int) -> None:
    """on_progress is the caller's; so is its error, at the first call as at the last."""
    calls = 0

    def tell(_: BatchProgress) -> None:
        nonlocal calls
        calls += 1
        if calls == failing_call:
            raise Unlucky("enough")

    async with new_batch(Instant(), [uuid4()], on_progress=tell) as batch:
        with pytest.raises(Unlucky, match="enough"):
            await batch.run()


async def test_what_the_block_raises_comes_out_of_it() -> None:
    """Whatever goes on meanwhile is cancelled."""

    async def block() -> None:
        async with new_batch(Instant(seconds=3600), [uuid4(), "junk"]) as batch:
            await anext(batch)
            raise Unlucky("the block")

    with pytest.raises(Unlucky, match="the block"):
        await block()

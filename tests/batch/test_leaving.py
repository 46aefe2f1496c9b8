"""Batches that end early: left, cancelled or interrupted. No task stays, and the journal resumes."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from avaturn_async.emulator import Timing

from .kit import FakeExports, avatars, exported, is_right, is_whole, new_batch, run_batch, run_virtual, turns, uuids

eager = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
FACTORIES = pytest.mark.parametrize("eagerly", [False, pytest.param(True, marks=eager)], ids=["lazy", "eager"])


def use_eager_tasks() -> None:
    """Have tasks of the running loop begin inside `create_task`."""
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]


class Unlucky(Exception):
    """An error of the caller's."""


@FACTORIES
async def test_leaving_early_leaves_nothing(eagerly: bool) -> None:
    """However many outcomes were taken, no task of ours stays."""
    async with avatars(20, timing=Timing(scan=0, export=0.05)) as (_, client, ids):
        if eagerly:
            use_eager_tasks()
        for wanted in range(0, 20, 4):
            before = asyncio.all_tasks()
            async with client.exports.batch(ids, max_pending=6) as batch:
                for _ in range(wanted):
                    await anext(batch)
            await turns()
            assert not [task for task in asyncio.all_tasks() - before if "avaturn_async/" in repr(task.get_stack())]


@FACTORIES
@pytest.mark.parametrize("steps", range(0, 60, 2))
def test_a_cancellation_at_any_step_ends_the_batch(steps: int, eagerly: bool, caplog: pytest.LogCaptureFixture) -> None:
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
        async with new_batch(FakeExports(seconds=0.05), source(), max_pending=4) as batch:
            async for _ in batch:
                pass

    async def story() -> None:
        if eagerly:
            use_eager_tasks()
        task = asyncio.get_running_loop().create_task(consume())
        await turns(steps)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run_virtual(story())
    assert [] == caplog.records
    assert closed in ([], [True])


@eager
def test_eager_tasks_change_no_outcome() -> None:
    """Also where exports end without suspending, so that a task is done when it is created."""

    class Done:
        resolved_by, waited, polls = "create", 0.0, 0

        def __init__(self, avatar_id: UUID) -> None:
            self.avatar_id = avatar_id

        def done(self) -> bool:
            return True

        async def wait(self, *, timeout: object = None) -> Any:
            return self

    class Immediate(FakeExports):
        async def create(self, avatar_id: Any) -> Any:
            self.created.append(avatar_id)
            return Done(avatar_id) if len(self.created) % 3 else await super().create(avatar_id)

    async def story() -> None:
        use_eager_tasks()
        ids = list(uuids(50))
        given = [ids[0], "junk", *ids, "junk"]
        async with new_batch(Immediate(), given, max_pending=7, on_progress=lambda _: None) as batch:
            report = await batch.run()
        assert [ids[0], "junk", *ids, "junk"] == [outcome.avatar_id for outcome in report.outcomes]
        assert 2 == len(report.failed)

    run_virtual(story())


async def test_another_task_that_awaits_an_outcome_is_told_of_the_end() -> None:
    """Leaving the block does not leave it hanging."""
    async with new_batch(FakeExports(seconds=3600), uuids(3)) as batch:
        asking = [asyncio.create_task(batch.__anext__()) for _ in range(3)]
        await turns()
    for each in asking:
        with pytest.raises(RuntimeError, match="left"):
            await each


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


async def test_an_input_whose_cleanup_raises_still_closes_the_journal(tmp_path: Path) -> None:
    """What the cleanup raised comes out of the block, and another batch can have the journal."""

    async def source() -> AsyncIterator[UUID]:
        try:
            while True:
                yield uuid4()
        finally:
            raise Unlucky("cleanup")

    with pytest.raises(Unlucky, match="cleanup"):
        async with new_batch(FakeExports(), source(), journal=tmp_path / "journal.db") as batch:
            await anext(batch)
    with closing(sqlite3.connect(tmp_path / "journal.db", timeout=0)) as database:
        assert (1,) <= database.execute("SELECT count(*) FROM exports").fetchone()


async def test_what_the_block_raises_comes_out_of_it() -> None:
    """What is under way is cancelled."""

    async def block() -> None:
        async with new_batch(FakeExports(seconds=3600), [uuid4(), "junk"]) as batch:
            await anext(batch)
            raise Unlucky("the block")

    with pytest.raises(Unlucky, match="the block"):
        await block()


async def test_nothing_is_sent_before_an_outcome_is_requested() -> None:
    """A block that asks for none sends nothing."""
    async with avatars(1) as (avaturn, client, ids):
        async with client.exports.batch(ids):
            await turns()
        assert [] == exported(avaturn.requests)

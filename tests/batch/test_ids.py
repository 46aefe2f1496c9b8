"""The input of a batch: any iterable, read lazily; what it raises is raised."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from avaturn_async import BatchProgress

from .kit import FakeExports, new_batch, turns, uuids


class Unlucky(Exception):
    """An error of the caller's."""


def _broken(ids: list[UUID]) -> Iterator[UUID]:
    yield from ids
    raise Unlucky("no more")


async def _broken_async(ids: list[UUID]) -> AsyncIterator[UUID]:
    for avatar_id in ids:
        yield avatar_id
    raise Unlucky("no more")


@pytest.mark.parametrize("source", [_broken, _broken_async], ids=["iterable", "async"])
@pytest.mark.parametrize("good", [0, 3])
async def test_what_the_input_raises_is_raised(source: Any, good: int) -> None:
    """As often as the batch is asked; no task is left."""
    async with new_batch(FakeExports(seconds=3600), source(list(uuids(good)))) as batch:
        for _ in range(2):
            with pytest.raises(Unlucky, match="no more"):
                await anext(batch)
        with pytest.raises(Unlucky):
            await batch.run()


def _cancelled(ids: list[UUID]) -> Iterator[UUID]:
    yield from ids
    raise asyncio.CancelledError("the input's own")


async def _cancelled_async(ids: list[UUID]) -> AsyncIterator[UUID]:
    for avatar_id in ids:
        yield avatar_id
    task = asyncio.create_task(asyncio.sleep(3600))
    task.cancel("the input's own")
    await task


@pytest.mark.parametrize("source", [_cancelled, _cancelled_async], ids=["iterable", "async"])
@pytest.mark.parametrize("good", [0, 3])
async def test_a_cancelled_error_of_the_input_is_raised(source: Any, good: int) -> None:
    """It is no end of the input: a report would lack the rest of it."""
    async with new_batch(FakeExports(), source(list(uuids(good)))) as batch:
        for _ in range(2):
            with pytest.raises(asyncio.CancelledError):
                await batch.run()
    task = asyncio.current_task()
    assert task is not None
    assert 0 == task.cancelling()


async def test_an_error_that_nobody_asked_for_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A block that is left before the error comes out does not raise it."""
    ended: list[bool] = []

    def source() -> Iterator[UUID]:
        yield uuid4()
        ended.append(True)
        raise Unlucky("no more")

    async with new_batch(FakeExports(), source(), max_pending=1) as batch:
        assert (await anext(batch)).ok
        while not ended:
            await asyncio.sleep(0)
        await turns()
    assert [] == [record for record in caplog.records if record.levelno > logging.INFO]


async def test_an_input_that_is_filled_later_is_read() -> None:
    """Its length of 0 when the batch was created serves the progress only."""
    ids: list[UUID] = []
    told: list[BatchProgress] = []
    batch = new_batch(FakeExports(), ids, on_progress=told.append)
    ids += uuids(5)
    async with batch:
        assert 5 == len((await batch.run()).outcomes)
    assert (5, 5) == (told[-1].total, told[-1].done)
    assert all(now.total is not None and now.total >= now.done for now in told)


class Uncountable(list[UUID]):
    """An input whose length can't be taken, as that of a Django QuerySet on the loop."""

    def __len__(self) -> int:
        raise RuntimeError("not from an async context")


class Draining:
    """An input that shrinks as it is read."""

    def __init__(self, ids: Iterator[UUID]) -> None:
        self.ids = deque(ids)

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[UUID]:
        while self.ids:
            yield self.ids.popleft()


class OnlyNext:
    """An iterator, of either kind, that is no iterable itself."""

    def __init__(self, ids: Iterator[UUID]) -> None:
        self.ids = ids

    def __next__(self) -> UUID:
        return next(self.ids)

    async def __anext__(self) -> UUID:
        for avatar_id in self.ids:
            return avatar_id
        raise StopAsyncIteration


class OfOnlyNext:
    """An iterable of such an iterator."""

    def __iter__(self) -> Any:
        return OnlyNext(iter(uuids(5)))


class AsyncOfOnlyNext:
    """An async iterable of such an iterator."""

    def __aiter__(self) -> Any:
        return OnlyNext(iter(uuids(5)))


@pytest.mark.parametrize(
    "make",
    [lambda: Uncountable(uuids(5)), lambda: Draining(uuids(5)), OfOnlyNext, AsyncOfOnlyNext, lambda: set(uuids(5))],
    ids=["uncountable", "draining", "iterator", "async-iterator", "set"],
)
async def test_any_iterable_is_an_input(make: Callable[[], Any]) -> None:
    """Its total is known at the end."""
    told: list[BatchProgress] = []
    async with new_batch(FakeExports(), make(), on_progress=told.append) as batch:
        assert 5 == len((await batch.run()).succeeded)
    assert (5, 5) == (told[-1].total, told[-1].done)


class Unprintable:
    """An item whose repr raises."""

    def __repr__(self) -> str:
        raise Unlucky("repr")


@pytest.mark.parametrize(
    "item",
    [7, None, b"\0", Unprintable(), "junk", "{0190d1e1-7b2c-7cc0-8b5a-2f0c1b7a9f00}"],
    ids=lambda each: type(each).__name__,
)
async def test_an_item_that_is_no_id_fails_alone(item: Any) -> None:
    """With a ValueError, and its text as the id."""
    async with new_batch(FakeExports(), [item, good := uuid4()]) as batch:
        bad, fine = (await batch.run()).outcomes
    assert (ValueError, str, 0) == (type(bad.error), type(bad.avatar_id), bad.attempts)
    assert (good, True) == (fine.avatar_id, fine.ok)


async def test_a_generator_is_closed_when_the_block_is_left() -> None:
    """Its cleanup runs inside the block, and what it raises comes out of it."""

    async def source() -> AsyncIterator[UUID]:
        try:
            while True:
                yield uuid4()
        finally:
            raise Unlucky("cleanup")

    with pytest.raises(Unlucky, match="cleanup"):
        async with new_batch(FakeExports(), source()) as batch:
            await anext(batch)


async def test_an_input_that_swallows_the_cancellation_is_left_all_the_same() -> None:
    """It yields once more, and is then not read any further."""
    yielded = 0

    async def source() -> AsyncIterator[UUID]:
        nonlocal yielded
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                yielded += 1
                yield uuid4()

    async with new_batch(exports := FakeExports(), source()) as batch:
        asking = asyncio.create_task(batch.__anext__())
        await turns()
    with pytest.raises(RuntimeError, match="left"):
        await asking
    assert (1, []) == (yielded, exports.created)

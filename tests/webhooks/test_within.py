"""A timeout that is set late does what one that is set at once does."""

from __future__ import annotations

import asyncio
import gc

import pytest

from avaturn_async.webhooks.within import within


async def double(number: int, *waits: asyncio.Future[None]) -> int:
    """Wait for some futures, and return a number."""
    for each in waits:
        await each
    return 2 * number


async def test_what_is_there_is_returned() -> None:
    """Without a turn of the loop."""
    turned: list[int] = []
    asyncio.get_running_loop().call_soon(turned.append, 1)
    assert 6 == await within(1, double(3))
    assert [] == turned


async def test_what_has_to_wait_is_awaited() -> None:
    """Several times, if it must."""
    loop = asyncio.get_running_loop()
    waits = [loop.create_future() for _ in range(3)]
    for turn, each in enumerate(waits, 1):
        loop.call_later(0.002 * turn, each.set_result, None)
    assert 6 == await within(60, double(3, *waits))


async def test_what_takes_too_long_ends() -> None:
    """With a TimeoutError, and with its own clean-up done."""
    ended: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cleaned up")

    with pytest.raises(TimeoutError):
        await within(0.005, slow())
    assert ["cleaned up"] == ended


async def test_a_cancellation_is_one() -> None:
    """Of the task that awaits it, not a timeout."""
    ended: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    task = asyncio.create_task(within(60, slow()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ["cancelled"] == ended


async def test_a_cancellation_may_be_survived() -> None:
    """Where the work catches it and goes on, it goes on waiting."""
    go_on: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await go_on
        return "survived"

    task = asyncio.create_task(within(60, stubborn()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    go_on.set_result(None)
    assert "survived" == await task


@pytest.mark.parametrize("waits", [0, 1])
async def test_what_is_raised_is_raised(waits: int) -> None:
    """Whether at once or after a while."""

    async def broken() -> None:
        for _ in range(waits):
            await asyncio.sleep(0)
        raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"):
        await within(60, broken())


async def test_who_is_dropped_leaves_nothing() -> None:
    """A coroutine that nobody goes on with closes the one in it."""
    ended: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append("closed")

    abandoned = within(60, slow())
    abandoned.send(None)
    abandoned.close()
    gc.collect()
    assert ["closed"] == ended

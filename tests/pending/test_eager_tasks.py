"""Event loops that start tasks at once: a task may be done when create_task returns."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import aiohttp
import pytest

from avaturn_async import AvaturnClient, AvaturnError, PollPolicy, ServerError, TransportError
from avaturn_async.webhooks import MemoryMailbox

from .kit import AVATAR, NEVER, PENDING, READY, URL, World, after, export_event, run, saying

pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio.eager_task_factory is new in 3.12")

FACTORY: Any = getattr(asyncio, "eager_task_factory", None)


@pytest.mark.parametrize("latency", [None, 0.0, 0.1], ids=["no suspension", "one step", "100 ms"])
def test_polls_resolve_a_wait(latency: float | None) -> None:
    """Also those that are answered without a suspension."""

    async def story() -> None:
        failure = ServerError("503", status_code=503)
        world = World(saying(PENDING, PENDING, failure, PENDING, READY), latency=latency)
        export = await world.exports.create(AVATAR)
        models = await asyncio.gather(*(export.wait(timeout=60) for _ in range(3)))
        assert {URL} == {model.url for model in models}
        assert 5 == len(world.times)
        assert not world.context.active
        assert not world.context.tasks

    run(story(), task_factory=FACTORY)


@pytest.mark.parametrize("latency", [None, 0.1], ids=["no suspension", "100 ms"])
def test_webhooks_resolve_a_wait(latency: float | None) -> None:
    """With confirming polls and without."""

    async def story(confirm: bool) -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING, PENDING, READY), latency=latency, mailbox=box, confirm=confirm, policy=NEVER)
        export = await world.exports.create(AVATAR)
        model, _ = await asyncio.gather(export.wait(), after(1, lambda: box.deliver(export_event())))
        assert ("webhook", 2 if confirm else 0) == (model.resolved_by, model.polls)

    for confirm in (True, False):
        run(story(confirm), task_factory=FACTORY)


def test_failures_end_a_wait() -> None:
    """The eleventh in a row, although none of them suspends, and one that comes at once."""

    async def story() -> None:
        for failures, error in (
            ([TransportError("reset")] * 11, TransportError),
            ([ZeroDivisionError()], ArithmeticError),
        ):
            world = World(saying(PENDING, *failures, READY), latency=None)
            export = await world.exports.create(AVATAR)
            with pytest.raises(error):
                await export
            assert URL == (await export).url

    run(story(), task_factory=FACTORY)


def test_a_poll_that_is_cancelled_at_once_is_repeated() -> None:
    """As one that is cancelled later."""

    async def story() -> None:
        left = [PENDING, "cancel", READY]

        def answer(_: Any) -> Any:
            if left[0] == "cancel":
                left.pop(0)
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                raise asyncio.CancelledError
            return left.pop(0)

        world = World(answer, latency=None)
        export = await world.exports.create(AVATAR)
        assert URL == (await export).url
        assert [0, 1, 1.5] == world.times

    run(story(), task_factory=FACTORY)


def test_a_mailbox_with_coroutines() -> None:
    """Whose wait is done when it is subscribed to."""

    class Coroutines(MemoryMailbox):
        async def wait(self, key: str, after: str) -> Any:  # type: ignore[override]
            return await super().wait(key, after)

    async def story() -> None:
        box = Coroutines()
        world = World(saying(PENDING, PENDING, READY), mailbox=box, latency=None, policy=NEVER)
        export = await world.exports.create(AVATAR)
        await box.deliver(export_event())
        assert "webhook" == (await export).resolved_by

    run(story(), task_factory=FACTORY)


def test_a_client_that_closes_during_polls() -> None:
    """Nothing is left of a task that began at once."""

    async def story() -> None:
        world = World(saying(PENDING), latency=10)
        exports = [await world.exports.create(AVATAR) for _ in range(3)]
        waits = [asyncio.create_task(export.wait()) for export in exports]
        await after(2, world.context.aclose)
        await asyncio.wait(waits)
        assert not world.context.tasks

    run(story(), task_factory=FACTORY)


@pytest.mark.parametrize("end", ["middleware raises", "session is closed"])
async def test_a_borrowed_session_that_ends_polls_without_suspending(end: str) -> None:
    """The wait ends with the failure of the polls, and does not hang."""

    async def middleware(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        raise OSError("no network")

    asyncio.get_running_loop().set_task_factory(FACTORY)
    url, policy = "http://127.0.0.1:9", PollPolicy(first=0.01, wait=lambda _: 0.01)
    async with aiohttp.ClientSession(middlewares=[middleware] if end == "middleware raises" else []) as session:
        async with AvaturnClient("token", base_url=url, session=session, polling=policy) as client:
            token = f'{{"v":1,"kind":"export","base_url":"{url}","created":0,"avatar_id":"{AVATAR}"}}'
            if end == "session is closed":
                await session.close()
            with pytest.raises(AvaturnError) as caught:
                await client.exports.resume(token).wait(timeout=20)
            assert not isinstance(caught.value, TimeoutError)

"""Mailboxes that fail, close or misbehave: waits go on, and say what happened once."""

from __future__ import annotations

import asyncio
import logging
import select
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from avaturn_async import ClientClosedError, Delivery, RenderReadyWebhook, TransportError, WaitError
from avaturn_async.webhooks import MemoryMailbox

from .kit import AVATAR, NEVER, PENDING, READY, RENDER, URL, World, after, export_event, now, run, saying

RENDERED = RenderReadyWebhook(id=RENDER, avatar_id=AVATAR, user_id="u", status="ready", render_url=URL)  # type: ignore[arg-type]


def render_world(box: Any) -> World:
    """Return a client whose renders are pending."""
    return World(lambda _: {"id": str(RENDER), "status": "pending"}, mailbox=box)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings that were logged."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def cancelled() -> asyncio.Future[Any]:
    """Return a future that cancelled itself."""
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    return future


def cancelled_later() -> asyncio.Future[Any]:
    """Return a future that will be cancelled."""
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.1, future.cancel)
    return future


def failed() -> asyncio.Future[Any]:
    """Return a future that failed."""
    future = asyncio.get_running_loop().create_future()
    future.set_exception(OSError("gone"))
    return future


def given(value: object) -> asyncio.Future[Any]:
    """Return a future with that result."""
    future = asyncio.get_running_loop().create_future()
    future.set_result(value)
    return future


def raising() -> Any:
    """Raise."""
    raise OSError("gone")


async def coroutine() -> None:
    """Return nothing."""


MISBEHAVIOUR: dict[str, Callable[[], Any]] = {
    "cancels itself": cancelled,
    "cancels itself later": cancelled_later,
    "fails": failed,
    "raises": raising,
    "returns no awaitable": lambda: 5,
    "returns None": coroutine,
    "returns junk": lambda: given("junk"),
    "returns the known delivery": lambda: given(Delivery("known", export_event())),
}


def misbehaving(kind: str, times: float) -> type[MemoryMailbox]:
    """Return a mailbox whose first so many waits misbehave."""

    class Misbehaving(MemoryMailbox):
        waits = 0

        async def position(self, key: str) -> str:
            return "known"

        def wait(self, key: str, after: str) -> asyncio.Future[Any]:
            self.waits += 1
            return MISBEHAVIOUR[kind]() if self.waits <= times else super().wait(key, after)  # type: ignore[no-any-return]

    return Misbehaving


@pytest.mark.parametrize("kind", MISBEHAVIOUR)
def test_a_mailbox_that_misbehaves_is_asked_again(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """With growing delays and one line in the log; then its events count again."""

    async def story() -> None:
        box = misbehaving(kind, 5)()
        world = World(saying(PENDING, READY), mailbox=box, policy=NEVER)
        export = await world.exports.create(AVATAR)
        model, _ = await asyncio.gather(export.wait(timeout=200), after(100, lambda: box.deliver(export_event())))
        assert (URL, "webhook", [0, 100]) == (model.url, model.resolved_by, world.times)
        assert 6 == box.waits - 1  # the last wait was resolved, and renewed

    run(story())
    assert 1 == len(lines(caplog))
    assert "the mailbox failed" in lines(caplog)[0]


@pytest.mark.parametrize("kind", list(MISBEHAVIOUR)[:-1])
def test_a_render_survives_a_mailbox_that_misbehaves(kind: str) -> None:
    """Its event is found once the mailbox works."""

    async def story() -> None:
        box = misbehaving(kind, 5)()
        waiting = asyncio.create_task((await render_world(box).renders.create(AVATAR)).wait(timeout=300))
        await box.deliver(RENDERED)
        assert URL == (await waiting).url

    run(story())


@pytest.mark.parametrize("kind", list(MISBEHAVIOUR)[:-1])
def test_a_render_whose_mailbox_is_hopeless_says_so(kind: str) -> None:
    """After ten failures in a row, each awaiter gets a WaitError of its own."""

    async def story() -> None:
        render = await render_world(misbehaving(kind, 1e9)()).renders.create(AVATAR)
        start = now()
        errors = await asyncio.gather(render.wait(), render.wait(timeout=None), return_exceptions=True)
        assert [WaitError] * 2 == [type(error) for error in errors]
        assert 2 == len({id(error) for error in errors})
        assert {render.resume_token} == {error.resume_token for error in errors}  # type: ignore[union-attr]
        assert f"the render of avatar {AVATAR} can't be awaited: its mailbox failed" in str(errors[0])
        assert now() - start < 600

    run(story())


def test_an_export_with_a_hopeless_mailbox_is_polled(caplog: pytest.LogCaptureFixture) -> None:
    """The mailbox is asked at most once a minute, and the log has one line for a hundred exports."""

    async def story() -> None:
        box = misbehaving("raises", 1e9)()
        world = World(saying(PENDING), mailbox=box)
        exports = [await world.exports.create(AVATAR) for _ in range(100)]
        waits = [asyncio.create_task(export.wait(timeout=3600)) for export in exports]
        await asyncio.wait(waits, timeout=1000)
        world.transport.script = saying(READY)
        assert {"poll"} == {(await wait).resolved_by for wait in waits}
        assert box.waits <= 100 * 60

    run(story())
    assert 1 == len(lines(caplog))


def test_each_outage_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """A mailbox that worked meanwhile is worth another one; one that logs outages itself is not."""

    class Flaky(MemoryMailbox):
        error: Exception | None = None

        async def position(self, key: str) -> str:
            if self.error is not None:
                raise self.error
            return ""

    async def story() -> None:
        box = Flaky()
        world = World(saying(READY), mailbox=box)
        for error in (OSError(), ValueError(), None, OSError(), None, TransportError("told"), TransportError("told")):
            box.error = error
            assert (await world.exports.create(AVATAR)).done()

    run(story())
    assert [
        "the mailbox failed (OSError); jobs are polled until it works again",
        "the mailbox failed (OSError); jobs are polled until it works again",
    ] == lines(caplog)


def test_a_position_that_is_no_text_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    """The export is created all the same."""

    class Odd(MemoryMailbox):
        async def position(self, key: str) -> str:
            return None  # type: ignore[return-value]

    async def story() -> None:
        world = World(saying(READY), mailbox=Odd())
        assert (await world.exports.create(AVATAR)).done()

    run(story())
    assert 1 == len(lines(caplog))


def test_a_mailbox_that_is_closed_leaves_polling() -> None:
    """Before a wait and during one."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING, PENDING, READY), mailbox=box)
        export = await world.exports.create(AVATAR)
        model, _ = await asyncio.gather(export.wait(), after(0.3, box.aclose))
        assert ("poll", [0, 1, 3]) == (model.resolved_by, world.times)
        world.transport.script = saying(PENDING, READY)
        assert "poll" == (await (await world.exports.create(AVATAR))).resolved_by

    run(story())


def test_a_render_whose_mailbox_is_closed_ends_at_once() -> None:
    """No event will come any more."""

    async def story() -> None:
        box = MemoryMailbox()
        render = await render_world(box).renders.create(AVATAR)
        waiting = asyncio.create_task(render.wait())
        await after(1, box.aclose)
        for wait in (waiting, render):
            with pytest.raises(ClientClosedError) as caught:
                await wait
            assert render.resume_token == caught.value.resume_token

    run(story())


def test_an_event_and_the_mailbox_s_end_in_one_tick() -> None:
    """What was delivered counts, although the mailbox is closed by then."""

    async def story() -> None:
        box = MemoryMailbox()
        waiting = asyncio.create_task((await render_world(box).renders.create(AVATAR)).wait())
        await asyncio.sleep(1)
        await box.deliver(RENDERED)
        await box.aclose()
        assert URL == (await waiting).url

    run(story())


def test_a_failure_after_the_wait_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    """Asyncio has no exception to report that nobody retrieved."""

    async def story() -> None:
        futures: list[asyncio.Future[Any]] = []

        class Slow(MemoryMailbox):
            def wait(self, key: str, after: str) -> asyncio.Future[Any]:
                futures.append(asyncio.get_running_loop().create_future())
                return futures[-1]

        export = await World(saying(PENDING), mailbox=Slow()).exports.create(AVATAR)
        waiting = asyncio.create_task(export.wait())
        await asyncio.sleep(0)
        waiting.cancel()
        futures[0].set_exception(OSError("gone"))
        await asyncio.wait([waiting])

    run(story())
    assert [] == lines(caplog)


def test_an_event_whose_poll_was_cancelled_is_not_lost() -> None:
    """The next wait confirms it, also one in another process."""

    async def story(elsewhere: bool) -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING, READY), mailbox=box, latency=0.2, policy=NEVER)
        export = await world.exports.create(AVATAR)
        waiting = asyncio.create_task(export.wait())
        await after(4.9, lambda: box.deliver(export_event()))
        await after(0.1, waiting.cancel)
        await asyncio.wait([waiting])
        if elsewhere:
            world = World(saying(READY), mailbox=box, latency=0.2, policy=NEVER)
            export = world.exports.resume(export.resume_token)
        start = now()
        model = await export
        assert ("webhook", True) == (model.resolved_by, now() - start <= 0.61)

    run(story(elsewhere=False))
    run(story(elsewhere=True))


def test_clients_in_two_threads_do_not_block_each_other() -> None:
    """While one handles a failure of its mailbox, another resolves a render."""
    resolved: list[str] = []

    async def other() -> None:
        box = MemoryMailbox()
        waiting = asyncio.create_task((await render_world(box).renders.create(AVATAR)).wait(timeout=10))
        await asyncio.sleep(0)
        await box.deliver(RENDERED)
        resolved.append((await waiting).resolved_by)

    def work(end: socket.socket) -> None:
        with end:
            asyncio.run(other())

    class Meanwhile(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if resolved:
                return
            ended, end = socket.socketpair()
            with ended:
                threading.Thread(target=work, args=[end]).start()
                select.select([ended], [], [], 30)  # join() would count as a blocking call in a coroutine

    async def one() -> None:
        box = MemoryMailbox()
        waiting = asyncio.create_task((await World(saying(PENDING, READY), mailbox=box).exports.create(AVATAR)).wait())
        await asyncio.sleep(0)
        await box.aclose()
        await waiting

    handler, logger = Meanwhile(), logging.getLogger("avaturn_async.pending.context")
    logger.addHandler(handler)
    try:
        run(one())
    finally:
        logger.removeHandler(handler)
    assert ["webhook"] == resolved

"""Callbacks: after the reply, on the receiver's loop whatever thread delivers, and drained at the end."""

from __future__ import annotations

import asyncio
import logging
import random
import sys
import threading
from collections.abc import Iterable
from functools import partial
from typing import Any
from unittest.mock import AsyncMock

import pytest

from avaturn_async import (
    AvatarReadyWebhook,
    ExportReadyWebhook,
    UnknownEvent,
    WebhookReceiver,
)
from avaturn_async.webhooks import Reply, key_of

from .kit import PATH
from .samples import SECRET, Gated, avatar, export_body, export_event, render_body

KEY = key_of(export_event())


async def test_callbacks_by_name_and_class() -> None:
    """Callbacks get the events of their name or class, after the reply, also those that this release doesn't know."""
    receiver, called = WebhookReceiver(SECRET), []

    for kind in ("export.ready", ExportReadyWebhook, AvatarReadyWebhook, "body.ready"):

        @receiver.on(kind)
        async def callback(event: Any, kind: Any = kind) -> None:
            called.append((kind, event))

    async with receiver:
        assert 200 == (await receiver.handle(export_body(), path=PATH)).status
        assert 202 == (await receiver.handle(b'{"event": "body.ready"}', path=PATH)).status
        assert [] == called
    unknown = UnknownEvent("body.ready", {"event": "body.ready"})
    known = [("export.ready", export_event()), (ExportReadyWebhook, export_event())]
    assert [*known, ("body.ready", unknown)] == called


@pytest.mark.parametrize("entered", [True, False])
@pytest.mark.parametrize("error", [ValueError("no"), asyncio.CancelledError()])
async def test_a_raising_callback(entered: bool, error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """A callback that raises is logged without the path, and harms neither the reply nor the other callbacks."""
    receiver, called = WebhookReceiver(SECRET), []

    @receiver.on("export.ready")
    async def raising(event: Any) -> None:
        raise error

    @receiver.on("export.ready")
    async def calm(event: Any) -> None:
        called.append(event)

    if entered:
        receiver.bind()
    assert 200 == (await receiver.handle(export_body(), path=PATH)).status
    await receiver.aclose()
    assert [export_event()] == called
    assert [logging.ERROR] == [record.levelno for record in caplog.records]
    assert SECRET not in caplog.text


async def test_callbacks_are_drained() -> None:
    """Leaving the receiver waits for callbacks under way."""
    receiver, gate, ended = WebhookReceiver(SECRET), asyncio.Event(), []

    @receiver.on("export.ready")
    async def slow(event: Any) -> None:
        await gate.wait()
        ended.append(event)

    async with receiver:
        for _ in range(250):
            await receiver.handle(export_body(), path=PATH)
        asyncio.get_running_loop().call_soon(gate.set)
    assert [export_event()] * 250 == ended


@pytest.mark.parametrize("stubborn", [False, True])
async def test_callbacks_are_cancelled_in_the_end(stubborn: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Callbacks that take longer are cancelled with a log; one that ignores that does not hold up the end."""
    receiver, gate, cancelled = WebhookReceiver(SECRET), asyncio.Event(), []

    @receiver.on("export.ready")
    async def slow(event: Any) -> None:
        try:
            await gate.wait()
        except asyncio.CancelledError:
            cancelled.append(event)
            if not stubborn:
                raise
            await gate.wait()

    receiver.bind()
    await receiver.handle(export_body(), path=PATH)
    for _ in range(3):
        await asyncio.sleep(0)
    await receiver.aclose(drain=0)
    assert [export_event()] == cancelled
    assert ["1 callbacks were cancelled: they did not end within 0 s"] == caplog.messages
    gate.set()


async def test_a_callback_that_has_not_begun_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    """A receiver that is closed at once calls nobody afterwards."""
    receiver, called = WebhookReceiver(SECRET), []

    @receiver.on("export.ready")
    async def callback(event: Any) -> None:
        await asyncio.Event().wait()
        called.append(event)

    receiver.bind()
    await receiver.handle(export_body(), path=PATH)
    await receiver.aclose(drain=0)
    for _ in range(5):
        await asyncio.sleep(0)
    assert [] == called
    assert 1 == len(caplog.records)


async def test_events_are_refused_while_callbacks_are_behind() -> None:
    """With 10,000 callbacks queued an event is answered with 503, but stored; events without callbacks are accepted."""
    receiver, gate = WebhookReceiver(SECRET), asyncio.Event()

    @receiver.on("export.ready")
    async def slow(event: Any) -> None:
        await gate.wait()

    async with receiver:
        for _ in range(10_000):
            assert 200 == (await receiver.handle(export_body(), path=PATH)).status
        waiting = receiver.mailbox.wait(key_of(export_event(avatar(7))), "")
        assert 503 == (await receiver.handle(export_body(avatar(7)), path=PATH)).status
        assert export_event(avatar(7)) == (await waiting).event
        assert 200 == (await receiver.handle(render_body(), path=PATH)).status
        gate.set()


async def test_at_most_100_run_at_once() -> None:
    """Further callbacks wait for their turn."""
    receiver, running, most = WebhookReceiver(SECRET), 0, 0

    @receiver.on("export.ready")
    async def callback(event: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(3):
            await asyncio.sleep(0)
        running -= 1

    async with receiver:
        for _ in range(350):
            await receiver.handle(export_body(), path=PATH)
    assert 100 == most


# Registration.


def test_sync_functions_are_refused() -> None:
    """A callback that would return no awaitable, or only sometimes, is refused at once."""
    receiver = WebhookReceiver(SECRET)

    class Called:
        def __call__(self, event: Any) -> None:
            """Do nothing."""

    async def generator(event: Any) -> Any:
        yield event

    queue: asyncio.Queue[Any] = asyncio.Queue()
    odd: list[Any] = [print, lambda event: queue.put(event), Called(), Called, partial(print), generator, None, 7]
    for callback in odd:
        with pytest.raises(TypeError, match="a callback must be an async function, not"):
            receiver.on("export.ready")(callback)


async def test_ways_to_write_a_callback() -> None:
    """Async functions and methods, partial ones, and objects that are called with await."""
    receiver, called = WebhookReceiver(SECRET), []

    async def function(event: Any, more: int = 0) -> None:
        called.append(more)

    class Called:
        async def __call__(self, event: Any) -> None:
            """Note it."""
            called.append(2)

    queue: asyncio.Queue[Any] = asyncio.Queue()
    mock = AsyncMock()
    for callback in (function, partial(function, more=1), Called(), partial(Called()), queue.put, mock):
        assert callback is receiver.on("export.ready")(callback)
    await receiver.handle(export_body(), path=PATH)
    assert [0, 1, 2, 2] == called
    assert export_event() == queue.get_nowait()
    mock.assert_awaited_once_with(export_event())


async def decorated(event: Any) -> None:
    """Stand for a callback."""


@pytest.mark.parametrize("event", [decorated, None, 7, Exception, UnknownEvent, ExportReadyWebhook.__init__])
def test_on_needs_an_event(event: Any) -> None:
    """A decorator without parentheses, and anything else that is no event, is refused with an example."""
    with pytest.raises(TypeError, match=r'on\(\) takes .* as in @receiver\.on\("export\.ready"\), not'):
        WebhookReceiver(SECRET).on(event)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_eager_tasks() -> None:
    """With an eager task factory callbacks still run after the reply, and are drained."""
    receiver, order = WebhookReceiver(SECRET), []

    @receiver.on("export.ready")
    async def callback(event: Any) -> None:
        order.append("begins")
        if len(order) > 2:
            await asyncio.sleep(0)
        order.append("ends")

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        for _ in range(2):
            async with receiver:
                order.append((await receiver.handle(export_body(), path=PATH)).status)

    asyncio.run(main())
    assert [200, "begins", "ends"] * 2 == order


async def test_an_event_on_its_way_is_drained() -> None:
    """An event that is being stored at the end is answered 200, and its callback runs before the end."""
    mailbox = Gated()
    receiver, called = WebhookReceiver(SECRET, mailbox=mailbox), []

    @receiver.on("export.ready")
    async def callback(event: Any) -> None:
        called.append(event)

    receiver.bind()
    coming = asyncio.create_task(receiver.handle(export_body(), path=PATH))
    await mailbox.asked.wait()
    closing = asyncio.create_task(receiver.aclose())
    await asyncio.sleep(0)
    assert 503 == (await receiver.handle(export_body(), path=PATH)).status
    assert not closing.done()
    mailbox.gate.set()
    await closing
    assert [export_event()] == called
    assert Reply(200) == await coming


async def test_a_drain_in_vain_ends(caplog: pytest.LogCaptureFixture) -> None:
    """An event that never gets stored doesn't hold up the end, nor one whose handle is cancelled."""
    mailbox = Gated()
    receiver = WebhookReceiver(SECRET, mailbox=mailbox)
    coming = asyncio.create_task(receiver.handle(export_body(), path=PATH))
    await mailbox.asked.wait()
    await receiver.aclose(drain=0)
    coming.cancel()
    await asyncio.wait([coming])
    await receiver.aclose()
    assert coming.cancelled()
    assert [] == caplog.records


# Other threads and loops.


def wsgi(receiver: WebhookReceiver, body: bytes, path: str) -> int:
    """Answer as a plain WSGI function does, on a thread without a loop."""

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        reply = asyncio.run(receiver.handle(body, path=environ["PATH_INFO"], headers={}))
        start_response(str(reply.status), list(reply.headers.items()))
        return [reply.body]

    statuses: list[str] = []
    application({"PATH_INFO": path}, lambda status, _: statuses.append(status))
    return int(statuses[0])


async def test_from_a_wsgi_function() -> None:
    """A plain WSGI function on another thread wakes who waits here, and callbacks run on the home loop."""
    receiver, called = WebhookReceiver(SECRET), []

    @receiver.on("export.ready")
    async def callback(event: Any) -> None:
        called.append((event, threading.current_thread()))

    async with receiver:
        waiting = asyncio.ensure_future(receiver.mailbox.wait(KEY, ""))
        assert 200 == await asyncio.to_thread(wsgi, receiver, export_body(), PATH)
        assert export_event() == (await waiting).event
        assert 404 == await asyncio.to_thread(wsgi, receiver, export_body(), "/x")
    assert [(export_event(), threading.main_thread())] == called


async def test_a_receiver_without_a_home() -> None:
    """Where no loop is the home, callbacks are over before the reply."""
    receiver, called = WebhookReceiver(SECRET), []

    @receiver.on("export.ready")
    async def callback(event: Any) -> None:
        await asyncio.sleep(0)
        called.append(event)

    assert 200 == await asyncio.to_thread(wsgi, receiver, export_body(), PATH)
    assert [export_event()] == called


async def test_many_threads_at_the_end() -> None:
    """No event that was answered with 200 from a thread is lost to a callback, whenever the end comes."""
    seed = random.randrange(1 << 30)
    print("seed", seed)
    receiver, called = WebhookReceiver(SECRET), []

    @receiver.on("export.ready")
    async def callback(event: ExportReadyWebhook) -> None:
        called.append(event.avatar_id)

    def work(numbers: list[int]) -> list[int]:
        return [number for number in numbers if wsgi(receiver, export_body(avatar(number)), PATH) == 200]

    receiver.bind()
    numbers = random.Random(seed).sample(range(200), 200)
    threads = [asyncio.create_task(asyncio.to_thread(work, numbers[part::4])) for part in range(4)]
    while len(called) < 40:
        await asyncio.sleep(0)
    await receiver.aclose()
    heard = sorted(called)
    accepted = [number for part in await asyncio.gather(*threads) for number in part]
    assert heard == sorted(avatar(number) for number in accepted)


def test_a_home_that_is_gone() -> None:
    """A loop that was closed with callbacks under way is not waited for, and the next one becomes the home."""
    receiver, called = WebhookReceiver(SECRET), []

    @receiver.on("export.ready")
    async def callback(event: Any) -> None:
        called.append(event)
        await asyncio.sleep(0)

    async def one() -> Reply:
        receiver.bind()
        return await receiver.handle(export_body(), path=PATH)

    assert [200, 200] == [asyncio.run(one()).status for _ in range(2)]
    called.clear()
    assert 200 == asyncio.run(receiver.handle(export_body(), path=PATH)).status
    assert [export_event()] == called
    asyncio.run(receiver.aclose())


async def test_closed_from_another_loop(caplog: pytest.LogCaptureFixture) -> None:
    """Callbacks that are not over are cancelled where they run, by whichever loop closes the receiver."""
    receiver, cancelled = WebhookReceiver(SECRET), asyncio.Event()

    @receiver.on("export.ready")
    async def slow(event: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    receiver.bind()
    await receiver.handle(export_body(), path=PATH)
    await asyncio.sleep(0)
    await asyncio.to_thread(lambda: asyncio.run(receiver.aclose(drain=0)))
    await cancelled.wait()
    assert 1 == len(caplog.records)


class Ending(asyncio.SelectorEventLoop):
    """A loop that is closed between the question and the call."""

    ended = False

    def call_soon_threadsafe(self, *arguments: Any, **options: Any) -> asyncio.Handle:
        """Refuse at the end."""
        if self.ended:
            raise RuntimeError("Event loop is closed")
        return super().call_soon_threadsafe(*arguments, **options)


def test_a_loop_that_ends_meanwhile() -> None:
    """If the receiver's loop closes at this very moment, callbacks run where the event is handled."""
    receiver, called = WebhookReceiver(SECRET), []

    @receiver.on("export.ready")
    async def callback(event: Any) -> None:
        called.append(event)

    async def bind() -> None:
        receiver.bind()

    loop = Ending()
    loop.run_until_complete(bind())
    loop.ended = True
    assert 200 == asyncio.run(receiver.handle(export_body(), path=PATH)).status
    assert [export_event()] == called
    loop.ended = False
    loop.close()


def test_a_loop_that_is_gone_before_a_callback_began() -> None:
    """What a closed loop never began is not waited for by the next one."""
    receiver, called = WebhookReceiver(SECRET), []

    @receiver.on("export.ready")
    async def callback(event: Any) -> None:
        called.append(event)

    async def bind() -> None:
        receiver.bind()

    async def end() -> None:
        receiver.bind()
        async with asyncio.timeout(20):
            await receiver.aclose(drain=30)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(bind())
    assert 200 == asyncio.run(receiver.handle(export_body(), path=PATH)).status
    loop.close()
    asyncio.run(end())
    assert [] == called


def test_on_without_parentheses() -> None:
    """The message shows how to write it."""

    async def callback(event: object) -> None:
        """Never called."""

    with pytest.raises(TypeError, match=r'as in @receiver\.on\("export\.ready"\), not <function'):
        WebhookReceiver("x" * 22).on(callback)  # type: ignore[call-overload]

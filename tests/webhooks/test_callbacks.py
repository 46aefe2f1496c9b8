"""Callbacks: after the reply, on the home loop whatever thread delivers, and drained at the end."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Iterable
from typing import Any

import pytest

from avaturn_async import (
    AvatarReadyWebhook,
    ExportReadyWebhook,
    UnknownEvent,
    WebhookReceiver,
)
from avaturn_async.webhooks import Reply, callbacks as callbacks_module, key_of

from .samples import SECRET, Gated, avatar, export_body, export_event

PATH = f"/avaturn/{SECRET}"
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
async def test_callbacks_are_cancelled_in_the_end(
    stubborn: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Callbacks that take longer are cancelled with a log; one that won't be does not hold up the end."""
    monkeypatch.setattr(callbacks_module, "_GRACE", 0.01)
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
    await asyncio.sleep(0)
    await receiver.aclose(drain=0)
    assert [export_event()] == cancelled
    assert ["1 callbacks were cancelled: they were not over after 0 s"] == caplog.messages
    gate.set()


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


class ClosedJustNow:
    """A loop that is closed between the question and the call."""

    def is_closed(self) -> bool:
        """Say no."""
        return False

    def call_soon_threadsafe(self, *_: Any) -> None:
        """Refuse."""
        raise RuntimeError("Event loop is closed")


async def test_a_home_that_ends_meanwhile() -> None:
    """Where the home loop closes at this very moment, callbacks run here and count no longer."""
    receiver, called = WebhookReceiver(SECRET), []

    @receiver.on("export.ready")
    async def callback(event: Any) -> None:
        called.append(event)

    receiver._callbacks._home = ClosedJustNow()  # type: ignore[assignment]
    assert 200 == (await receiver.handle(export_body(), path=PATH)).status
    await receiver.aclose()
    assert [export_event()] == called

"""What floods, stalls and torn-down loops must not do to those who wait."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from typing import Any

import pytest

from avaturn_async import MemoryMailbox, Unauthenticated, WebhookReceiver
from avaturn_async.webhooks import callbacks as callbacks_module, key_of

from .samples import SECRET, avatar, export_body, export_event, render_body, render_event

PATH = f"/avaturn/{SECRET}"


async def standing(mailbox: MemoryMailbox, events: list[Any]) -> int:
    """Count the events under whose keys a row stands."""
    return sum([await mailbox.position(key_of(event)) != "" for event in events])


@pytest.mark.parametrize("hint", [export_event, render_event])
async def test_hints_never_make_room_at_the_cost_of_the_authenticated(hint: Any) -> None:
    """However small the mailbox and many the hints, what is authenticated stays: else `only` would mislead."""
    mailbox = MemoryMailbox(max_rows=4)
    told = [export_event(avatar(1)), export_event(avatar(2)), render_event(avatar(3)), render_event(avatar(4))]
    for event in told:
        await mailbox.deliver(event)
    for number in range(10, 60):
        await mailbox.deliver(hint(avatar(number)), authenticated=False)
    assert 4 == await standing(mailbox, told)
    assert 1 >= await standing(mailbox, [hint(avatar(number)) for number in range(10, 60)])


async def test_the_authenticated_replace_hints_first() -> None:
    """Room for what is authenticated is made by dropping hints."""
    mailbox = MemoryMailbox(max_rows=2)
    await mailbox.deliver(export_event(avatar(1)))
    await mailbox.deliver(render_event(avatar(2)), authenticated=False)
    await mailbox.deliver(export_event(avatar(3)))
    assert 2 == await standing(mailbox, [export_event(avatar(1)), export_event(avatar(3))])
    assert 0 == await standing(mailbox, [render_event(avatar(2))])


async def test_a_row_that_is_no_longer_awaited_may_go() -> None:
    """Once the last wait for its successor is cancelled, a row can be evicted again."""
    mailbox = MemoryMailbox(max_rows=1)
    first, second = export_event(avatar(1)), export_event(avatar(2))
    await mailbox.deliver(first)
    waiting = [mailbox.wait(key_of(first), await mailbox.position(key_of(first))) for _ in range(2)]
    waiting[0].cancel()
    await asyncio.sleep(0)
    await mailbox.deliver(second)
    assert 2 == await standing(mailbox, [first, second])
    waiting[1].cancel()
    await asyncio.sleep(0)
    await mailbox.deliver(export_event(avatar(3)))
    assert 0 == await standing(mailbox, [first, second])


@pytest.mark.parametrize("field", ["user_id", "status", "export_url"])
async def test_forged_events_with_ballast(field: str) -> None:
    """Forged events that fill a known field with 60,000 characters take no more memory than others."""
    receiver = WebhookReceiver(Unauthenticated())
    await receiver.handle(export_body())
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(1200):
            await receiver.handle(export_body(avatar(number), **{field: f"{number}" + "x" * 60_000}))
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 5_000_000
    finally:
        tracemalloc.stop()


async def test_waiters_need_no_callback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where callbacks are behind, an event is asked for again, but who awaits it is woken at once."""
    monkeypatch.setattr(callbacks_module, "_MOST", 2)
    receiver, gate = WebhookReceiver(SECRET), asyncio.Event()

    @receiver.on("export.ready")
    async def slow(event: Any) -> None:
        await gate.wait()

    async with receiver:
        for _ in range(2):
            assert 200 == (await receiver.handle(export_body(), path=PATH)).status
        waiting = receiver.mailbox.wait(key_of(export_event(avatar(7))), "")
        assert 503 == (await receiver.handle(export_body(avatar(7)), path=PATH)).status
        async with asyncio.timeout(5):
            assert export_event(avatar(7)) == (await waiting).event
        assert 200 == (await receiver.handle(render_body(), path=PATH)).status
        gate.set()


def test_a_home_that_is_gone_before_a_callback_began() -> None:
    """What a closed loop never began is not waited for by the next one."""
    receiver, called = WebhookReceiver(SECRET), []
    receiver.on("export.ready")(lambda event: called.append(event))  # type: ignore[arg-type, return-value]
    loop = asyncio.new_event_loop()

    async def bind() -> None:
        receiver.bind()

    async def end() -> None:
        receiver.bind()
        async with asyncio.timeout(5):
            await receiver.aclose(drain=30)

    loop.run_until_complete(bind())
    assert 200 == asyncio.run(receiver.handle(export_body(), path=PATH)).status
    loop.close()
    asyncio.run(end())
    assert [] == called


async def test_an_answer_that_nobody_reads() -> None:
    """A server that says by an OSError that the client is gone hears no more of it, and the event is kept."""
    receiver = WebhookReceiver(SECRET)

    async def receive() -> Any:
        return {"type": "http.request", "body": export_body(), "more_body": False}

    async def send(message: Any) -> None:
        raise OSError

    await receiver.asgi({"type": "http", "method": "POST", "path": PATH, "headers": []}, receive, send)
    assert "" != await receiver.mailbox.position(key_of(export_event()))


def test_a_verifier_that_is_awaited_is_refused() -> None:
    """An async verify would refuse every webhook: better to say so at once."""

    class Awaited:
        async def verify(self, body: bytes, *, path: str, headers: Any) -> bool:
            """Accept."""
            return True

    with pytest.raises(TypeError, match="whose verify is no coroutine"):
        WebhookReceiver(Awaited())  # type: ignore[arg-type]

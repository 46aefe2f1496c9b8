"""The receiver's core: bytes in, a reply out, the event in the mailbox and to the callbacks."""

from __future__ import annotations

import asyncio
import base64
import gc
import traceback
import tracemalloc
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given, strategies as st

from avaturn_async import (
    BasicAuth,
    ExportReadyWebhook,
    MemoryMailbox,
    PathSecret,
    Unauthenticated,
    WebhookReceiver,
)
from avaturn_async.webhooks import Reply, callbacks as callbacks_module, key_of

from .samples import AVATAR, SECRET, Gated, avatar, export_body, export_event, render_body, render_event

PATH = f"/avaturn/{SECRET}"
KEY = key_of(export_event())


class Failing(MemoryMailbox):
    """A mailbox whose store is gone."""

    async def deliver(self, event: Any, *, authenticated: bool = True) -> None:
        """Fail."""
        raise ConnectionError("redis://user:hunter2@host")


async def test_an_event_is_accepted() -> None:
    """The event is in the mailbox when 200 is answered, for a render too."""
    receiver = WebhookReceiver(SECRET)
    assert Reply(200) == await receiver.handle(export_body(), path=PATH)
    assert Reply(200) == await receiver.handle(render_body(), path=PATH)
    found = [await receiver.mailbox.wait(key_of(event), "") for event in (export_event(), render_event())]
    assert [(export_event(), True), (render_event(), True)] == [(each.event, each.authenticated) for each in found]


async def test_a_hint_is_marked() -> None:
    """What nobody vouches for is marked so in the mailbox."""
    receiver = WebhookReceiver(Unauthenticated())
    assert 200 == (await receiver.handle(export_body())).status
    assert not (await receiver.mailbox.wait(KEY, "")).authenticated


@pytest.mark.parametrize(
    ("auth", "body", "status", "headers"),
    [
        (SECRET, b'{"event": "body.ready"}', 202, {}),
        (SECRET, b"\xff", 400, {}),
        (SECRET, b'{"event": "export.ready"}', 400, {}),
        (SECRET, b" " * 65_537, 413, {}),
        (PathSecret(SECRET[::-1]), export_body(), 404, {}),
        (PathSecret(SECRET[::-1]), b"\xff", 404, {}),
        (BasicAuth("a", "b"), export_body(), 401, {"WWW-Authenticate": 'Basic realm="webhooks", charset="UTF-8"'}),
    ],
)
async def test_refusals(auth: Any, body: bytes, status: int, headers: Mapping[str, str]) -> None:
    """Each refusal has its status, and the unauthenticated learn nothing of the body."""
    reply = await WebhookReceiver(auth).handle(body, path=PATH)
    assert (status, headers) == (reply.status, dict(reply.headers))


async def test_basic_credentials_are_accepted() -> None:
    """Credentials in the Authorization header open, whatever the header's case."""
    headers = {"AUTHORIZATION": "Basic " + base64.b64encode(b"a:b").decode()}
    assert 200 == (await WebhookReceiver(BasicAuth("a", "b")).handle(export_body(), headers=headers)).status


async def test_a_failing_store(caplog: pytest.LogCaptureFixture) -> None:
    """What could not be kept is asked for again, and the log has no secret of the store's."""
    called: list[Any] = []
    receiver = WebhookReceiver(SECRET, mailbox=Failing())
    receiver.on("export.ready")(lambda event: called.append(event))  # type: ignore[arg-type, return-value]
    reply = await receiver.handle(export_body(), path=PATH)
    assert (503, "5") == (reply.status, reply.headers["Retry-After"])
    assert [] == called
    assert "ConnectionError" in caplog.text
    assert "hunter2" not in caplog.text


async def test_a_mailbox_that_was_closed() -> None:
    """It keeps nothing, so the event has to come again."""
    receiver = WebhookReceiver(SECRET)
    await receiver.mailbox.aclose()
    assert 503 == (await receiver.handle(export_body(), path=PATH)).status


@pytest.mark.parametrize("place", ["subclass", "object", "class"])
async def test_a_mailbox_with_a_way_of_its_own(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a subclass does with an event is done, and what a test puts in its place."""
    delivered: list[Any] = []

    class Noting(MemoryMailbox):
        async def deliver(self, event: Any, *, authenticated: bool = True) -> None:
            delivered.append((event, authenticated))

    mailbox = Noting() if place == "subclass" else MemoryMailbox()
    if place == "object":
        monkeypatch.setattr(mailbox, "deliver", Noting().deliver)
    if place == "class":
        monkeypatch.setattr(MemoryMailbox, "deliver", Noting.deliver)
    assert 200 == (await WebhookReceiver(SECRET, mailbox=mailbox).handle(export_body(), path=PATH)).status
    assert [(export_event(), True)] == delivered


async def test_a_mailbox_that_fails_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it is that fails, the event has to come again."""

    def broken() -> float:
        raise OSError("no clock")

    receiver = WebhookReceiver(SECRET, mailbox=MemoryMailbox(clock=broken))
    assert 503 == (await receiver.handle(export_body(), path=PATH)).status
    assert "OSError" in caplog.text


async def test_the_closing_refuse() -> None:
    """A receiver that is closed asks for events again, until it is entered once more."""
    receiver = WebhookReceiver(SECRET)
    async with receiver:
        assert 200 == (await receiver.handle(export_body(), path=PATH)).status
    reply = await receiver.handle(export_body(), path=PATH)
    assert (503, "5") == (reply.status, reply.headers["Retry-After"])
    async with receiver:
        assert 200 == (await receiver.handle(export_body(), path=PATH)).status


async def test_too_many_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond so many callbacks under way, further events have to come again."""
    monkeypatch.setattr(callbacks_module, "_MOST", 3)
    receiver, gate = WebhookReceiver(SECRET), asyncio.Event()

    @receiver.on("export.ready")
    async def called(event: ExportReadyWebhook) -> None:
        await gate.wait()

    async with receiver:
        statuses = [(await receiver.handle(export_body(), path=PATH)).status for _ in range(5)]
        gate.set()
    assert [200, 200, 200, 503, 503] == statuses


any_body = st.binary() | st.sampled_from([export_body(), render_body(), b'{"event": "new"}'])
any_path = st.text() | st.just(PATH)
any_headers = st.dictionaries(st.text() | st.just("Authorization"), st.text() | st.just("Basic YTpi"))
AUTHS = [SECRET, BasicAuth("a", "b"), Unauthenticated()]


@given(st.sampled_from(AUTHS), any_body, any_path, any_headers)
def test_whatever_comes_in(auth: Any, body: bytes, path: str, headers: dict[str, str]) -> None:
    """Whatever the body, path and headers, a reply comes out."""
    reply = asyncio.run(WebhookReceiver(auth).handle(body, path=path, headers=headers))
    assert reply.status in {200, 202, 400, 401, 404}


@pytest.mark.parametrize("headers", [None, {1: 2}, {"authorization": b"Basic YTpi"}, {"authorization": None}])
async def test_odd_headers(headers: Any) -> None:
    """Headers of no known type are those of nobody known."""
    assert 401 == (await WebhookReceiver(BasicAuth("a", "b")).handle(export_body(), headers=headers)).status


@pytest.mark.parametrize("kind", [bytes, bytearray])
async def test_a_cancelled_webhook_shows_no_secret(kind: type[bytes]) -> None:
    """What is shown of a webhook that is cancelled, locals included, has no path and no headers in it."""
    mailbox = Gated()
    receiver = WebhookReceiver(SECRET, mailbox=mailbox)
    coming = asyncio.create_task(receiver.handle(kind(export_body()), path=PATH, headers={"x": SECRET}))
    await mailbox.asked.wait()
    coming.cancel()
    await asyncio.wait([coming])
    with pytest.raises(asyncio.CancelledError) as caught:
        await coming
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    del shown.stack[0]
    assert "_take_in" in "".join(shown.format())
    assert SECRET not in "".join(shown.format())


# Floods.


async def grown(receiver: WebhookReceiver, bodies: Iterable[bytes], path: str) -> int:
    """Return by how many bytes memory has grown after all `bodies`."""
    await receiver.handle(next(iter(bodies)), path=path)
    gc.collect()
    tracemalloc.start()
    try:
        for body in bodies:
            await receiver.handle(body, path=path)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("auth", [SECRET, Unauthenticated()])
@pytest.mark.parametrize("events", [5000, pytest.param(100_000, marks=pytest.mark.chaos)])
async def test_forged_events(auth: Any, events: int, caplog: pytest.LogCaptureFixture) -> None:
    """However many forged events come, of known and unknown avatars, memory stays, and no log is flooded."""
    receiver = WebhookReceiver(auth)
    before = len(caplog.records)
    bodies = (export_body(AVATAR if number % 10 == 0 else avatar(number)) for number in range(events))
    assert await grown(receiver, bodies, "/avaturn/forged") < 5_000_000
    assert before == len(caplog.records)


async def test_replays() -> None:
    """10,000 replays of a valid event are one row, and wake who waits once each time they wait."""
    receiver = WebhookReceiver(SECRET)
    waiting = receiver.mailbox.wait(KEY, "")
    assert await grown(receiver, [export_body()] * 10_000, PATH) < 100_000
    assert export_event() == (await waiting).event

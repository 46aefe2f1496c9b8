"""The receiver's core: bytes in, a reply out, the event in the mailbox and to the callbacks."""

from __future__ import annotations

import asyncio
import base64
import gc
import logging
import tracemalloc
import typing
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from avaturn_async import (
    BasicAuth,
    MemoryMailbox,
    PathSecret,
    TransportError,
    Unauthenticated,
    UnknownEvent,
    WebhookReceiver,
)
from avaturn_async.webhooks import Reply, key_of
from tests.chaos.kit import scaled

from ..leaks import leaks
from .kit import PATH
from .samples import AVATAR, SECRET, Gated, avatar, export_body, export_event, render_body, render_event

KEY = key_of(export_event())


class Failing(MemoryMailbox):
    """A mailbox whose store fails while `error` is set."""

    error: BaseException | None = ConnectionError("redis://user:hunter2@host")

    async def deliver(self, event: Any, *, authenticated: bool = True) -> None:
        """Fail, or deliver."""
        if self.error is not None:
            raise self.error
        await super().deliver(event, authenticated=authenticated)


async def test_an_event_is_accepted() -> None:
    """The event is in the mailbox when 200 is answered, for a render too."""
    receiver = WebhookReceiver(SECRET)
    assert Reply(200) == await receiver.handle(export_body(), path=PATH)
    assert Reply(200) == await receiver.handle(render_body(), path=PATH)
    found = [await receiver.mailbox.wait(key_of(event), "") for event in (export_event(), render_event())]
    assert [(export_event(), True), (render_event(), True)] == [(each.event, each.authenticated) for each in found]


async def test_an_unauthenticated_event_is_marked() -> None:
    """The mailbox learns that nobody vouches for an event."""
    receiver = WebhookReceiver(Unauthenticated())
    assert 200 == (await receiver.handle(export_body())).status
    assert not (await receiver.mailbox.wait(KEY, "")).authenticated


TEXT = {"Content-Type": "text/plain; charset=utf-8"}


@pytest.mark.parametrize(
    ("auth", "body", "status", "headers"),
    [
        (SECRET, b'{"event": "body.ready"}', 202, TEXT),
        (SECRET, b"\xff", 400, TEXT),
        (SECRET, b'{"event": "export.ready"}', 400, TEXT),
        (SECRET, b" " * 65_537, 413, TEXT),
        (PathSecret(SECRET[::-1]), export_body(), 404, {}),
        (PathSecret(SECRET[::-1]), b"\xff", 404, {}),
        (BasicAuth("a", "b"), export_body(), 401, {"WWW-Authenticate": 'Basic realm="webhooks", charset="UTF-8"'}),
        (SimpleNamespace(verify=lambda *_, **__: False), export_body(), 401, {}),
    ],
    ids=["unknown", "bytes", "shape", "large", "secret", "secret-first", "basic", "custom"],
)
async def test_refusals(auth: Any, body: bytes, status: int, headers: Mapping[str, str]) -> None:
    """Each refusal has its status, and unauthenticated senders learn nothing of the body."""
    reply = await WebhookReceiver(auth).handle(body, path=PATH)
    assert (status, headers) == (reply.status, dict(reply.headers))


async def test_one_trailing_slash_is_ignored() -> None:
    """Frameworks that append a slash do not break the secret."""
    assert 200 == (await WebhookReceiver(SECRET).handle(export_body(), path=PATH + "/")).status


async def test_basic_credentials_are_accepted() -> None:
    """Credentials are found in the Authorization header, whatever the case of its name."""
    headers = {"AUTHORIZATION": "Basic " + base64.b64encode(b"a:b").decode()}
    assert 200 == (await WebhookReceiver(BasicAuth("a", "b")).handle(export_body(), headers=headers)).status


def test_annotations_resolve() -> None:
    """Replies, events and the core's methods have annotations that exist at run time."""
    for each in (Reply, UnknownEvent, WebhookReceiver.handle, WebhookReceiver.on, WebhookReceiver.aclose, PathSecret):
        typing.get_type_hints(each)


# A mailbox that fails.


async def test_a_failing_store(caplog: pytest.LogCaptureFixture) -> None:
    """An event that was not stored is answered with 503, calls nobody, and its log has no secret of the store's."""
    called: list[Any] = []
    receiver = WebhookReceiver(SECRET, mailbox=Failing())

    @receiver.on("export.ready")
    async def callback(event: Any) -> None:
        called.append(event)

    reply = await receiver.handle(export_body(), path=PATH)
    assert (503, "5") == (reply.status, reply.headers["Retry-After"])
    assert [] == called
    assert "ConnectionError" in caplog.text
    assert "hunter2" not in caplog.text


async def test_an_outage_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Each outage is one warning and one line at its end, however many webhooks are refused."""
    caplog.set_level(logging.INFO)
    mailbox = Failing()
    receiver = WebhookReceiver(SECRET, mailbox=mailbox)
    for error in (OSError(), None, TimeoutError(), None):
        mailbox.error = error
        expected = 200 if error is None else 503
        for number in range(2000):
            assert expected == (await receiver.handle(export_body(avatar(number)), path=PATH)).status
    assert ["WARNING", "INFO", "WARNING", "INFO"] == [record.levelname for record in caplog.records]


async def test_a_delivery_from_before_an_outage_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    """A slow delivery that succeeds amid an outage is no sign of its end."""
    mailbox = Gated()
    receiver = WebhookReceiver(SECRET, mailbox=mailbox)
    slow = asyncio.create_task(receiver.handle(export_body(), path=PATH))
    await mailbox.asked.wait()
    receiver.mailbox = Failing()
    for _ in range(3):
        assert 503 == (await receiver.handle(export_body(), path=PATH)).status
        mailbox.gate.set()
        assert 200 == (await slow).status
    assert 1 == len(caplog.records)


async def test_an_outage_that_the_mailbox_logs(caplog: pytest.LogCaptureFixture) -> None:
    """A TransportError has been logged by the mailbox that raises it."""
    mailbox = Failing()
    mailbox.error = TransportError("the store can't be used")
    assert 503 == (await WebhookReceiver(SECRET, mailbox=mailbox).handle(export_body(), path=PATH)).status
    assert [] == caplog.records


async def test_a_mailbox_that_was_closed() -> None:
    """A closed mailbox stores nothing."""
    receiver = WebhookReceiver(SECRET)
    await receiver.mailbox.aclose()
    assert 503 == (await receiver.handle(export_body(), path=PATH)).status


async def test_a_mailbox_that_cancels_itself() -> None:
    """A CancelledError of the mailbox's own is a failure of the store."""
    mailbox = Failing()
    mailbox.error = asyncio.CancelledError()
    assert 503 == (await WebhookReceiver(SECRET, mailbox=mailbox).handle(export_body(), path=PATH)).status


async def test_a_closing_receiver_refuses() -> None:
    """A closed receiver answers with 503, until it is entered again."""
    receiver = WebhookReceiver(SECRET)
    async with receiver:
        assert 200 == (await receiver.handle(export_body(), path=PATH)).status
    reply = await receiver.handle(export_body(), path=PATH)
    assert (503, "5") == (reply.status, reply.headers["Retry-After"])
    async with receiver:
        assert 200 == (await receiver.handle(export_body(), path=PATH)).status


# Whatever a framework passes.

any_body = st.binary() | st.sampled_from([export_body(), render_body(), b'{"event": "new"}'])
any_path = st.text() | st.just(PATH)
any_headers = st.dictionaries(st.text() | st.just("Authorization"), st.text() | st.just("Basic YTpi"))
AUTHS = [SECRET, BasicAuth("a", "b"), Unauthenticated()]


@given(st.sampled_from(AUTHS), any_body, any_path, any_headers)
def test_whatever_comes_in(auth: Any, body: bytes, path: str, headers: dict[str, str]) -> None:
    """Whatever the body, path and headers, a reply comes out."""
    reply = asyncio.run(WebhookReceiver(auth).handle(body, path=path, headers=headers))
    assert reply.status in {200, 202, 400, 401, 404}


@pytest.mark.parametrize("auth", AUTHS, ids=["secret", "basic", "none"])
@pytest.mark.parametrize("headers", [None, {1: 2}, {"authorization": b"x"}, {"authorization": None}, [], 7], ids=str)
@pytest.mark.parametrize("path", [None, 7, b"/x", "\ud800", "x" * 10**6], ids=["none", "int", "bytes", "odd", "long"])
async def test_odd_paths_and_headers(auth: Any, path: Any, headers: Any) -> None:
    """A path and headers of the wrong type are those of an unknown sender."""
    reply = await WebhookReceiver(auth).handle(export_body(), path=path, headers=headers)
    assert reply.status == {SECRET: 404}.get(auth, 401 if isinstance(auth, BasicAuth) else 200)


@pytest.mark.parametrize(
    "convert",
    [bytearray, memoryview, bytes.decode, lambda body: memoryview(body * 2)[: len(body)]],
    ids=["bytearray", "memoryview", "str", "slice"],
)
async def test_bodies_of_other_types(convert: Any) -> None:
    """The body may come in any type that holds bytes, or as a str."""
    receiver = WebhookReceiver(SECRET)
    assert 200 == (await receiver.handle(convert(export_body()), path=PATH)).status
    assert export_event() == (await receiver.mailbox.wait(KEY, "")).event


def released() -> memoryview:
    """Return a memoryview that can't be read any more."""
    view = memoryview(export_body())
    view.release()
    return view


@pytest.mark.parametrize("make", [lambda: None, dict, int, object, list, released, lambda: "\ud800", lambda: b""])
async def test_bodies_that_are_none(make: Any) -> None:
    """Anything else is answered with 400: an empty Lambda body, JSON that was parsed already."""
    reply = await WebhookReceiver(SECRET).handle(make(), path=PATH)
    assert 400 == reply.status
    assert reply.body


@pytest.mark.parametrize("kind", [bytes, bytearray, bytes.decode])
async def test_a_cancelled_webhook_shows_no_secret(kind: Any) -> None:
    """The traceback of a webhook that was cancelled shows neither path nor headers nor body."""
    mailbox = Gated()
    receiver = WebhookReceiver(SECRET, mailbox=mailbox)
    body = kind(export_body(export_url="https://h/p?signature=s3cret"))
    coming = asyncio.create_task(receiver.handle(body, path=PATH, headers={"x": SECRET}))
    await mailbox.asked.wait()
    coming.cancel()
    await asyncio.wait([coming])
    with pytest.raises(asyncio.CancelledError) as caught:
        await coming
    assert [] == leaks(caught.value, SECRET, "s3cret")


# Floods.


async def grown(receiver: WebhookReceiver, bodies: Iterable[bytes], path: str) -> int:
    """Return by how many bytes memory has grown after all `bodies`."""
    await receiver.handle(export_body(), path=path)
    gc.collect()
    tracemalloc.start()
    try:
        for body in bodies:
            await receiver.handle(body, path=path)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("auth", [SECRET, Unauthenticated()], ids=["secret", "none"])
@pytest.mark.slow
@pytest.mark.parametrize(
    "events", [5000, pytest.param(scaled(100_000, 20_000), marks=pytest.mark.chaos)], ids=["5000", "more"]
)
async def test_forged_events(auth: Any, events: int, caplog: pytest.LogCaptureFixture) -> None:
    """However many forged events come, of known and unknown avatars, memory stays, and no log is flooded."""
    receiver = WebhookReceiver(auth)
    before = len(caplog.records)
    bodies = (export_body(AVATAR if number % 10 == 0 else avatar(number)) for number in range(events))
    assert await grown(receiver, bodies, "/avaturn/forged") < 5_000_000
    assert before == len(caplog.records)


@pytest.mark.slow
@pytest.mark.parametrize("field", ["user_id", "status", "export_url"])
async def test_forged_events_with_ballast(field: str) -> None:
    """Forged events that fill a known field with 60,000 characters take no more memory than others."""
    bodies = (export_body(avatar(number), **{field: f"{number}" + "x" * 60_000}) for number in range(1200))
    assert await grown(WebhookReceiver(Unauthenticated()), bodies, "") < 5_000_000


@pytest.mark.slow
async def test_replays() -> None:
    """10,000 replays of a valid event are one row, and wake an awaiter once."""
    receiver = WebhookReceiver(SECRET)
    waiting = receiver.mailbox.wait(KEY, "")
    assert await grown(receiver, [export_body()] * 10_000, PATH) < 100_000
    assert export_event() == (await waiting).event

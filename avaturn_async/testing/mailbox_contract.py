"""Tests of the `Mailbox` contract, to run on a mailbox of your own.

Inherit from `MailboxContract` and define the fixture `mailbox`, an open mailbox that the fixture closes afterwards. If
several processes share the store, inherit from `SharedMailboxContract` instead and also define `other_mailbox`, a
second mailbox in the same store. The tests need pytest-asyncio, and use new ids each time, so the store need not be
empty::

    import pytest_asyncio
    from avaturn_async.testing.mailbox_contract import MailboxContract

    class TestMyMailbox(MailboxContract):
        @pytest_asyncio.fixture
        async def mailbox(self):
            mailbox = MyMailbox()
            yield mailbox
            await mailbox.aclose()
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar
from uuid import uuid4

import pytest

from ..errors import ClientClosedError
from ..models import AvatarReadyWebhook, ExportReadyWebhook, RenderReadyWebhook
from ..webhooks.events import key_of

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ..webhooks.events import Event
    from ..webhooks.mailbox import Delivery, Mailbox

__all__ = ["MailboxContract", "SharedMailboxContract"]

T = TypeVar("T")

_every_kind = pytest.mark.parametrize("kind", ["export", "avatar", "render"])
_replaceable = pytest.mark.parametrize("kind", ["export", "avatar"])


def _event(kind: str, **changes: Any) -> Event:
    """Return an event of a job that no other test knows."""
    if kind == "avatar":
        return AvatarReadyWebhook(**{"avatar_id": uuid4(), **changes})
    fields: dict[str, Any] = {"avatar_id": uuid4(), "user_id": "user", "status": "ready"}
    if kind == "export":
        return ExportReadyWebhook(**fields | changes)
    return RenderReadyWebhook(**fields | {"id": uuid4(), "render_url": "https://example.com/1.jpg"} | changes)


@pytest.mark.asyncio
class MailboxContract:
    """The tests that every mailbox must pass; the subclass defines the fixture `mailbox`.

    Attributes:
        timeout: Seconds after which a wait that should have ended fails its test.
    """

    timeout: ClassVar[float] = 30

    async def _in_time(self, awaitable: Awaitable[T]) -> T:
        async with asyncio.timeout(self.timeout):
            return await awaitable

    async def _stored(self, mailbox: Mailbox, event: Event) -> Delivery:
        """Return the delivery that is stored under the key of `event`."""
        return await self._in_time(mailbox.wait(key_of(event), ""))

    async def _wait(self, mailbox: Mailbox, event: Event, after: str = "") -> asyncio.Future[Delivery]:
        """Start a wait for an event, and return once the mailbox has registered it."""
        waiting = asyncio.ensure_future(mailbox.wait(key_of(event), after))
        await self._settle(mailbox)
        return waiting

    async def _settle(self, mailbox: Mailbox) -> None:
        """Deliver and await another event; by then earlier deliveries have resolved their waits."""
        event = _event("export")
        waiting = asyncio.ensure_future(mailbox.wait(key_of(event), ""))
        await mailbox.deliver(event)
        await self._in_time(waiting)

    @_every_kind
    async def test_position_is_empty_before_the_first_delivery(self, mailbox: Mailbox, kind: str) -> None:
        """A key without a delivery has the position ``""``."""
        assert await mailbox.position(key_of(_event(kind))) == ""

    @_every_kind
    async def test_earlier_delivery_resolves_a_wait(self, mailbox: Mailbox, kind: str) -> None:
        """A wait finds a delivery that arrived since its position was taken."""
        event = _event(kind)
        before = await mailbox.position(key_of(event))
        await mailbox.deliver(event)
        delivery = await self._in_time(mailbox.wait(key_of(event), before))
        assert (delivery.event, delivery.authenticated) == (event, True)
        assert delivery.id == await mailbox.position(key_of(event)) != ""

    @_every_kind
    async def test_later_delivery_wakes_all_waiters(self, mailbox: Mailbox, kind: str) -> None:
        """A delivery resolves every wait for its key."""
        event = _event(kind)
        waiting = [await self._wait(mailbox, event) for _ in range(3)]
        assert not any(each.done() for each in waiting)
        await mailbox.deliver(event)
        assert [event] * 3 == [delivery.event for delivery in await self._in_time(asyncio.gather(*waiting))]

    @_replaceable
    async def test_delivery_gets_a_fresh_id(self, mailbox: Mailbox, kind: str) -> None:
        """A wait after a delivery ignores it and is resolved by the next one, even if the event is equal."""
        event = _event(kind)
        await mailbox.deliver(event)
        first = await self._stored(mailbox, event)
        waiting = await self._wait(mailbox, event, first.id)
        assert not waiting.done()
        await mailbox.deliver(event)
        second = await self._in_time(waiting)
        assert second.event == event
        assert second.id != first.id

    async def test_first_event_of_a_render_stays(self, mailbox: Mailbox) -> None:
        """A render ends once, so later events do not replace the first."""
        render_id = uuid4()
        event = _event("render", id=render_id)
        await mailbox.deliver(event)
        first = await self._stored(mailbox, event)
        waiting = await self._wait(mailbox, event, first.id)
        await mailbox.deliver(_event("render", id=render_id, status="failed", render_url=None))
        await self._settle(mailbox)
        assert not waiting.done()
        assert await self._stored(mailbox, event) == first
        waiting.cancel()

    @_every_kind
    async def test_authenticated_replaces_unauthenticated(self, mailbox: Mailbox, kind: str) -> None:
        """A forged event does not keep a genuine one out, not even of a render."""
        event = _event(kind)
        await mailbox.deliver(event, authenticated=False)
        forged = await self._stored(mailbox, event)
        await mailbox.deliver(event)
        genuine = await self._in_time(mailbox.wait(key_of(event), forged.id))
        assert (forged.authenticated, genuine.authenticated) == (False, True)

    @_every_kind
    async def test_unauthenticated_never_replaces_authenticated(self, mailbox: Mailbox, kind: str) -> None:
        """A forged event does not displace a genuine one."""
        event = _event(kind)
        await mailbox.deliver(event)
        genuine = await self._stored(mailbox, event)
        await mailbox.deliver(event, authenticated=False)
        await self._settle(mailbox)
        assert await self._stored(mailbox, event) == genuine

    async def test_unauthenticated_replaces_unauthenticated(self, mailbox: Mailbox) -> None:
        """Among unauthenticated events, the last of an export and the first of a render are stored."""
        ids: dict[str, set[str]] = {"export": set(), "render": set()}
        for kind, found in ids.items():
            event = _event(kind)
            for _ in range(2):
                await mailbox.deliver(event, authenticated=False)
                found.add(await mailbox.position(key_of(event)))
        assert (len(ids["export"]), len(ids["render"])) == (2, 1)

    async def test_events_survive_unchanged(self, mailbox: Mailbox) -> None:
        """All fields of an authenticated event are kept, unknown ones included."""
        extra = {"list": [], "nested": {"big": 2**60, "no": None}, "text": "\x00\u2028'\"\\é\U0001f600"}
        event = _event("export", user_id="ann's", export_url="https://example.com/a.glb?x=" + "y" * 9000, extra=extra)
        await mailbox.deliver(event)
        assert (await self._stored(mailbox, event)).event == event

    async def test_keys_are_separate(self, mailbox: Mailbox) -> None:
        """A delivery wakes neither another job of the same kind nor another kind of job with the same id."""
        avatar_id = uuid4()
        event = _event("export", avatar_id=avatar_id)
        others = [_event("export"), _event("avatar", avatar_id=avatar_id), _event("render", id=avatar_id)]
        waiting = [await self._wait(mailbox, other) for other in others]
        await mailbox.deliver(event)
        await self._settle(mailbox)
        assert [False] * 3 == [each.done() for each in waiting]
        for each in waiting:
            each.cancel()

    async def test_cancelled_wait_does_not_affect_others(self, mailbox: Mailbox) -> None:
        """Other waits for the same key go on."""
        event = _event("export")
        cancelled, other = [await self._wait(mailbox, event) for _ in range(2)]
        cancelled.cancel()
        await asyncio.sleep(0)
        await mailbox.deliver(event)
        assert (await self._in_time(other)).event == event
        assert cancelled.cancelled()

    async def test_many_at_once(self, mailbox: Mailbox) -> None:
        """Two hundred concurrent deliveries each resolve their own wait."""
        events = [_event("export") for _ in range(200)]
        waiting = [asyncio.ensure_future(mailbox.wait(key_of(event), "")) for event in events]
        await asyncio.gather(*map(mailbox.deliver, events))
        assert events == [delivery.event for delivery in await self._in_time(asyncio.gather(*waiting))]

    async def test_delivery_from_another_loop(self, mailbox: Mailbox) -> None:
        """A thread with an event loop of its own can deliver to waits on this loop."""
        event = _event("export")
        waiting = await self._wait(mailbox, event)
        await asyncio.to_thread(lambda: asyncio.run(mailbox.deliver(event)))
        assert (await self._in_time(waiting)).event == event

    async def test_closing_ends_waits(self, mailbox: Mailbox) -> None:
        """Waits under way and calls after `aclose` raise `ClientClosedError`; closing twice is allowed."""
        event = _event("export")
        waiting = await self._wait(mailbox, event)
        await mailbox.aclose()
        await mailbox.aclose()
        with pytest.raises(ClientClosedError):
            await self._in_time(waiting)
        with pytest.raises(ClientClosedError):
            await mailbox.position(key_of(event))
        with pytest.raises(ClientClosedError):
            await mailbox.deliver(event)
        with pytest.raises(ClientClosedError):
            await mailbox.wait(key_of(event), "")


class SharedMailboxContract(MailboxContract):
    """The further tests of mailboxes in a shared store; the subclass defines `mailbox` and `other_mailbox`."""

    @_every_kind
    async def test_later_delivery_wakes_another_worker(
        self, mailbox: Mailbox, other_mailbox: Mailbox, kind: str
    ) -> None:
        """An event that one process delivers resolves a wait in another."""
        event = _event(kind)
        waiting = await self._wait(mailbox, event)
        await other_mailbox.deliver(event)
        assert (await self._in_time(waiting)).event == event

    @_every_kind
    async def test_earlier_delivery_reaches_another_worker(
        self, mailbox: Mailbox, other_mailbox: Mailbox, kind: str
    ) -> None:
        """All processes see the same delivery under the same id."""
        event = _event(kind)
        await other_mailbox.deliver(event)
        delivery = await self._stored(mailbox, event)
        assert delivery == await self._stored(other_mailbox, event)
        assert delivery.id == await mailbox.position(key_of(event)) == await other_mailbox.position(key_of(event))

    async def test_rules_hold_across_workers(self, mailbox: Mailbox, other_mailbox: Mailbox) -> None:
        """What may replace what does not depend on the process."""
        event = _event("render")
        await mailbox.deliver(event, authenticated=False)
        await other_mailbox.deliver(event)
        first = await self._stored(mailbox, event)
        await mailbox.deliver(event)
        await mailbox.deliver(event, authenticated=False)
        assert first.authenticated
        assert await self._stored(other_mailbox, event) == first

    async def test_closing_one_leaves_the_other(self, mailbox: Mailbox, other_mailbox: Mailbox) -> None:
        """Closing a mailbox affects neither the events nor the waits of another process."""
        event = _event("export")
        waiting = await self._wait(mailbox, event)
        await other_mailbox.deliver(_event("avatar"))
        await other_mailbox.aclose()
        await mailbox.deliver(event)
        assert (await self._in_time(waiting)).event == event

"""What every mailbox must do: a class of tests to inherit, with a fixture `make_mailbox` that makes open ones."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from avaturn_async import ClientClosedError
from avaturn_async.webhooks import Delivery, Mailbox, key_of

from .samples import avatar, avatar_event, export_event, render_event

EXPORT, READY, RENDERED = export_event(), avatar_event(), render_event()
MakeMailbox = Callable[..., Awaitable[Mailbox]]


async def standing(mailbox: Mailbox, event: Any) -> Delivery:
    """Return the row that stands under the key of `event`."""
    return await mailbox.wait(key_of(event), "")


class MailboxContract:
    """The contract; `make_mailbox(**options)` takes `ttl`, in seconds."""

    @pytest.fixture
    async def mailbox(self, make_mailbox: MakeMailbox) -> Mailbox:
        """Open a mailbox."""
        return await make_mailbox()

    async def test_an_empty_place(self, mailbox: Mailbox) -> None:
        """The position of a key under which nothing stands is an empty str."""
        assert "" == await mailbox.position(key_of(EXPORT))

    @pytest.mark.parametrize("event", [EXPORT, READY, RENDERED])
    async def test_a_delivery_before_the_wait(self, mailbox: Mailbox, event: Any) -> None:
        """What stands since the position was taken is found."""
        before = await mailbox.position(key_of(event))
        await mailbox.deliver(event)
        found = await mailbox.wait(key_of(event), before)
        assert Delivery(await mailbox.position(key_of(event)), event) == found
        assert found.id

    @pytest.mark.parametrize("event", [EXPORT, READY, RENDERED])
    async def test_a_delivery_after_the_wait(self, mailbox: Mailbox, event: Any) -> None:
        """Who waits is woken, each of them."""
        waiting = [asyncio.ensure_future(mailbox.wait(key_of(event), "")) for _ in range(3)]
        await asyncio.sleep(0)
        await mailbox.deliver(event)
        assert [event] * 3 == [delivery.event for delivery in await asyncio.gather(*waiting)]

    @pytest.mark.parametrize("event", [EXPORT, READY])
    async def test_a_replaced_row(self, mailbox: Mailbox, event: Any) -> None:
        """An older delivery is not believed, and each later one has a fresh id."""
        await mailbox.deliver(event)
        first = await standing(mailbox, event)
        waiting = asyncio.ensure_future(mailbox.wait(key_of(event), first.id))
        await asyncio.sleep(0)
        assert not waiting.done()
        await mailbox.deliver(event)
        second = await waiting
        assert first.id != second.id
        assert [True, False] == [first.only, second.only]

    async def test_a_render_is_written_once(self, mailbox: Mailbox) -> None:
        """The first delivery for a render stands."""
        await mailbox.deliver(RENDERED)
        first = await standing(mailbox, RENDERED)
        await mailbox.deliver(render_event(status="failed", render_url=None))
        assert first == await standing(mailbox, RENDERED)

    @pytest.mark.parametrize("event", [EXPORT, READY, RENDERED])
    async def test_the_authenticated_replaces_a_hint(self, mailbox: Mailbox, event: Any) -> None:
        """A hint stands in nobody's way, for a render either, and does not count as another delivery."""
        await mailbox.deliver(event, authenticated=False)
        hint = await standing(mailbox, event)
        await mailbox.deliver(event, authenticated=True)
        told = await standing(mailbox, event)
        assert [False, True] == [hint.authenticated, told.authenticated]
        assert hint.id != told.id
        assert told.only

    @pytest.mark.parametrize("event", [EXPORT, READY, RENDERED])
    async def test_a_hint_never_replaces_the_authenticated(self, mailbox: Mailbox, event: Any) -> None:
        """Who is not known changes nothing of what stands."""
        await mailbox.deliver(event)
        told = await standing(mailbox, event)
        await mailbox.deliver(event, authenticated=False)
        assert told == await standing(mailbox, event)

    async def test_a_hint_replaces_a_hint(self, mailbox: Mailbox) -> None:
        """Hints for an export wake again and again; the first for a render stands."""
        ids: dict[str, list[str]] = {"export": [], "render": []}
        for _ in range(2):
            for kind, event in (("export", EXPORT), ("render", RENDERED)):
                await mailbox.deliver(event, authenticated=False)
                ids[kind].append(await mailbox.position(key_of(event)))
        assert [2, 1] == [len(set(ids["export"])), len(set(ids["render"]))]

    async def test_keys_are_apart(self, mailbox: Mailbox) -> None:
        """An event wakes those of its key alone."""
        waiting = [asyncio.ensure_future(mailbox.wait(key, "")) for key in (key_of(READY), key_of(RENDERED))]
        waiting.append(asyncio.ensure_future(mailbox.wait(key_of(export_event(avatar(1))), "")))
        await mailbox.deliver(EXPORT)
        assert EXPORT == (await standing(mailbox, EXPORT)).event
        assert [False] * 3 == [each.done() for each in waiting]
        for each in waiting:
            each.cancel()

    async def test_who_is_cancelled_harms_nobody(self, mailbox: Mailbox) -> None:
        """A wait that is cancelled is forgotten, and another for the key goes on."""
        gone, stays = (asyncio.ensure_future(mailbox.wait(key_of(EXPORT), "")) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        await mailbox.deliver(EXPORT)
        assert EXPORT == (await stays).event
        assert gone.cancelled()

    async def test_a_delivery_from_another_loop(self, mailbox: Mailbox) -> None:
        """A thread with a loop of its own delivers to who waits on this one."""
        waiting = asyncio.ensure_future(mailbox.wait(key_of(EXPORT), ""))
        await asyncio.sleep(0)
        await asyncio.to_thread(lambda: asyncio.run(mailbox.deliver(EXPORT)))
        assert EXPORT == (await waiting).event

    async def test_the_closed(self, mailbox: Mailbox) -> None:
        """Who waits learns that the mailbox was closed, and so does who comes later; closing twice is fine."""
        waiting = asyncio.ensure_future(mailbox.wait(key_of(EXPORT), ""))
        await asyncio.sleep(0)
        await mailbox.aclose()
        await mailbox.aclose()
        with pytest.raises(ClientClosedError):
            await waiting
        with pytest.raises(ClientClosedError):
            await mailbox.position(key_of(EXPORT))
        with pytest.raises(ClientClosedError):
            await mailbox.deliver(EXPORT)
        with pytest.raises(ClientClosedError):
            await mailbox.wait(key_of(EXPORT), "")

"""Waits at the worst moments: a mailbox that raises, a look that is cancelled, two that end at once."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from decimal import Decimal

import pytest

from avaturn_async import ClientClosedError, PollPolicy, RenderReadyWebhook, WaitError, WaitTimeoutError
from avaturn_async.models import ExternalAvatarCustomization
from avaturn_async.webhooks import MemoryMailbox

from .world import AVATAR, PENDING, READY, RENDER, URL, World, after, export_event, run, saying


def test_a_mailbox_that_is_closed_before_the_wait_leaves_polling() -> None:
    """Each wait polls, also the second one."""

    async def story() -> None:
        box = MemoryMailbox()
        await box.aclose()
        world = World(saying(PENDING, PENDING, PENDING, READY), mailbox=box)
        export = await world.exports.create(AVATAR)
        with pytest.raises(WaitTimeoutError):
            await export.wait(timeout=2)
        assert not world.context.armed
        assert URL == (await export.wait(timeout=60)).url

    run(story())


def test_a_render_without_its_mailbox_says_so_to_each() -> None:
    """Errors that are not ours come as a WaitError, one for each awaiter."""

    class Broken(MemoryMailbox):
        def wait(self, key: str, after: str) -> asyncio.Future[object]:  # type: ignore[override]
            raise OSError("gone")

    async def story() -> None:
        world = World(lambda _: {"id": str(RENDER), "status": "pending"}, mailbox=Broken())
        render = await world.renders.create(AVATAR)
        errors = await asyncio.gather(render.wait(), render.wait(), return_exceptions=True)
        assert [WaitError] * 2 == [type(error) for error in errors]
        assert 2 == len({id(error) for error in errors})
        assert {render.resume_token} == {error.resume_token for error in errors}  # type: ignore[union-attr]

    run(story())


def test_an_event_and_the_mailbox_s_end_in_one_tick() -> None:
    """What was delivered is heeded, though the mailbox is closed by then."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(lambda _: {"id": str(RENDER), "status": "pending"}, mailbox=box)
        waiting = asyncio.create_task((await world.renders.create(AVATAR)).wait())
        await asyncio.sleep(1)
        event = RenderReadyWebhook(id=RENDER, avatar_id=AVATAR, user_id="u", status="ready", render_url=URL)  # type: ignore[arg-type]
        await box.deliver(event)
        await box.aclose()
        assert URL == (await waiting).url

    run(story())


def test_a_look_that_ends_with_its_awaiter_is_owed_to_the_next() -> None:
    """An event whose confirming read was cancelled is confirmed by the next wait, at once."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING, READY), mailbox=box, latency=0.2, policy=PollPolicy(first=600, cap=600))
        export = await world.exports.create(AVATAR)
        waiting = asyncio.create_task(export.wait())
        await after(4.9, lambda: box.deliver(export_event()))
        await after(0.1, waiting.cancel)
        await asyncio.gather(waiting, return_exceptions=True)
        start = asyncio.get_running_loop().time()
        model = await export
        assert ("webhook", 0.2) == (model.resolved_by, round(asyncio.get_running_loop().time() - start, 3))

    run(story())


def test_a_customization_is_set_once_whoever_asks() -> None:
    """A wait and a refresh at once PUT it once, and the end is not taken back."""

    async def story() -> None:
        listed = [{"id": str(AVATAR), "status": "ready"}]
        world = World(lambda call: {} if call.method == "PUT" else listed, latency=0.1)  # type: ignore[arg-type]
        token = world.avatars.pending("u", AVATAR).resume_token
        wanted = {**json.loads(token), "customization": {"assets": {}, "body": "body_0"}}
        avatar = world.avatars.resume(json.dumps(wanted))
        await asyncio.gather(avatar.wait(), avatar.refresh(), avatar.refresh())
        assert 1 == [call.method for call in world.transport.requests].count("PUT")
        assert "ready" == avatar.status

    run(story())


def test_an_answer_that_comes_late_does_not_take_the_end_back() -> None:
    """A slow refresh that says pending changes nothing once the wait is over."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING), mailbox=box, latency=1, confirm=False)
        export = await world.exports.create(AVATAR)
        waiting = asyncio.create_task(export.wait())
        refreshing = asyncio.create_task(export.refresh())
        await after(0.5, lambda: box.deliver(export_event()))
        assert URL == (await waiting).url
        assert "ready" == await refreshing
        assert "ready" == export.status

    run(story())


@pytest.mark.parametrize("timeout", [Decimal(3), 3])
def test_any_number_is_a_timeout(timeout: float) -> None:
    """A Decimal too; what is none leaves nothing armed."""

    async def story() -> None:
        world = World(saying(PENDING))
        export = await world.exports.create(AVATAR)
        with pytest.raises(WaitTimeoutError):
            await export.wait(timeout=timeout)
        with pytest.raises((TypeError, ValueError)):
            await export.wait(timeout="soon")  # type: ignore[arg-type]
        assert not world.context.armed

    run(story())


@pytest.mark.parametrize(
    "wrong", [{"created": 10**400}, {"created": -1}, {"position": [1]}, {"customization": 5}, {"user_id": 7}]
)
def test_tokens_that_were_changed_are_refused_at_once(wrong: dict[str, object]) -> None:
    """With a ValueError, before anything is awaited."""

    async def story() -> None:
        world = World(saying(PENDING))
        token = json.loads(world.avatars.pending("u", AVATAR).resume_token)
        with pytest.raises(ValueError, match="token"):
            world.avatars.resume(json.dumps({**token, **wrong}))

    run(story())


def test_a_customization_of_the_wrong_type_is_refused_before_any_request() -> None:
    """Also where it would only be set at the end of the scan."""

    async def story() -> None:
        world = World(saying(PENDING))
        with pytest.raises(TypeError, match="ExternalAvatarCustomization"):
            await world.avatars.create_from_photos("u", None, customization={"body": "body_0"})  # type: ignore[arg-type]
        assert [] == world.times
        assert ExternalAvatarCustomization() == ExternalAvatarCustomization()

    run(story())


def test_a_wait_on_a_closed_client_is_refused() -> None:
    """With ClientClosedError and the token to go on with elsewhere."""

    async def story() -> None:
        world = World(saying(PENDING))
        export = await world.exports.create(AVATAR)
        await world.context.aclose()
        with pytest.raises(ClientClosedError) as caught:
            await export
        assert export.resume_token == caught.value.resume_token

    run(story())


def test_clients_in_two_threads_do_not_meet() -> None:
    """While one takes in news from its mailbox, another does as well: neither is kept from it."""
    told: list[str] = []

    async def other() -> None:
        box = MemoryMailbox()
        world = World(lambda _: {"id": str(RENDER), "status": "pending"}, mailbox=box)
        waiting = asyncio.create_task((await world.renders.create(AVATAR)).wait(timeout=10))
        await asyncio.sleep(0)
        event = RenderReadyWebhook(id=RENDER, avatar_id=AVATAR, user_id="u", status="ready", render_url=URL)  # type: ignore[arg-type]
        await box.deliver(event)
        told.append((await waiting).resolved_by)

    class Meanwhile(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if not told:
                thread = threading.Thread(target=lambda: asyncio.run(other()))
                thread.start()
                thread.join()

    async def one() -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING, READY), mailbox=box, policy=PollPolicy(first=0.01))
        waiting = asyncio.create_task((await world.exports.create(AVATAR)).wait())
        await asyncio.sleep(0)
        await box.aclose()
        await waiting

    handler, logger = Meanwhile(), logging.getLogger("avaturn_async.pending.base")
    logger.addHandler(handler)
    try:
        asyncio.run(one())
    finally:
        logger.removeHandler(handler)
    assert ["webhook"] == told

"""Waits for the avatar that a user makes in a session."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID

import pytest

from avaturn_async import (
    AvatarReadyWebhook,
    AvaturnClient,
    ConfigurationError,
    JobFailedError,
    NewSessionResponse,
    WaitTimeoutError,
    WebhookReceiver,
)
from avaturn_async.emulator import Emulator, Timing
from avaturn_async.http.endpoints import ApiRequest
from avaturn_async.models import ScanStatus
from avaturn_async.webhooks import MemoryMailbox

from .kit import NEVER, World, after, now, run

SESSION = UUID(int=1)
OLD, FIRST, SECOND = UUID(int=10), UUID(int=11), UUID(int=12)


class Editor:
    """A user's avatars, which change by the time in seconds since the session began."""

    def __init__(self, *changes: tuple[float, UUID, str]) -> None:
        self.changes = changes
        self.began: float | None = None

    def __call__(self, call: ApiRequest) -> Any:
        if call.method == "POST":
            return {"id": str(SESSION), "url": "https://editor.example/session"}
        self.began = now() if self.began is None else self.began
        avatars: dict[UUID, str] = {}
        for moment, avatar, status in self.changes:
            if moment <= now() - self.began:
                avatars[avatar] = status
        return [{"id": str(avatar), "status": status} for avatar, status in avatars.items()]


def ready(avatar_id: UUID, **facts: Any) -> AvatarReadyWebhook:
    """Return the event of a scan."""
    return AvatarReadyWebhook(avatar_id=avatar_id, status=ScanStatus.READY, **facts)


def test_the_avatar_is_the_one_that_was_not_there_before() -> None:
    """It is followed from its first photo to the end of its scan."""

    async def story() -> None:
        world = World(Editor((0, OLD, "ready"), (5, FIRST, "pending"), (20, FIRST, "ready")))
        session = world.sessions.pending(await world.sessions.create("u"))
        assert (None, "pending", SESSION, "u") == (
            session.avatar_id,
            session.status,
            session.session_id,
            session.user_id,
        )
        item = await session
        assert (FIRST, "ready", FIRST) == (item.id, item.status, session.avatar_id)
        assert "include_not_ready=true" == world.transport.requests[-1].query

    run(story())


def test_a_scan_that_failed_may_be_tried_again() -> None:
    """As long as another one of the session goes on."""

    async def story() -> None:
        world = World(
            Editor((3, FIRST, "processing"), (8, SECOND, "processing"), (9, FIRST, "failed"), (40, SECOND, "ready"))
        )
        assert SECOND == (await world.sessions.pending(await world.sessions.create("u"))).id

    run(story())


def test_a_session_whose_scan_failed_fails() -> None:
    """Its error has the avatar's id."""

    async def story() -> None:
        world = World(Editor((3, FIRST, "failed")))
        with pytest.raises(JobFailedError, match=f"session {SESSION} failed") as caught:
            await world.sessions.pending(await world.sessions.create("u"))
        assert FIRST == caught.value.avatar_id

    run(story())


def test_an_editor_that_was_closed_ends_with_the_deadline() -> None:
    """The error says that no avatar came."""

    async def story() -> None:
        world = World(Editor((0, OLD, "ready")))
        session = world.sessions.pending(await world.sessions.create("u"))
        with pytest.raises(
            WaitTimeoutError, match="no new avatar of the user was found, so the editor may have been"
        ) as caught:
            await session.wait(timeout=600)
        assert caught.value.avatar_id is None
        assert f"session {SESSION} did not end within 600 s" in str(caught.value)
        assert session.resume_token == caught.value.resume_token

    run(story())


def test_a_webhook_counts_once_the_avatar_is_found() -> None:
    """It resolves the session before the next poll of the schedule."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(Editor((5, FIRST, "processing"), (1499, FIRST, "ready")), mailbox=box, policy=NEVER)
        session = world.sessions.pending(await world.sessions.create("u"))
        waiting = asyncio.create_task(session.wait(timeout=None))
        await after(1500, lambda: box.deliver(ready(FIRST, session_id=str(SESSION), user_id="u")))
        assert FIRST == (await waiting).id
        assert [0, 0, 1000, 1500] == world.times

    run(story())


@pytest.mark.parametrize("avatar", [OLD, FIRST], ids=["edited", "new"])
def test_a_webhook_that_names_the_session_resolves_it(avatar: UUID) -> None:
    """Long before the next poll of the list, for a new avatar and for one that was edited."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(Editor((0, OLD, "ready"), (5, FIRST, "ready")), mailbox=box, policy=NEVER)
        session = world.sessions.pending(await world.sessions.create("u"))
        waiting = asyncio.create_task(session.wait(timeout=None))
        await after(10, lambda: box.deliver(ready(avatar, session_id=str(SESSION), user_id="u")))
        assert avatar == (await waiting).id
        assert 10 == world.times[-1]

    run(story())


def test_a_webhook_that_came_before_the_wait() -> None:
    """The first poll does not take its avatar for one that was there before."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(Editor((0, OLD, "ready")), mailbox=box, policy=NEVER)
        session = world.sessions.pending(await world.sessions.create("u"))
        await box.deliver(ready(OLD, session_id=str(SESSION).upper()))
        assert OLD == (await session.wait(timeout=100)).id

    run(story())


def test_a_webhook_for_another_user_resolves_no_session() -> None:
    """An event with our session id but another user id is ignored."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(Editor((0, OLD, "ready")), mailbox=box, policy=NEVER)
        session = world.sessions.pending(await world.sessions.create("u"))
        await box.deliver(ready(OLD, session_id=str(SESSION), user_id="another"))
        with pytest.raises(WaitTimeoutError):
            await session.wait(timeout=100)
        assert session.avatar_id is None

    run(story())


def test_a_webhook_that_came_before_the_avatar_was_found() -> None:
    """It waits in the mailbox."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(Editor((5, FIRST, "processing"), (1002, FIRST, "ready")), mailbox=box, policy=NEVER)
        session = world.sessions.pending(await world.sessions.create("u"))
        waiting = asyncio.create_task(session.wait(timeout=None))
        await after(900, lambda: box.deliver(ready(FIRST)))
        assert FIRST == (await waiting).id
        assert 1010 > world.times[-1]

    run(story())


def test_a_webhook_of_another_session_shows_whose_avatar_it_is() -> None:
    """Two sessions of one user at a time are told apart by it."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(Editor((1, FIRST, "processing"), (60, FIRST, "ready"), (50, SECOND, "ready")), mailbox=box)
        session = world.sessions.pending(await world.sessions.create("u"))
        waiting = asyncio.create_task(session.wait(timeout=500))
        await after(10, lambda: box.deliver(ready(FIRST, session_id=str(UUID(int=2)))))
        assert SECOND == (await waiting).id

    run(story())


def test_a_resumed_session_knows_the_old_avatars() -> None:
    """Its token has them once it was polled."""

    async def story() -> None:
        editor = Editor((0, OLD, "ready"), (30, FIRST, "ready"))
        world = World(editor)
        session = world.sessions.pending(await world.sessions.create("u"))
        assert "known" not in json.loads(session.resume_token)
        with pytest.raises(WaitTimeoutError) as caught:
            await session.wait(timeout=20)
        await after(20, lambda: None)
        assert caught.value.resume_token is not None
        assert FIRST == (await World(editor).sessions.resume(caught.value.resume_token)).id

    run(story())


def test_sessions_of_other_clients_need_their_user() -> None:
    """The response to a session's creation does not name it."""

    async def story() -> None:
        world, session = World(Editor()), NewSessionResponse(id=SESSION, url="https://editor.example")
        with pytest.raises(ValueError, match=f"this client did not create session {SESSION}: pass user_id="):
            world.sessions.pending(session)
        assert "u" == world.sessions.pending(session, user_id="u").user_id
        assert f"session {SESSION}" == str(world.sessions.pending(session, user_id="u"))
        assert "PendingSession" in repr(world.sessions.pending(session, user_id="u"))

    run(story())


@pytest.mark.parametrize("change", [{"session_id": "x"}, {"known": 5}, {"known": ["x"]}, {"user_id": 5}], ids=str)
def test_tokens_are_checked(change: dict[str, Any]) -> None:
    """Before anything is sent."""
    world = World(Editor())
    token = {"v": 1, "kind": "session", "base_url": "https://api.example", "created": 1, "session_id": str(SESSION)}
    with pytest.raises(ValueError, match="token"):
        world.sessions.resume(json.dumps({**token, "user_id": "u", **change}))
    with pytest.raises(ConfigurationError):
        world.sessions.resume(json.dumps({**token, "base_url": "https://other.example"}))


async def test_the_whole_story() -> None:
    """With the emulator, its editor and a webhook."""
    receiver = WebhookReceiver("s" * 32)
    async with Emulator(timing=Timing(scan=0.5), models="small") as avaturn, receiver, receiver.serve() as server:
        avaturn.webhook_url = server.url
        async with AvaturnClient(avaturn.token, base_url=avaturn.url, webhooks=receiver) as client:
            user = await client.users.create()
            await avaturn.complete_session((await client.sessions.create(user.id)).id)
            await avaturn.settled()
            session = await client.sessions.create(user.id)
            pending = client.sessions.pending(session)
            await pending.refresh()
            made = await avaturn.complete_session(session.id)
            assert made == (await pending.wait(timeout=30)).id

"""Sessions, and their completion without an editor."""

from uuid import UUID

import pytest

from avaturn_async.emulator import Emulator, state

from .kit import NOBODY, Caller, Receiver

EDIT = {"assets": {}, "body": "body_2"}


@pytest.fixture
async def user(caller: Caller) -> str:
    """Create a user."""
    return await caller.new_user()


async def open_session(caller: Caller, user: str, **config: str) -> str:
    """Create a session and return its id."""
    body = {"user_id": user} | ({"config": config} if config else {})
    return (await caller.call("POST", "sessions/new", json=body))["id"]


async def test_the_page_of_a_session_finishes_it(
    emulator: Emulator, caller: Caller, receiver: Receiver, user: str
) -> None:
    """Its button creates an avatar, without a token."""
    session = await caller.call("POST", "sessions/new", json={"user_id": user})
    assert session["custom_upload_url"] is None
    status, headers, page = await caller.fetch(session["url"])
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert '<form method="post"><button' in page.decode()
    status, _, page = await caller.fetch(session["url"], "POST")
    await emulator.settled()
    (event,) = receiver.events
    assert (status, event["session_id"]) == (200, session["id"])
    assert event["avatar_id"] in page.decode()


async def test_the_page_of_a_session_that_edits(caller: Caller, user: str) -> None:
    """Its button dresses the avatar; an avatar that is not ready is a 409."""
    avatar_id = await caller.scanned(user)
    waiting = (await caller.new_avatar(user))["avatar_id"]
    for avatar, expected in ((avatar_id, 200), (waiting, 409)):
        config = {"type": "edit_existing", "avatar_id": avatar}
        session = await caller.call("POST", "sessions/new", json={"user_id": user, "config": config})
        assert b"dresses its avatar" in (await caller.fetch(session["url"]))[2]
        assert (await caller.fetch(session["url"], "POST"))[0] == expected
    assert (await caller.export(avatar_id))["status"] == "pending"


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_forged_page_is_404(caller: Caller, user: str, method: str) -> None:
    """The url of a session has a secret part."""
    session = await caller.call("POST", "sessions/new", json={"user_id": user})
    for wrong in (session["url"] + "x", session["url"].replace(session["id"], "x")):
        assert (await caller.fetch(wrong, method))[0] == 404


async def test_a_completed_session_creates_a_customized_avatar(
    emulator: Emulator, caller: Caller, receiver: Receiver, user: str
) -> None:
    """It belongs to the user and can be exported, and its event names the session."""
    session_id = await open_session(caller, user, type="create")
    avatar_id = await emulator.complete_session(session_id)
    await emulator.settled()
    assert receiver.events == [
        {
            "event": "avatar.ready",
            "avatar_id": str(avatar_id),
            "user_id": user,
            "status": "ready",
            "session_id": session_id,
        }
    ]
    assert await caller.call("GET", f"users/{user}/avatars") == [{"id": str(avatar_id), "status": "ready"}]
    assert (await caller.export(str(avatar_id)))["status"] == "pending"


async def test_a_session_to_edit_customizes_its_avatar(emulator: Emulator, caller: Caller, user: str) -> None:
    """Completing it makes a new version, not a new avatar."""
    avatar_id = await caller.scanned(user)
    session_id = await open_session(caller, user, type="edit_existing", avatar_id=avatar_id)
    assert await emulator.complete_session(UUID(session_id), customization=EDIT) == UUID(avatar_id)
    assert (await caller.call("GET", f"avatars/{avatar_id}/customization"))["body"] == "body_2"


async def test_impossible_completions_are_refused(emulator: Emulator, caller: Caller, user: str) -> None:
    """An unknown session is a LookupError, an invalid customization a ValueError that leaves no avatar."""
    with pytest.raises(LookupError, match="not found"):
        await emulator.complete_session(NOBODY)
    session_id = await open_session(caller, user)
    for wrong in ({}, {"body": "body_0"}, {"assets": {}, "body": "nobody"}):
        with pytest.raises(ValueError, match=r"body|assets"):
            await emulator.complete_session(session_id, customization=wrong)
    assert await caller.call("GET", f"users/{user}/avatars", params={"include_not_ready": "true"}) == []


async def test_a_session_needs_a_user_and_an_avatar_of_that_user(caller: Caller, user: str) -> None:
    """Anything else is 404."""
    config = {"type": "edit_existing", "avatar_id": await caller.scanned()}
    assert (await caller.answer("POST", "sessions/new", json={"user_id": "x"}))[0] == 404
    assert (await caller.answer("POST", "sessions/new", json={"user_id": user, "config": config}))[0] == 404


async def test_the_oldest_session_is_dropped(
    emulator: Emulator, caller: Caller, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of sessions is bounded."""
    monkeypatch.setattr(state, "MAX_SESSIONS", 2)
    first, second, _ = [await open_session(caller, user) for _ in range(3)]
    with pytest.raises(LookupError):
        await emulator.complete_session(first)
    await emulator.complete_session(second)

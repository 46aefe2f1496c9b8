"""Sessions, and their end by the hand of the emulator."""

from uuid import UUID

import pytest

from avaturn_async.emulator import Emulator, world

from .kit import NOBODY, Caller, Receiver

EDIT = {"assets": {}, "body": "body_2"}


@pytest.fixture
async def user(caller: Caller) -> str:
    """Make a user."""
    return await caller.new_user()


async def open_session(caller: Caller, user: str, **config: str) -> str:
    """Make a session and return its id."""
    body = {"user_id": user} | ({"config": config} if config else {})
    return (await caller.call("POST", "sessions/new", json=body))["id"]


async def test_a_session_has_a_page_that_says_where_it_is(caller: Caller, user: str) -> None:
    """The url opens without a token, and not without its secret."""
    session = await caller.call("POST", "sessions/new", json={"user_id": user})
    status, _, page = await caller.fetch(session["url"])
    assert status == 200
    assert "emulator" in page.decode()
    assert session["custom_upload_url"] is None
    for wrong in (session["url"] + "x", session["url"].replace(session["id"], "x")):
        assert (await caller.fetch(wrong))[0] == 404


async def test_a_completed_session_makes_a_dressed_avatar(
    emulator: Emulator, caller: Caller, receiver: Receiver, user: str
) -> None:
    """The avatar belongs to the user, can be exported, and its event names the session."""
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
    """The end of such a session makes no avatar, but a version."""
    avatar_id = await caller.scanned(user)
    session_id = await open_session(caller, user, type="edit_existing", avatar_id=avatar_id)
    assert await emulator.complete_session(UUID(session_id), customization=EDIT) == UUID(avatar_id)
    assert (await caller.call("GET", f"avatars/{avatar_id}/customization"))["body"] == "body_2"


async def test_what_a_user_could_not_do_is_refused(emulator: Emulator, caller: Caller, user: str) -> None:
    """Unknown sessions are LookupErrors, impossible customizations ValueErrors that leave no avatar."""
    with pytest.raises(LookupError, match="not found"):
        await emulator.complete_session(NOBODY)
    session_id = await open_session(caller, user)
    for wrong in ({"body": "body_0"}, {"assets": {}, "body": "nobody"}):
        with pytest.raises(ValueError, match="body"):
            await emulator.complete_session(session_id, customization=wrong)
    assert await caller.call("GET", f"users/{user}/avatars", params={"include_not_ready": "true"}) == []


async def test_a_session_needs_a_user_and_an_avatar_of_its(caller: Caller, user: str) -> None:
    """Both are 404."""
    config = {"type": "edit_existing", "avatar_id": await caller.scanned()}
    assert (await caller.answer("POST", "sessions/new", json={"user_id": "x"}))[0] == 404
    assert (await caller.answer("POST", "sessions/new", json={"user_id": user, "config": config}))[0] == 404


async def test_the_oldest_session_gives_way(
    emulator: Emulator, caller: Caller, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions are bounded."""
    monkeypatch.setattr(world, "MAX_SESSIONS", 2)
    first, second, _ = [await open_session(caller, user) for _ in range(3)]
    with pytest.raises(LookupError):
        await emulator.complete_session(first)
    await emulator.complete_session(second)

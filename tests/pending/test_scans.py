"""Waits for avatars: read from the list of a user's avatars, and customized once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from avaturn_async import (
    AvatarReadyWebhook,
    ClientClosedError,
    ConflictError,
    ExternalAvatarCustomization,
    JobFailedError,
    NotReadyError,
    PendingAvatar,
    Photos,
    ServerError,
    TransportError,
    WaitError,
)
from avaturn_async.http.endpoints import ApiRequest
from avaturn_async.http.responses import Response
from avaturn_async.webhooks import MemoryMailbox, parse_event

from .kit import AVATAR, NEVER, World, after, run, saying

WANTED = ExternalAvatarCustomization(skin_tone_correction=3)
UPLOAD = "https://upload.example/photos?signature=sesame"
JPEG = b"\xff\xd8\xff\xda a face \xff\xd9"


def photos() -> Photos:
    """Return photos."""
    return Photos(JPEG, JPEG, JPEG, body_type="female")


def listing(*statuses: str) -> list[Any]:
    """Return the lists of a user's avatars, one for each status; "" lists nothing."""
    return [[{"id": str(AVATAR), "status": status}] if status else [] for status in statuses]


class Customizations:
    """An API with a ready avatar, which answers PUTs from a script."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.current: Any = None
        self.puts: list[float] = []
        self.gets = 0

    def __call__(self, call: ApiRequest) -> Any:
        if "customization" not in call.path:
            return listing("ready")[0]
        if call.method == "GET":
            self.gets += 1
            return self.current if self.current is not None else ServerError("500", status_code=500)
        self.puts.append(round(asyncio.get_running_loop().time(), 3))
        assert 1 == call.attempts
        answer = self.answers.pop(0) if self.answers else {}
        if answer == {}:
            assert call.body is not None
            self.current = json.loads(call.body)
        return answer


def test_a_scan_is_read_from_the_list() -> None:
    """It is polled at once, tolerated while it is not listed, and ends with its item."""

    async def story() -> None:
        world = World(saying(*listing("", "pending", "processing", "ready")))
        item = await world.avatars.pending("u", AVATAR)
        assert (AVATAR, "ready") == (item.id, item.status)
        assert [0, 2, 6, 14] == world.times
        assert "include_not_ready=true" == world.transport.requests[0].query
        assert "/users/u/avatars" in world.transport.requests[0].path

    run(story())


def test_a_failed_scan_fails() -> None:
    """The list says so."""

    async def story() -> None:
        world = World(saying(*listing("failed")))
        with pytest.raises(JobFailedError) as caught:
            await world.avatars.pending("u", AVATAR)
        assert (AVATAR, "poll") == (caught.value.avatar_id, caught.value.resolved_by)

    run(story())


def test_every_error_of_a_scan_names_its_avatar() -> None:
    """A refresh after the client was closed, too."""

    async def story() -> None:
        world = World(saying(*listing("pending")))
        avatar = world.avatars.pending("u", AVATAR)
        await world.context.aclose()
        for call in avatar.wait(), avatar.refresh():
            with pytest.raises(ClientClosedError) as caught:
                await call
            assert (AVATAR, avatar.resume_token) == (caught.value.avatar_id, caught.value.resume_token)
        with pytest.raises(NotReadyError) as early:
            avatar.result()
        assert AVATAR == early.value.avatar_id

    run(story())


def test_a_scan_that_is_never_listed_is_a_wait_error() -> None:
    """After ten polls without it."""

    async def story() -> None:
        world = World(saying(*listing("")))
        with pytest.raises(WaitError, match=f"avatar {AVATAR} is not in the list of its user's avatars") as caught:
            await world.avatars.pending("u", AVATAR)
        assert (WaitError, AVATAR, 11) == (type(caught.value), caught.value.avatar_id, len(world.times))

    run(story())


def test_entries_that_cannot_be_read_do_not_take_the_scan_with_them() -> None:
    """Nor do unknown fields and statuses."""

    async def story() -> None:
        entries = [{"id": 5}, {"id": str(AVATAR), "status": "ready", "name": "Ada"}, {"id": "x", "status": "ready"}]
        item = await World(saying(entries)).avatars.pending("u", AVATAR)
        assert {"name": "Ada"} == item.extra

    run(story())


@pytest.mark.parametrize("odd", [{"user_id": 7}, {"status": 5}, {"status": ["ready"]}, {"session_id": {}}], ids=str)
@pytest.mark.parametrize("confirm", [True, False])
def test_an_event_with_odd_fields_is_kept_and_confirmed(odd: dict[str, Any], confirm: bool) -> None:
    """The contract only infers them; what they mean is found out by a poll. Other fields decide as ever."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(*listing("processing", "ready")), mailbox=box, confirm=confirm, policy=NEVER)
        event = parse_event(json.dumps({"event": "avatar.ready", "avatar_id": str(AVATAR), "status": "ready"} | odd))
        assert isinstance(event, AvatarReadyWebhook)
        assert odd == event.extra
        avatar = PendingAvatar(world.context, AVATAR, "u", position="")
        waiting = asyncio.create_task(avatar.wait())
        await after(0, lambda: box.deliver(event))
        assert "ready" == (await waiting).status
        assert ("session_id" in odd and not confirm) == (not world.times)

    run(story())


# Customization.


def test_a_new_scan_is_customized_without_being_asked() -> None:
    """Its avatar can't have the customization yet, so it costs one PUT alone; another wait sends nothing."""

    async def story() -> None:
        api = Customizations()
        world = World(api)
        avatar = PendingAvatar(world.context, AVATAR, "u", customization=WANTED)
        await avatar
        await avatar
        assert (1, 0) == (len(api.puts), api.gets)

    run(story())


def test_a_customization_is_set_once_whatever_polls() -> None:
    """A wait and two refreshes at the same time."""

    async def story() -> None:
        api = Customizations()
        world = World(api, latency=0.1)
        avatar = world.avatars.pending("u", AVATAR, customization=WANTED)
        await asyncio.gather(avatar.wait(), avatar.refresh(), avatar.refresh())
        assert (1, "ready") == (len(api.puts), avatar.status)

    run(story())


@pytest.mark.parametrize("clients", [1, 2])
def test_a_token_that_is_resumed_twice_customizes_once(clients: int) -> None:
    """In one client by a lock; in two the later one sees that the avatar has the customization."""

    async def story() -> None:
        api = Customizations()
        worlds = [World(api, latency=0.1) for _ in range(clients)]
        token = worlds[0].avatars.pending("u", AVATAR, customization=WANTED).resume_token
        if clients == 1:
            await asyncio.gather(*(worlds[0].avatars.resume(token) for _ in range(5)))
        else:
            for world in worlds:
                await world.avatars.resume(token)
        assert 1 == len(api.puts)

    run(story())


class Claims(MemoryMailbox):
    """A mailbox that answers claims from a script."""

    def __init__(self, *answers: bool | Exception) -> None:
        super().__init__()
        self.answers = list(answers)
        self.claims: list[tuple[str, str]] = []

    async def claim(self, name: str, owner: str, seconds: float) -> bool:
        self.claims.append((name, owner))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_customization_is_left_to_the_process_that_claimed_it_first() -> None:
    """A later poll sees that it was set, or claims it again if the other process died."""

    async def story() -> None:
        api = Customizations()
        mailbox = Claims(False, False, True)
        avatar = World(api, mailbox=mailbox).avatars.pending("u", AVATAR, customization=WANTED)
        assert ("ready", False) == (await avatar.refresh(), avatar.done())
        await avatar
        assert (1, 3, 3) == (len(api.puts), api.gets, len(mailbox.claims))
        assert [f"customization:{AVATAR}"] == [name for name, _ in set(mailbox.claims)]
        other = Claims(False)
        await World(api, mailbox=other).avatars.pending("u", AVATAR, customization=WANTED)
        assert (1, []) == (len(api.puts), other.claims)

    run(story())


def test_a_claim_that_fails_does_not_hold_up_a_customization(caplog: pytest.LogCaptureFixture) -> None:
    """The customization is set although the mailbox can't say whether another process sets it."""

    async def story() -> None:
        api = Customizations()
        mailbox = Claims(OSError("down"))
        await World(api, mailbox=mailbox).avatars.pending("u", AVATAR, customization=WANTED)
        assert 1 == len(api.puts)

    run(story())
    assert 1 == sum("mailbox" in record.getMessage() for record in caplog.records)


def test_another_customization_is_replaced() -> None:
    """The avatar may have one of its own."""

    async def story() -> None:
        api = Customizations()
        api.current = {"assets": {}, "body": "body_0"}
        await World(api).avatars.pending("u", AVATAR, customization=WANTED)
        assert (1, 1, 3) == (len(api.puts), api.gets, api.current["skin_tone_correction"])

    run(story())


def test_a_put_that_fails_is_repeated_once_a_poll() -> None:
    """Without the retries of other requests, since each may have made a version of the avatar."""

    async def story() -> None:
        unavailable = ServerError("503", status_code=503)
        api = Customizations(unavailable, unavailable, {})
        await World(api).avatars.pending("u", AVATAR, customization=WANTED)
        first, second, third = api.puts
        assert (2, 4) == (round(second - first, 3), round(third - second, 3))

    run(story())


def test_a_put_whose_answer_was_lost_is_not_repeated() -> None:
    """The next poll sees that the avatar has the customization."""

    async def story() -> None:
        api = Customizations()
        world = World(lambda call: lost(call, api))
        await world.avatars.pending("u", AVATAR, customization=WANTED)
        assert 1 == len(api.puts)

    def lost(call: ApiRequest, api: Customizations) -> Any:
        answer = api(call)
        return TransportError("the connection broke") if call.method == "PUT" else answer

    run(story())


def test_a_customization_that_is_refused_ends_the_wait() -> None:
    """With the API's reason, and the avatar's id."""

    async def story() -> None:
        api = Customizations(ConflictError("409", status_code=409))
        avatar = World(api).avatars.pending("u", AVATAR, customization=WANTED)
        with pytest.raises(ConflictError) as caught:
            await avatar
        assert (AVATAR, avatar.resume_token) == (caught.value.avatar_id, caught.value.resume_token)
        assert "ready" == (await avatar).status

    run(story())


@pytest.mark.parametrize("call", ["create_from_photos", "pending"])
def test_a_customization_of_the_wrong_type_is_refused_at_once(call: str) -> None:
    """Before anything is sent, although it would be set much later."""

    async def story() -> None:
        world = World(saying([]))
        wrong: Any = {"body": "body_0"}
        calls: dict[str, Any] = {
            "pending": lambda: world.avatars.pending("u", AVATAR, customization=wrong),
            "create_from_photos": lambda: world.avatars.create_from_photos("u", photos(), customization=wrong),
        }
        with pytest.raises(TypeError, match="ExternalAvatarCustomization"):
            await calls[call]()
        assert [] == world.times

    run(story())


# Uploads that fail.


@pytest.mark.parametrize("way", ["pending", "resume"])
async def test_an_upload_that_failed_can_be_completed(way: str) -> None:
    """The error has what that needs: the url, the avatar's id and a resume token."""
    api = Customizations()
    world = World(lambda call: {"avatar_id": str(AVATAR), "upload_url": UPLOAD} if "new" in call.path else api(call))

    async def upload(url: str, form: object, *, on_progress: object) -> Response:
        urls.append(str(url))
        if len(urls) == 1:
            raise TransportError("the connection broke")
        return Response(status=200, body=b'{"status":"pending"}', headers={})

    urls: list[str] = []
    world.transport.upload = upload  # type: ignore[attr-defined]
    with pytest.raises(TransportError) as caught:
        await world.avatars.create_from_photos("u", photos(), customization=WANTED)
    error = caught.value
    assert (AVATAR, UPLOAD) == (error.avatar_id, error.upload_url)
    await world.avatars.upload(error.upload_url or "", photos())
    if way == "pending":
        avatar = world.avatars.pending("u", AVATAR, customization=WANTED)
    else:
        avatar = world.avatars.resume(error.resume_token or "")
    assert (AVATAR, 1) == ((await avatar).id, len(api.puts))
    assert [UPLOAD] * 2 == urls

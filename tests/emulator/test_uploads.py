"""The urls that photos are posted to."""

import asyncio
from typing import Any

import aiohttp
import pytest

from avaturn_async.emulator import Emulator, Timing, uploads

from .kit import JPEG, NOBODY, Caller, photos


async def test_photos_start_the_scan_once(caller: Caller) -> None:
    """The second upload is a 409."""
    avatar = await caller.new_avatar()
    assert await caller.upload(avatar["upload_url"], telephoto="true") == (200, {"status": "processing"})
    assert (await caller.upload(avatar["upload_url"]))[0] == 409


async def test_of_two_uploads_at_once_one_wins(emulator: Emulator, caller: Caller) -> None:
    """The scan starts once, also where both were let in."""
    gate, url = asyncio.Event(), (await caller.new_avatar())["upload_url"]
    answers = asyncio.gather(*(caller.upload_behind(gate, url) for _ in range(2)))
    while emulator.counts["upload_photos"] < 2:
        await asyncio.sleep(0)
    gate.set()
    assert sorted(await answers) == [200, 409]


async def test_an_upload_for_what_is_deleted_meanwhile_is_404(emulator: Emulator, caller: Caller) -> None:
    """Deleting wins over an upload under way."""
    gate, user = asyncio.Event(), await caller.new_user()
    avatar = await caller.new_avatar(user)
    upload = asyncio.create_task(caller.upload_behind(gate, avatar["upload_url"]))
    while not emulator.counts["upload_photos"]:
        await asyncio.sleep(0)
    await caller.call("DELETE", f"users/{user}")
    gate.set()
    assert await upload == 404


async def test_an_upload_takes_its_time(emulator: Emulator, caller: Caller) -> None:
    """The scan starts after that."""
    emulator.timing = Timing(upload=0.01, scan=0)
    await caller.scanned()


async def test_a_token_is_sent_back(caller: Caller) -> None:
    """A client that sends its token to upload_url learns that it should not."""
    url = (await caller.new_avatar())["upload_url"]
    async with caller.session.post(url, data=photos()) as response:
        assert response.status == 400
    assert (await caller.upload(url))[0] == 200


@pytest.mark.parametrize("path", ["x/y", f"{NOBODY}/y"])
async def test_a_guessed_url_is_404(caller: Caller, path: str) -> None:
    """The url has a part that can't be guessed."""
    assert (await caller.upload(f"{caller.emulator.url}/uploads/{path}"))[0] == 404


async def test_the_url_of_a_deleted_avatar_is_404(caller: Caller) -> None:
    """It dies with the avatar."""
    user = await caller.new_user()
    avatar = await caller.new_avatar(user)
    await caller.call("DELETE", f"users/{user}/avatars/{avatar['avatar_id']}")
    assert (await caller.upload(avatar["upload_url"]))[0] == 404


@pytest.mark.parametrize(
    ("change", "name", "rule"),
    [
        ({"image_frontal": None}, "image-frontal", "missing"),
        ({"image_side_2": "text"}, "image-side-2", "image_type"),
        ({"image_side_1": b"\x89PNG"}, "image-side-1", "image_type"),
        ({"body_type": None}, "body-type", "missing"),
        ({"body_type": "Male"}, "body-type", "enum"),
        ({"telephoto": "True"}, "telephoto", "enum"),
    ],
)
async def test_a_wrong_form_is_422_and_may_be_sent_again(
    caller: Caller, change: dict[str, Any], name: str, rule: str
) -> None:
    """The complaint names the part; the url stays alive."""
    url = (await caller.new_avatar())["upload_url"]
    status, body = await caller.upload(url, **change)
    assert status == 422
    assert [(complaint["loc"], complaint["type"]) for complaint in body["detail"]] == [(["body", name], rule)]
    assert (await caller.upload(url))[0] == 200


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/json", b"{}", 422),
        ("multipart/form-data", b"", 400),
        ("multipart/form-data; boundary=x", b"--y\r\n\r\n", 400),
        ("multipart/form-data; boundary=x", b"--x\r\nno header\r\n\r\n", 400),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nno name\r\n--x--\r\n", 422),
    ],
)
async def test_what_is_no_form_is_refused(caller: Caller, kind: str, body: bytes, status: int) -> None:
    """Nothing that is sent breaks the server."""
    url = (await caller.new_avatar())["upload_url"]
    async with caller.anonymous.post(url, data=body, headers={"Content-Type": kind}) as response:
        assert response.status == status


async def test_a_photo_that_is_too_large_is_413(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Photos are bounded."""
    monkeypatch.setattr(uploads, "MAX_PART", 1000)
    url = (await caller.new_avatar())["upload_url"]
    status, body = await caller.upload(url, image_frontal=JPEG * 2)
    assert (status, body) == (413, {"detail": "image-frontal has more than 1000 bytes"})


async def test_a_connection_lost_halfway_leaves_the_avatar_waiting(emulator: Emulator, caller: Caller) -> None:
    """An upload that is not whole does nothing."""
    avatar = await caller.new_avatar()
    path = avatar["upload_url"].removeprefix(emulator.url)
    host, port = emulator.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n"
    writer.write(head.encode() + b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n")
    while not emulator.counts["upload_photos"]:
        await asyncio.sleep(0)
    writer.transport.abort()
    while emulator.requests[-1].operation != "upload_photos":
        await asyncio.sleep(0)
    assert emulator.requests[-1].status is None
    form = photos()
    async with aiohttp.request("POST", avatar["upload_url"], data=form) as response:
        assert response.status == 200

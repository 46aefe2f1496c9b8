"""The urls that photos are posted to."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from avaturn_async.emulator import Emulator, Timing, api

from .kit import JPEG, NOBODY, Caller, halted_photos, large_photos, photos

HEAD = b"--x\r\nContent-Disposition: %b\r\n\r\na\r\n--x--\r\n"


def opened() -> asyncio.Event:
    """Return a gate that is open."""
    gate = asyncio.Event()
    gate.set()
    return gate


async def aiter_once(body: bytes) -> AsyncIterator[bytes]:
    """Yield a body, whose length is unknown to the client."""
    yield body


async def test_photos_start_the_scan_once(caller: Caller) -> None:
    """A second upload is a 409."""
    avatar = await caller.new_avatar()
    assert await caller.upload(avatar["upload_url"], telephoto="true") == (200, {"status": "processing"})
    assert (await caller.upload(avatar["upload_url"]))[0] == 409


async def test_of_two_uploads_at_once_one_wins(emulator: Emulator, caller: Caller) -> None:
    """The scan starts once, even if both requests were accepted."""
    gate, url = asyncio.Event(), (await caller.new_avatar())["upload_url"]
    answers = asyncio.gather(*(caller.upload_behind(gate, url) for _ in range(2)))
    while emulator.counts["upload_photos"] < 2:
        await asyncio.sleep(0.002)
    gate.set()
    assert sorted(await answers) == [200, 409]


async def test_an_upload_for_an_avatar_that_is_deleted_meanwhile_is_404(emulator: Emulator, caller: Caller) -> None:
    """Deleting wins over an unfinished upload."""
    gate, user = asyncio.Event(), await caller.new_user()
    avatar = await caller.new_avatar(user)
    upload = asyncio.create_task(caller.upload_behind(gate, avatar["upload_url"]))
    while not emulator.counts["upload_photos"]:
        await asyncio.sleep(0.002)
    await caller.call("DELETE", f"users/{user}")
    gate.set()
    assert await upload == 404


async def test_an_upload_takes_the_time_of_its_setting(emulator: Emulator, caller: Caller) -> None:
    """The scan starts afterwards."""
    emulator.timing = Timing(upload=0.01, scan=0)
    await caller.scanned()


async def test_an_upload_with_a_token_is_400(caller: Caller) -> None:
    """Clients must not send their token to upload_url."""
    url = (await caller.new_avatar())["upload_url"]
    async with caller.session.post(url, data=photos()) as response:
        assert response.status == 400
    assert (await caller.upload(url))[0] == 200


@pytest.mark.parametrize("path", ["x/y", f"{NOBODY}/y"])
async def test_a_guessed_url_is_404(caller: Caller, path: str) -> None:
    """The url has a secret part."""
    assert (await caller.upload(f"{caller.emulator.url}/uploads/{path}"))[0] == 404


async def test_the_url_of_a_deleted_avatar_is_404(caller: Caller) -> None:
    """It expires with the avatar."""
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
    """The error names the field, and the url stays valid."""
    url = (await caller.new_avatar())["upload_url"]
    status, body = await caller.upload(url, **change)
    assert status == 422
    assert [(issue["loc"], issue["type"]) for issue in body["detail"]] == [(["body", name], rule)]
    assert (await caller.upload(url))[0] == 200


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        pytest.param("application/json", b"{}", 422, id="another-type"),
        pytest.param("multipart/form-data", b"", 400, id="no-boundary"),
        pytest.param("multipart/form-data; boundary=x", b"", 400, id="empty"),
        pytest.param("multipart/form-data; boundary=x", b"--y\r\n\r\n", 400, id="another-boundary"),
        pytest.param("multipart/form-data; boundary=x", b"--x\r\nno header\r\n\r\n", 400, id="no-header"),
        pytest.param("multipart/form-data; boundary=x", b"--x\r\n\r\nno name\r\n--x--\r\n", 422, id="no-name"),
        pytest.param("multipart/form-data; boundary=x", HEAD % b'form-data; name="a', 400, id="open-quote"),
        pytest.param("multipart/form-data; boundary=x", HEAD % b"form-data; name*=utf-9''a", 422, id="bad-charset"),
        pytest.param(
            "multipart/form-data; boundary=x",
            b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n\r\na\r\n--y--\r\n--x--\r\n",
            400,
            id="nested",
        ),
    ],
)
async def test_malformed_forms_are_refused(caller: Caller, kind: str, body: bytes, status: int) -> None:
    """They change nothing: the url stays valid."""
    url = (await caller.new_avatar())["upload_url"]
    async with caller.anonymous.post(url, data=body, headers={"Content-Type": kind}) as response:
        assert (response.status, response.content_type) == (status, "application/json")
    assert (await caller.upload(url))[0] == 200


async def test_a_photo_that_is_too_large_is_413(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size of each photo is bounded."""
    monkeypatch.setattr(api, "MAX_PART", 1000)
    url = (await caller.new_avatar())["upload_url"]
    status, body = await caller.upload(url, image_frontal=JPEG * 2)
    assert (status, body) == (413, {"detail": "image-frontal has more than 1000 bytes"})


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
async def test_a_form_that_is_too_large_is_413(caller: Caller, monkeypatch: pytest.MonkeyPatch, chunked: bool) -> None:
    """The whole form is bounded, by its declared length and by the bytes that arrive."""
    monkeypatch.setattr(api, "MAX_FORM", 2500)
    body = b"".join([part async for part in halted_photos(opened())])
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    data = aiter_once(body) if chunked else body
    url = (await caller.new_avatar())["upload_url"]
    async with caller.anonymous.post(url, data=data, headers=headers) as response:
        assert (response.status, await response.json()) == (413, {"detail": "The form has more than 2500 bytes"})


async def test_photos_are_streamed(emulator: Emulator, caller: Caller) -> None:
    """Three photos of 12 MB take little memory, and the log counts the bytes that arrived."""
    url = (await caller.new_avatar())["upload_url"]
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    tracemalloc.start()
    try:
        async with caller.anonymous.post(url, data=large_photos(12_000_000), headers=headers) as response:
            assert response.status == 200
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()
    assert 36_000_000 < emulator.requests[-1].received < 36_010_000


async def test_a_lost_connection_leaves_the_avatar_pending(emulator: Emulator, caller: Caller) -> None:
    """An incomplete upload has no effect."""
    avatar = await caller.new_avatar()
    path = avatar["upload_url"].removeprefix(emulator.url)
    host, port = emulator.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n"
    writer.write(head.encode() + b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n")
    while not emulator.counts["upload_photos"]:
        await asyncio.sleep(0.002)
    writer.transport.abort()
    while emulator.requests[-1].operation != "upload_photos":
        await asyncio.sleep(0.002)
    assert emulator.requests[-1].status is None
    form = photos()
    async with aiohttp.request("POST", avatar["upload_url"], data=form) as response:
        assert response.status == 200

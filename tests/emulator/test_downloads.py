"""Temporary urls: signatures, expiry, ranges."""

import contextlib
import json
import struct
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from avaturn_async.emulator import Emulator, Faults, Timing, downloads
from avaturn_async.emulator.downloads import UnsatisfiableError, parse_range

from .kit import AT_ONCE, Caller, Receiver

SIGNATURES = {"jpg": b"\xff\xd8\xff", "png": b"\x89PNG", "webp": b"RIFF"}


async def test_an_export_is_a_model(caller: Caller) -> None:
    """The bytes are a GLB of the declared length."""
    status, headers, data = await caller.fetch(await caller.exported(await caller.dressed()))
    assert (status, headers["Content-Type"], headers["Accept-Ranges"]) == (200, "model/gltf-binary", "bytes")
    assert int(headers["Content-Length"]) == len(data)
    assert struct.unpack("<4sII", data[:12]) == (b"glTF", 2, len(data))


@pytest.mark.parametrize("format", ["jpg", "png", "webp"])
async def test_a_render_is_an_image_of_its_format(
    emulator: Emulator, caller: Caller, receiver: Receiver, format: str
) -> None:
    """The event's url leads to the image."""
    avatar_id = await caller.dressed()
    await caller.render(avatar_id, "common/transparent_half_body", format=format)
    await emulator.settled()
    url = receiver.events[-1]["render_url"]
    assert urlsplit(url).path.endswith(f".{format}")
    status, headers, data = await caller.fetch(url)
    assert (status, headers["Content-Type"]) == (200, f"image/{format}".replace("jpg", "jpeg"))
    assert data.startswith(SIGNATURES[format])


async def test_a_model_depends_on_seed_avatar_and_version_alone() -> None:
    """A second emulator of the same seed serves the same bytes under the same ETag."""
    seen = []
    for seed in (1, 1, 2):
        async with Emulator(seed=seed, timing=AT_ONCE, models="small") as emulator, Caller(emulator) as caller:
            avatar_id = await caller.dressed()
            _, headers, data = await caller.fetch(await caller.exported(avatar_id))
            seen.append((headers["ETag"], data))
    assert seen[0] == seen[1]
    assert seen[0][0] != seen[2][0]


async def test_size_body_and_variety_of_models_are_settings() -> None:
    """Models have the minimum size, and with a variety of one they are the same."""
    options = {"timing": AT_ONCE, "body": "T1", "models": "small", "model_size": 1_000_000, "model_variety": 1}
    async with Emulator(**options) as emulator, Caller(emulator) as caller:
        models = [(await caller.fetch(await caller.exported(await caller.dressed())))[2] for _ in range(2)]
    assert models[0] == models[1]
    assert 1_000_000 <= len(models[0]) < 2_000_000


async def test_a_model_wears_what_its_version_of_the_customization_says(emulator: Emulator, caller: Caller) -> None:
    """Each slot that is not empty has a mesh with the asset's name; an older version keeps its own."""
    avatar_id = await caller.dressed()
    before = await caller.exported(avatar_id)
    (boots,) = (asset for asset in emulator.catalogue.available("footwear") if asset.name == "boots")
    await caller.dress(avatar_id, assets={"footwear": {"id": str(boots.id)}})
    urls = (before, await caller.exported(avatar_id))
    worn = [_assets((await caller.fetch(url))[2]) for url in urls]
    assert ["aviators", "aviators", "bob", "bob", "sneakers", "hoodie"] == worn[0]
    assert ["boots"] == worn[1]


@pytest.mark.parametrize("idle_clip", [True, False])
async def test_idle_clip_is_a_setting(idle_clip: bool) -> None:
    """Models have the clip or not."""
    async with Emulator(timing=AT_ONCE, models="small", idle_clip=idle_clip) as emulator, Caller(emulator) as caller:
        document = _document((await caller.fetch(await caller.exported(await caller.dressed())))[2])
    assert idle_clip == ("animations" in document)


async def test_a_model_that_was_dropped_is_created_again(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the same bytes."""
    monkeypatch.setattr(downloads, "MAX_KEPT", 1)
    urls = [await caller.exported(await caller.dressed()) for _ in range(2)]
    first, second, again = [await caller.fetch(url) for url in (*urls, urls[0])]
    assert first[2] == again[2] != second[2]


async def test_an_expired_url_is_403(emulator: Emulator, caller: Caller) -> None:
    """The lifetime of a url is set when it is issued."""
    avatar_id = await caller.dressed()
    alive = await caller.exported(avatar_id)
    emulator.timing = Timing(url_ttl=0)
    dead = await caller.exported(avatar_id)
    status, headers, body = await caller.fetch(dead)
    assert (status, headers.getone("Content-Type").split(";")[0]) == (403, "application/xml")
    assert b"<Code>AccessDenied</Code>" in body
    assert (await caller.fetch(alive))[0] == 200


async def test_all_urls_can_be_invalidated(emulator: Emulator, caller: Caller) -> None:
    """The API then issues a valid one of the same file."""
    avatar_id = await caller.dressed()
    url = await caller.exported(avatar_id)
    before = await caller.fetch(url)
    emulator.expire_urls()
    assert (await caller.fetch(url))[0] == 403
    after = await caller.fetch((await caller.export(avatar_id))["url"])
    assert (before[1]["ETag"], before[2]) == (after[1]["ETag"], after[2])


async def test_a_forged_url_is_403(caller: Caller) -> None:
    """The signature covers path and query."""
    url = await caller.exported(await caller.dressed())
    other = await caller.dressed()
    avatar_id = urlsplit(url).path.split("/")[2]
    for forged in (
        url.split("?")[0],
        url.replace("expires=1", "expires=2"),
        url.replace(avatar_id, other),
        url.replace("signature=", "signature=%C3%A9"),
        url + "&scene=x",
    ):
        assert (await caller.fetch(forged))[0] == 403


async def test_a_download_with_a_token_is_400(caller: Caller) -> None:
    """Clients must not send their token to download urls."""
    url = await caller.exported(await caller.dressed())
    assert (await caller.fetch(url, Authorization="Bearer x"))[0] == 400


async def test_the_files_of_a_deleted_avatar_are_gone(caller: Caller) -> None:
    """Deleting a user deletes the exports."""
    user = await caller.new_user()
    url = await caller.exported(await caller.dressed(user))
    await caller.call("DELETE", f"users/{user}")
    status, _, body = await caller.fetch(url)
    assert (status, b"NoSuchKey" in body) == (404, True)


async def test_head_returns_length_and_etag(caller: Caller) -> None:
    """HEAD is GET without the body, and ignores ranges."""
    url = await caller.exported(await caller.dressed())
    _, whole, data = await caller.fetch(url)
    status, headers, nothing = await caller.fetch(url, "HEAD", Range="bytes=0-1")
    assert (status, headers["Content-Length"], headers["ETag"]) == (200, str(len(data)), whole["ETag"])
    assert nothing == b""


async def test_a_range_is_part_of_the_whole(caller: Caller) -> None:
    """206 for some bytes, 416 for none, 200 if If-Range names another file."""
    url = await caller.exported(await caller.dressed())
    _, headers, data = await caller.fetch(url)
    size = len(data)
    status, part, tail = await caller.fetch(url, Range="bytes=300000-", If_Range=headers["ETag"])
    assert (status, part["Content-Range"]) == (206, f"bytes 300000-{size - 1}/{size}")
    assert (tail, part["ETag"], part["Content-Length"]) == (data[300_000:], headers["ETag"], str(size - 300_000))
    assert (await caller.fetch(url, Range="bytes=5-9"))[2] == data[5:10]
    assert (await caller.fetch(url, Range="bytes=-7"))[2] == data[-7:]
    status, refused, _ = await caller.fetch(url, Range=f"bytes={size}-")
    assert (status, refused["Content-Range"]) == (416, f"bytes */{size}")
    status, _, whole = await caller.fetch(url, Range="bytes=5-9", If_Range='"other"')
    assert (status, whole) == (200, data)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param("bytes=0-0", range(1), id="first-byte"),
        pytest.param("bytes=0-99", range(10), id="beyond-the-end"),
        pytest.param("bytes=9-", range(9, 10), id="last-byte"),
        pytest.param("bytes=-3", range(7, 10), id="suffix"),
        pytest.param("bytes=-99", range(10), id="suffix-longer-than-the-file"),
        pytest.param("Bytes = 1 - 2", range(1, 3), id="spaces"),
        pytest.param("bytes=3-2", None, id="reversed"),
        pytest.param("bytes=-", None, id="no-numbers"),
        pytest.param("bytes=0-1,3-4", None, id="several"),
        pytest.param("bytes=x-", None, id="no-digits"),
        pytest.param("bytes=\u0661-", None, id="arabic-digits"),
        pytest.param("chunks=0-1", None, id="another-unit"),
        pytest.param("bytes=" + "9" * 5000 + "-", None, id="too-many-digits"),
        pytest.param("", None, id="empty"),
    ],
)
def test_ranges(header: str, expected: range | None) -> None:
    """Range headers are read as RFC 9110 has them; malformed ones are ignored."""
    assert expected == parse_range({"Range": header}, size=10, etag='"x"')


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("bytes=10-", id="at-the-end"),
        pytest.param("bytes=-0", id="empty-suffix"),
        pytest.param("bytes=" + "9" * 4000 + "-", id="many-digits"),
    ],
)
def test_unsatisfiable_ranges(header: str) -> None:
    """A range without any byte of the file is an error."""
    with pytest.raises(UnsatisfiableError):
        parse_range({"Range": header}, size=10, etag='"x"')


async def test_a_broken_download_can_be_resumed(emulator: Emulator, caller: Caller) -> None:
    """The connection breaks in the middle, and a range has the rest."""
    url = await caller.exported(await caller.dressed())
    data = (await caller.fetch(url))[2]
    emulator.faults = Faults(broken_downloads=1)
    start = b""
    async with caller.anonymous.get(url) as response:
        assert int(response.headers["Content-Length"]) == len(data)
        with contextlib.suppress(aiohttp.ClientPayloadError):
            async for chunk in response.content.iter_any():
                start += chunk
    assert len(start) < len(data)
    assert emulator.requests[-1].status is None
    emulator.faults = Faults()
    assert start + (await caller.fetch(url, Range=f"bytes={len(start)}-"))[2] == data


def _document(model: bytes) -> Any:
    return json.loads(model[20 : 20 + struct.unpack_from("<I", model, 12)[0]])


def _assets(model: bytes) -> list[str]:
    meshes = [mesh for mesh in _document(model)["meshes"] if mesh["name"].startswith("avaturn_")]
    return [mesh["extras"]["asset"] for mesh in meshes]

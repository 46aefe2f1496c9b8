"""Exports and renders: the ways to their bytes."""

import typing
from collections.abc import AsyncIterator
from contextlib import aclosing
from uuid import UUID

import attrs
import pytest

from avaturn_async import AvaturnClient, Download, Export, ObjectStoreSink, Render, Saved, Sink, Timeouts
from avaturn_async.downloads.downloader import Downloader
from avaturn_async.emulator import Emulator
from avaturn_async.errors import DownloadError, NotAModelError
from avaturn_async.http.session import ClientSessions
from tests.downloads.kit import Answer, FileServer, Shelf, model, sha256

AVATAR = UUID("0190d1e1-7b2c-7cc0-8b5a-2f0c1b7a9f0a")


@pytest.fixture
async def server() -> AsyncIterator[FileServer]:
    """Serve a model of 300,000 bytes."""
    async with FileServer(model(300_000)) as running:
        yield running


@pytest.fixture
async def export(server: FileServer) -> AsyncIterator[Export]:
    """Return an export whose model the server has."""
    sessions = ClientSessions(max_connections=10)
    downloader = Downloader(sessions, timeouts=Timeouts(), allow_private_hosts=True, allow_http=True)
    async with aclosing(sessions):
        yield Export(avatar_id=AVATAR, url=server.url, resolved_by="poll", waited=1.0, polls=1, downloader=downloader)


@pytest.fixture
async def render(server: FileServer) -> AsyncIterator[Render]:
    """Return a render whose image the server has."""
    server.body = b"\x89PNG" + bytes(1000)
    sessions = ClientSessions(max_connections=10)
    downloader = Downloader(sessions, timeouts=Timeouts(), allow_private_hosts=True, allow_http=True)
    async with aclosing(sessions):
        url = f"{server.base}/renders/r.png?signature=SECRET"
        yield Render(id=AVATAR, avatar_id=AVATAR, url=url, resolved_by="webhook", waited=1.0, downloader=downloader)


async def test_an_export_of_the_emulator(emulator: Emulator, client: AvaturnClient, tmp_path):
    """All four ways lead to the same bytes, and an expired link is renewed."""
    user = await client.users.create()
    avatar_id = await emulator.complete_session((await client.sessions.create(user.id)).id)
    await emulator.settled()
    export, shelf = await client.exports.create_and_wait(avatar_id), Shelf()
    emulator.expire_urls()
    body = await export.read()
    assert Download(tmp_path / "m.glb", len(body), None) == await export.download(tmp_path / "m.glb")
    assert Saved(f"{avatar_id}.glb", len(body), sha256(body)) == await export.save(shelf, checksum=True)
    assert body == b"".join([chunk async for chunk in export.stream()])
    assert [body, body] == [(tmp_path / "m.glb").read_bytes(), shelf.files[f"{avatar_id}.glb"]]


async def test_names_in_a_sink(export, render, server):
    """By default the id of the avatar, or that of the render with the suffix of its link; else what is asked for."""
    shelf = Shelf()
    for result in (render, export):
        await result.save(shelf)
        await result.save(shelf, "a/b.c")
        server.body = model(1000)
    assert [f"{AVATAR}.png", "a/b.c", f"{AVATAR}.glb", "a/b.c"] == shelf.puts
    with pytest.raises(ValueError, match=r"the name '\.\./x' is not a plain relative path"):
        await export.save(shelf, "../x")


@pytest.mark.parametrize("kind", ["export", "render"])
async def test_a_limit_holds_for_every_way(kind, export, render, server, tmp_path):
    """It is `max_bytes`; `read` has one by default."""
    result = export if kind == "export" else render
    server.body = model(2000)
    attempts = [
        lambda limit: result.download(tmp_path / "m.glb", max_bytes=limit),
        lambda limit: result.save(Shelf(), max_bytes=limit),
        lambda limit: result.read(limit),
        lambda limit: anext(result.stream(max_bytes=limit)),
    ]
    for attempt in attempts:
        with pytest.raises(DownloadError, match="is longer than max_bytes, which is 1999"):
            await attempt(1999)
        assert await attempt(2000)
    server.answers.append(Answer(headers={"Content-Length": str(2**26 + 1)}, body=server.body, cut=100))
    with pytest.raises(DownloadError, match=f"is longer than max_bytes, which is {2**26}"):
        await result.read()
    assert server.body == await result.read(None)


async def test_only_exports_must_be_models(export, render, server, tmp_path):
    """A render is any file."""
    server.body = b"<html>"
    with pytest.raises(NotAModelError):
        await export.read()
    assert server.body == await render.read()
    assert 6 == (await render.download(tmp_path / "r.png")).size


async def test_a_checksum_is_taken_on_request(export, server, tmp_path):
    """By `download` and `save`."""
    assert sha256(server.body) == (await export.download(tmp_path / "m.glb", checksum=True)).sha256
    assert sha256(server.body) == (await export.save(Shelf(), checksum=True)).sha256
    assert (await export.save(Shelf())).sha256 is None


def test_type_hints_resolve():
    """As cattrs, attrs and dependency injection need them."""
    for kind in (Export, Render, Download, Saved):
        attrs.resolve_types(kind)
    for owner, names in ((Export, "download save read stream"), (Sink, "put"), (ObjectStoreSink, "put __init__")):
        for name in names.split():
            assert typing.get_type_hints(getattr(owner, name))
    assert typing.get_type_hints(Export.save)["return"] is Saved

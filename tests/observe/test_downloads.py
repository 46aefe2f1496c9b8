"""What observers are told of downloads."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from avaturn_async import DownloadError
from avaturn_async.observe.dispatch import Observers

from ..downloads.kit import Answer, FileServer, downloader, model
from .kit import Recorder


@pytest.fixture
async def server() -> AsyncIterator[FileServer]:
    """Serve a model."""
    async with FileServer(model(200_000)) as running:
        yield running


async def test_a_download_that_is_resumed(server: FileServer, tmp_path: Path) -> None:
    """Each way on is told with the bytes so far; the link is shown without its query."""
    seen = Recorder()
    server.cut_every = 90_000
    files = downloader(observers=Observers([seen]))
    await files.fetch(server.url, tmp_path / "m.glb", kind="glb")
    await files.aclose()
    assert ["download_started", "download_resumed", "download_resumed", "download_ended"] == seen.names()
    sizes = [info.size for _, info in seen.told]
    assert (0, 200_000) == (sizes[0], sizes[-1])
    assert sizes == sorted(sizes)
    assert {f"{server.base}/m.glb"} == {info.url for _, info in seen.told}
    assert 1 == len({info.download for _, info in seen.told})


async def test_a_download_that_fails_or_is_left(server: FileServer, tmp_path: Path) -> None:
    """Its end says so."""
    seen = Recorder()
    files = downloader(observers=Observers([seen]))
    server.answers.append(Answer(404))
    with pytest.raises(DownloadError):
        await files.fetch(server.url, tmp_path / "m.glb")
    chunks: AsyncGenerator[bytes, None] = files.stream(server.url)
    async with aclosing(chunks):
        assert await anext(chunks)
    assert server.body == b"".join([chunk async for chunk in files.stream(server.url)])
    await files.aclose()
    assert ["DownloadError", "GeneratorExit", None] == [info.error for info in seen.infos("download_ended")]

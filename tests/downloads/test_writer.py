"""Writing off the loop: how much is taken before it is written, and what a failing thread does."""

import asyncio
import threading
from contextlib import aclosing

import pytest

from avaturn_async.downloads.partfile import Note, PartFile
from avaturn_async.downloads.writer import Sink
from avaturn_async.errors import DownloadError
from avaturn_async.http.tasks import run_in_thread

from .kit import downloader, model, sha256

MIB = 1024 * 1024


async def test_no_more_is_taken_than_can_be_written(tmp_path, monkeypatch):
    """A disk that is slower than the network holds the network back."""
    started, go_on = threading.Event(), threading.Event()
    real = PartFile.write

    def slow(self, chunk):
        started.set()
        assert go_on.wait(10)
        real(self, chunk)

    monkeypatch.setattr(PartFile, "write", slow)
    part = PartFile(tmp_path / "f", overwrite=False)
    await run_in_thread(part.open, "source")
    sink = Sink(part, lambda: None)
    taken = 0

    async def pour() -> None:
        nonlocal taken
        for _ in range(64):
            await sink.put(bytes(MIB))
            taken += 1

    pouring = asyncio.create_task(pour())
    while not started.is_set():
        await asyncio.sleep(0)
    for _ in range(1000):
        await asyncio.sleep(0)
    assert 1 <= taken <= 4
    go_on.set()
    await pouring
    await sink.publish()
    await sink.close()
    assert 64 * MIB == part.size == (tmp_path / "f").stat().st_size


async def test_a_failing_disk_is_noticed_on_the_way(server, tmp_path, monkeypatch):
    """A download does not go on reading what can't be written."""

    def fail(self, chunk):
        raise DownloadError("full")

    monkeypatch.setattr(PartFile, "write", fail)
    server.body = model(64 * MIB)
    seen = []
    async with aclosing(downloader()) as downloads:
        with pytest.raises(DownloadError, match="full"):
            await downloads.fetch(server.url, tmp_path / "m.glb", progress=lambda done, _: seen.append(done))
    assert seen[-1] < 16 * MIB


async def test_a_big_file_arrives_whole(server, downloads, tmp_path):
    """Batches are written in order, also where a thread and the loop take turns quickly."""
    server.body = model(20_000_000)
    fetched = await downloads.fetch(server.url, tmp_path / "m.glb", kind="glb")
    assert (20_000_000, sha256(server.body)) == (fetched.size, fetched.sha256)
    assert server.body == (tmp_path / "m.glb").read_bytes()


async def test_closing_waits_for_a_thread_and_passes_the_cancellation_on(tmp_path, monkeypatch):
    """A sink that is cancelled while it closes has closed its file, and its failed write is not warned about."""
    started, go_on = threading.Event(), threading.Event()

    def fail(self, chunk):
        started.set()
        assert go_on.wait(10)
        raise DownloadError("full")

    monkeypatch.setattr(PartFile, "write", fail)
    part = PartFile(tmp_path / "f", overwrite=False)
    await run_in_thread(part.open, "source")
    sink = Sink(part, lambda: None)
    await sink.put(bytes(MIB))
    closing = asyncio.create_task(sink.close())
    await asyncio.sleep(0)
    while not started.is_set():
        await asyncio.sleep(0)
    closing.cancel()
    await asyncio.sleep(0)
    assert not closing.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", ["publish", "rewind", "close"])
async def test_what_a_failed_thread_left_out_is_no_gap(ending, tmp_path, monkeypatch):
    """Where a batch was not written, nothing is left to go on with: it would have a gap."""
    real = PartFile.write

    def fail(self, chunk):
        if chunk[0] == 1:
            raise MemoryError
        real(self, chunk)

    monkeypatch.setattr(PartFile, "write", fail)
    part = PartFile(tmp_path / "f", overwrite=False)
    await run_in_thread(part.open, "source")
    sink = Sink(part, lambda: Note("source", '"etag"', 4 * MIB))
    await sink.put(b"\0" * (MIB // 2))
    await sink._worker.catch_up()
    await sink.put(b"\1" * (MIB // 2))
    await sink.put(b"\2")
    if ending != "close":
        with pytest.raises(MemoryError):
            await getattr(sink, ending)()
    await sink.close()
    assert [] == list(tmp_path.iterdir())

"""``sink=``: models that go elsewhere than into a folder, and what a journal knows of them."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest

from avaturn_async import AvaturnError, BatchProgress, DownloadError, Saved

from .kit import FakeExports, MemorySink, avatars, downloaded, is_model, new_batch, uuids


async def test_models_go_into_the_sink_under_their_names() -> None:
    """Complete, with sizes and, if asked for, checksums in the outcomes."""
    sink, told = MemorySink(), list[BatchProgress]()
    async with avatars(5) as (_, client, ids):
        async with client.exports.batch(
            ids, sink=sink, name=lambda each: f"models/{each}.glb", checksum=True, on_progress=told.append
        ) as batch:
            report = await batch.run()
    assert [f"models/{avatar_id}.glb" for avatar_id in ids] == [
        each.download.name for each in report.succeeded if isinstance(each.download, Saved)
    ]
    assert {each.download for each in report.succeeded} == {
        Saved(name, len(content), hashlib.sha256(content).hexdigest()) for name, content in sink.files.items()
    }
    assert all(map(is_model, sink.files.values()))
    assert sum(map(len, sink.files.values())) == told[-1].bytes
    assert [each.name for each in _saved(report.outcomes)] == [row["file"] for row in report.rows()]


async def test_names_default_to_the_avatars_and_checksums_to_none() -> None:
    """As for a folder."""
    sink = MemorySink()
    async with avatars(2) as (_, client, ids):
        async with client.exports.batch(ids, sink=sink) as batch:
            report = await batch.run()
    assert [Saved(f"{each}.glb", len(sink.files[f"{each}.glb"])) for each in ids] == _saved(report.outcomes)


async def test_a_sink_that_fails_fails_its_item() -> None:
    """Also where it cancels itself; the others go on."""
    sink = MemorySink()
    async with avatars(4) as (_, client, ids):
        sink.failing = {f"{ids[0]}.glb": OSError("no space"), f"{ids[1]}.glb": asyncio.CancelledError()}
        async with client.exports.batch(ids, sink=sink) as batch:
            report = await batch.run()
    assert [False, False, True, True] == [each.ok for each in report.outcomes]
    assert isinstance(report.outcomes[0].error, DownloadError)
    assert isinstance(report.outcomes[1].error, AvaturnError)
    assert {f"{each}.glb" for each in ids[2:]} == set(sink.files)


async def test_a_sink_that_cancels_the_task_of_its_item() -> None:
    """The item fails, once for each time that it is in the input, and the others go on."""

    class Cancelling(MemorySink):
        async def put(self, name: str, chunks: Any) -> None:
            if name == f"{ids[0]}.glb":
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                await asyncio.sleep(0)
            await super().put(name, chunks)

    async with avatars(2) as (_, client, ids):
        async with asyncio.timeout(30), client.exports.batch([ids[0], ids[0], ids[1]], sink=Cancelling()) as batch:
            report = await batch.run()
    assert [False, False, True] == [each.ok for each in report.outcomes]
    assert all("cancelled, but not by the batch" in str(each.error) for each in report.failed)


@pytest.mark.parametrize("name", ["../x", "/x", "a\\b", ""], ids=["parent", "absolute", "backslash", "empty"])
async def test_names_may_not_leave_the_sink(name: str) -> None:
    """A prefix is a folder, too."""
    async with new_batch(FakeExports(), uuids(1), sink=(sink := MemorySink()), name=lambda _: name) as batch:
        (outcome,) = (await batch.run()).outcomes
    assert ValueError is type(outcome.error)
    assert [] == sink.puts


async def test_a_save_is_recorded_after_the_sink_returned(tmp_path: Path) -> None:
    """What was cancelled before is saved again by the next run, and what was saved is not."""
    saving = asyncio.Event()

    class Slow(MemorySink):
        async def put(self, name: str, chunks: Any) -> None:
            await super().put(name, chunks)
            if len(self.puts) == 2:
                saving.set()
                await asyncio.sleep(3600)

    async with avatars(3) as (avaturn, client, ids):
        options: dict[str, Any] = {"journal": tmp_path / "journal.db", "max_downloads": 1, "max_pending": 1}
        async with client.exports.batch(ids, sink=(slow := Slow()), **options) as batch:
            running = asyncio.create_task(batch.run())
            await saving.wait()
        with pytest.raises(RuntimeError, match="left"):
            await running
        async with client.exports.batch(ids, sink=(sink := MemorySink()), **options) as batch:
            report = await batch.run()
        assert slow.puts[:1] + sink.puts == [f"{each}.glb" for each in ids]
        assert [f"{each}.glb" for each in ids] == [each.name for each in _saved(report.outcomes)]
        assert [None, *ids[1:]] == [each.export and each.export.avatar_id for each in report.outcomes]
        avaturn.requests.clear()
        async with client.exports.batch(ids, sink=sink, **options) as batch:
            assert _saved(report.outcomes) == _saved((await batch.run()).outcomes)
        assert [] == downloaded(avaturn.requests)


async def test_a_file_in_a_folder_is_not_in_the_sink(tmp_path: Path) -> None:
    """A journal tells downloads from saves, and one name from another."""

    async def run(**options: Any) -> int:
        exports = FakeExports()
        async with new_batch(exports, uuids(3), journal=tmp_path / "journal.db", **options) as batch:
            assert 3 == len((await batch.run()).succeeded)
        return len(exports.fetched)

    sink = MemorySink()
    assert [3, 3, 0, 3, 0, 0, 3] == [
        await run(download_to=tmp_path),
        await run(sink=sink),
        await run(sink=sink),
        await run(sink=sink, name=lambda each: f"a/{each}"),
        await run(sink=sink, name=lambda each: f"a/{each}"),
        await run(),
        await run(download_to=tmp_path),
    ]


@pytest.mark.parametrize(
    ("options", "error"),
    [({"sink": MemorySink(), "download_to": "models"}, ValueError), ({"sink": "s3://bucket"}, TypeError)],
    ids=["both", "text"],
)
def test_misuse_is_refused_at_once(options: dict[str, Any], error: type[Exception]) -> None:
    """A folder and a sink, or something else than a sink."""
    with pytest.raises(error, match="sink"):
        new_batch(FakeExports(), [], **options)


def _saved(outcomes: Any) -> list[Saved]:
    return [each.download for each in outcomes if isinstance(each.download, Saved)]

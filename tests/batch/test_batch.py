"""Many exports at once, against the emulator."""

from __future__ import annotations

import asyncio
import hashlib
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from avaturn_async import (
    AuthenticationError,
    AvaturnClient,
    BatchOutcome,
    BatchProgress,
    DownloadError,
    JobFailedError,
    NotFoundError,
    PendingExport,
    WaitTimeoutError,
)
from avaturn_async.emulator import Faults, Timing

from .kit import QUICK, avatars


def whole(path: Path) -> bool:
    """Say whether a file is a GLB of the length that it declares."""
    content = path.read_bytes()
    magic, version, length = struct.unpack("<4sII", content[:12])
    return (b"glTF", 2, len(content)) == (magic, version, length)


async def test_run_reports_in_the_order_of_the_input(tmp_path: Path) -> None:
    """Every avatar has its outcome, its file and its hash."""
    async with avatars(20) as (_, client, ids):
        async with client.exports.batch(ids, download_to=tmp_path / "models") as batch:
            report = await batch.run()
        assert ids == [outcome.avatar_id for outcome in report.outcomes]
        assert (20, 0) == (len(report.succeeded), len(report.failed))
        assert {50, 95, 99} == set(report.percentiles)
        assert report.elapsed > 0
        for outcome in report.outcomes:
            assert outcome.download is not None
            assert tmp_path / "models" / f"{outcome.avatar_id}.glb" == outcome.download.path
            assert whole(outcome.download.path)
            assert hashlib.sha256(outcome.download.path.read_bytes()).hexdigest() == outcome.download.sha256
        assert 20 == len(list((tmp_path / "models").iterdir()))


async def test_outcomes_come_as_they_finish() -> None:
    """Without a folder an outcome has its export; iterating gives each once."""
    async with avatars(20) as (_, client, ids):
        async with client.exports.batch(ids) as batch:
            seen = [outcome async for outcome in batch]
            assert [] == [outcome async for outcome in batch]
        assert set(ids) == {outcome.avatar_id for outcome in seen}
        assert all(outcome.export is not None and outcome.download is None for outcome in seen)


async def test_duplicates_are_exported_once() -> None:
    """In whatever spelling an id comes again."""
    async with avatars(2) as (avaturn, client, ids):
        given = [ids[0], str(ids[0]).upper(), ids[1], ids[0].hex]
        async with client.exports.batch(given) as batch:
            report = await batch.run()
        assert ids == [outcome.avatar_id for outcome in report.outcomes]
        exported = {each.query for each in avaturn.requests if each.operation == "create_export"}
        assert {f"avatar_id={avatar_id}" for avatar_id in ids} == exported


async def test_one_failure_never_stops_the_others() -> None:
    """A malformed id, an unknown avatar and good ones each have an outcome of their own."""
    async with avatars(3) as (_, client, ids):
        unknown = uuid4()
        async with client.exports.batch(["nonsense", ids[0], unknown, ids[1], 7, ids[2]]) as batch:  # type: ignore[list-item]
            report = await batch.run()
        assert ["nonsense", ids[0], unknown, ids[1], "7", ids[2]] == [each.avatar_id for each in report.outcomes]
        assert ids == [outcome.avatar_id for outcome in report.succeeded]
        errors = [type(outcome.error) for outcome in report.failed]
        assert [ValueError, NotFoundError, ValueError] == errors


async def test_failed_jobs_are_told_once_each() -> None:
    """A job that fails is an outcome with JobFailedError."""
    async with avatars(30) as (avaturn, client, ids):
        avaturn.faults = Faults(job_failures=0.5)
        async with client.exports.batch(ids) as batch:
            report = await batch.run()
        assert report.failed
        assert report.succeeded
        assert {JobFailedError} == {type(outcome.error) for outcome in report.failed}


async def test_a_timeout_is_for_each_export() -> None:
    """An export that takes too long fails alone."""
    async with avatars(3) as (avaturn, client, ids):
        avaturn.timing = Timing(export=3600)
        async with client.exports.batch(ids, timeout=0.2) as batch:
            report = await batch.run()
        assert [WaitTimeoutError] * 3 == [type(outcome.error) for outcome in report.failed]


async def test_a_wrong_token_is_asked_with_once() -> None:
    """After a 401 nothing more is sent; what is left ends with the same error."""
    async with avatars(50) as (avaturn, _, ids):
        before = avaturn.counts["create_export"]
        async with (
            AvaturnClient("wrong", base_url=avaturn.url, polling=QUICK) as client,
            client.exports.batch(ids, max_pending=2) as batch,
        ):
            report = await batch.run()
        assert [AuthenticationError] * 50 == [type(outcome.error) for outcome in report.failed]
        assert 50 == len({id(outcome.error) for outcome in report.failed})
        assert avaturn.counts["create_export"] - before <= 2


async def test_the_input_is_read_lazily_and_a_slow_consumer_holds_it_back() -> None:
    """No more is read than what is pending, waits to be downloaded, or waits to be taken."""
    read = 0

    async def source(ids: list[UUID]) -> AsyncIterator[UUID]:
        nonlocal read
        for avatar_id in ids:
            read += 1
            yield avatar_id

    async with avatars(60) as (avaturn, client, ids):
        avaturn.timing = Timing(export=0)
        async with client.exports.batch(source(ids), max_pending=4, max_downloads=3) as batch:
            taken = 0
            async for _ in batch:
                taken += 1
                for _ in range(50):
                    await asyncio.sleep(0.001)
                assert read <= taken + 4 + 3
                if taken == 10:
                    break
        assert read < 60


async def test_an_input_that_raises_ends_the_batch() -> None:
    """With its own error, and no task left."""

    def source(ids: list[UUID]) -> Iterator[UUID]:
        yield from ids
        raise RuntimeError("no more")

    async with avatars(3) as (_, client, ids):
        async with client.exports.batch(source(ids)) as batch:
            with pytest.raises(RuntimeError, match="no more"):
                await batch.run()


async def test_a_callback_that_raises_ends_the_batch() -> None:
    """on_progress is the caller's; so is its error."""

    def tell(_: BatchProgress) -> None:
        raise RuntimeError("enough")

    async with avatars(3) as (_, client, ids):
        async with client.exports.batch(ids, on_progress=tell) as batch:
            with pytest.raises(RuntimeError, match="enough"):
                await batch.run()


async def test_progress_adds_up(tmp_path: Path) -> None:
    """The last call has everything in it."""
    told: list[BatchProgress] = []
    async with avatars(12) as (_, client, ids):
        given = [*ids, ids[0], "nonsense"]
        async with client.exports.batch(given, download_to=tmp_path, on_progress=told.append) as batch:
            report = await batch.run()
        last = told[-1]
        assert (14, 12, 1, 0) == (last.total, last.done, last.failed, last.pending)
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) == last.bytes
        assert 0.0 == last.eta
        assert len(report.outcomes) == 13


async def test_leaving_early_leaves_nothing() -> None:
    """Whenever the block is left, or the consumer cancelled, no task stays."""
    async with avatars(30) as (_, client, ids):
        for step in range(12):
            async with client.exports.batch(ids, max_pending=8) as batch:
                async for _ in batch:
                    if step == 0:
                        break
                    step -= 1
            assert not client._desk.armed

        async def consume() -> None:
            async with client.exports.batch(ids, max_pending=8) as batch:
                await batch.run()

        for steps in (1, 2, 5, 20, 100):
            task = asyncio.create_task(consume())
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert not client._desk.armed


async def test_misuse_is_told() -> None:
    """Bad limits, one string, iterating outside the block."""
    async with avatars(0) as (_, client, _):
        with pytest.raises(ValueError, match="max_pending"):
            client.exports.batch([], max_pending=0)
        with pytest.raises(ValueError, match="max_downloads"):
            client.exports.batch([], max_downloads=True)
        with pytest.raises(TypeError, match="avatar_ids"):
            client.exports.batch("0190d1e1-7b2c-7cc0-8b5a-2f0c1b7a9f00")
        batch = client.exports.batch([])
        with pytest.raises(RuntimeError, match="async with"):
            await batch.run()
        async with batch:
            report = await batch.run()
        assert ([], {}) == (report.outcomes, report.percentiles)
        assert "0" in repr(report)


async def test_a_folder_that_can_not_be_made(tmp_path: Path) -> None:
    """It is told on entering, with the path."""
    (tmp_path / "file").write_text("")
    async with avatars(0) as (_, client, _):
        with pytest.raises(DownloadError, match="file") as caught:
            async with client.exports.batch([], download_to=tmp_path / "file" / "models"):
                pytest.fail("entered")
        assert str(tmp_path / "file" / "models") == caught.value.path


async def test_a_target_that_is_a_folder_fails_alone(tmp_path: Path) -> None:
    """The rest of the batch goes on."""
    async with avatars(5) as (_, client, ids):
        (tmp_path / f"{ids[2]}.glb").mkdir()
        async with client.exports.batch(ids, download_to=tmp_path) as batch:
            report = await batch.run()
        (failed,) = report.failed
        assert (ids[2], DownloadError) == (failed.avatar_id, type(failed.error))
        assert isinstance(failed, BatchOutcome)
        assert 4 == len(report.succeeded)


async def test_the_input_is_closed_when_the_batch_is_left() -> None:
    """An async generator gets its end inside the block, not from the garbage collector."""
    closed = asyncio.Event()

    async def source(ids: list[UUID]) -> AsyncIterator[UUID]:
        try:
            for avatar_id in ids:
                yield avatar_id
        finally:
            closed.set()

    async with avatars(20) as (_, client, ids):
        async with client.exports.batch(source(ids), max_pending=2) as batch:
            async for _ in batch:
                break
        assert closed.is_set()


async def test_the_shared_refusal_carries_no_other_avatar_s_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left after a 401 must not be resumed as the first avatar."""

    async def refused(pending: PendingExport, **_: object) -> None:
        error = AuthenticationError("no", status=401)
        error.resume_token = pending.resume_token
        raise error

    monkeypatch.setattr(PendingExport, "wait", refused)
    async with avatars(3) as (_, client, ids):
        async with client.exports.batch(ids, max_pending=1) as batch:
            report = await batch.run()
        tokens = [outcome.error.resume_token for outcome in report.failed]  # type: ignore[union-attr]
        assert str(ids[0]) in str(tokens[0])
        assert [None, None] == tokens[1:]

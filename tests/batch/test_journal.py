"""Batches that go on where an earlier run ended."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from avaturn_async import AvaturnClient, BatchOutcome, ConfigurationError
from avaturn_async.emulator import Faults, Timing
from avaturn_async.journal import Entry, Journal
from tests.chaos.kit import SEED, scaled

from .kit import avatars
from .test_batch import whole


async def run_batch(client: AvaturnClient, ids: list[object], folder: Path, **options: object) -> list[BatchOutcome]:
    """Run a batch with a journal beside its folder."""
    async with client.exports.batch(
        ids,  # type: ignore[arg-type]
        download_to=folder / "models",
        journal=folder / "journal.db",
        **options,  # type: ignore[arg-type]
    ) as batch:
        return (await batch.run()).outcomes


async def test_a_second_run_does_nothing_again(tmp_path: Path) -> None:
    """What is done is skipped, with its file in the outcome."""
    async with avatars(10) as (avaturn, client, ids):
        first = await run_batch(client, ids, tmp_path)  # type: ignore[arg-type]
        before = avaturn.counts.copy()
        second = await run_batch(client, ids, tmp_path)  # type: ignore[arg-type]
        assert before == avaturn.counts
        assert [each.download for each in first] == [each.download for each in second]
        assert [1] * 10 == [each.attempts for each in second]


async def test_what_failed_is_tried_again(tmp_path: Path) -> None:
    """A later run counts the attempts."""
    async with avatars(3) as (avaturn, client, ids):
        avaturn.faults = Faults(job_failures=1)
        failed = await run_batch(client, ids, tmp_path)  # type: ignore[arg-type]
        avaturn.faults = Faults(restart_failed=True)
        mended = await run_batch(client, ids, tmp_path)  # type: ignore[arg-type]
        assert [False] * 3 == [each.ok for each in failed]
        assert [(True, 2)] * 3 == [(each.ok, each.attempts) for each in mended]


async def test_a_batch_that_was_left_is_resumed(tmp_path: Path) -> None:
    """What was pending is resumed by its token, not created anew."""
    async with avatars(6) as (avaturn, client, ids):
        avaturn.timing = Timing(export=0.6)
        async with client.exports.batch(ids, download_to=tmp_path / "models", journal=tmp_path / "journal.db") as batch:
            running = asyncio.create_task(batch.run())
            while avaturn.counts["create_export"] < 6:
                await asyncio.sleep(0.005)
            await client.users.create()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        outcomes = await run_batch(client, ids, tmp_path)  # type: ignore[arg-type]
        assert [True] * 6 == [each.ok for each in outcomes]
        assert all(whole(each.download.path) for each in outcomes if each.download)


async def test_a_damaged_file_is_downloaded_again(tmp_path: Path) -> None:
    """A file that is cut, or another one than the journal knows, is not adopted."""
    async with avatars(3) as (avaturn, client, ids):
        first = await run_batch(client, ids, tmp_path)  # type: ignore[arg-type]
        paths = [each.download.path for each in first if each.download]
        content = paths[0].read_bytes()
        paths[0].write_bytes(content[:-1])
        paths[1].write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        before = avaturn.counts["download_file"]
        second = await run_batch(client, ids, tmp_path)  # type: ignore[arg-type]
        assert [each.download for each in first] == [each.download for each in second]
        assert 2 == avaturn.counts["download_file"] - before


async def test_a_journal_without_files(tmp_path: Path) -> None:
    """Without a folder, done means exported."""
    async with avatars(3) as (avaturn, client, ids):
        for _ in range(2):
            async with client.exports.batch(ids, journal=tmp_path / "journal.db") as batch:
                assert [True] * 3 == [outcome.ok async for outcome in batch]
        assert 3 == len({each.query for each in avaturn.requests if each.operation == "create_export"})


async def test_journals_that_can_not_be_used(tmp_path: Path) -> None:
    """No SQLite, another base_url, a newer version, in use, a folder: told on entering, with the path."""
    path = tmp_path / "journal.db"

    async def refusal(base_url: str = "https://api.example") -> str:
        with pytest.raises(ConfigurationError, match=r"journal\.db") as caught:
            await Journal(path, base_url).open()
        return str(caught.value)

    path.write_text("this is no database, and it is long enough to be told from one" * 20)
    assert "SQLite says" in await refusal()
    path.unlink()
    journal = Journal(path, "https://api.example")
    await journal.open()
    assert "another batch" in await refusal()
    await journal.aclose()
    await journal.aclose()
    assert "https://other.example" in await refusal("https://other.example")
    with sqlite3.connect(path) as database:
        database.execute("UPDATE about SET value = '9' WHERE name = 'v'")
    database.close()
    assert "version" in await refusal()
    path.unlink()
    path.mkdir()
    assert "SQLite says" in await refusal()


async def test_entries_are_kept(tmp_path: Path) -> None:
    """What was written is read by the next one, and a closed journal says so."""
    journal, avatar_id = Journal(tmp_path / "journal.db", "u"), uuid4()
    await journal.open()
    assert await journal.read(avatar_id) is None
    entry = Entry("done", 2, None, 12, "ab", None)
    await journal.write(avatar_id, entry)
    await journal.aclose()
    journal = Journal(tmp_path / "journal.db", "u")
    await journal.open()
    assert entry == await journal.read(avatar_id)
    await journal.aclose()


@pytest.mark.timeout(300)
async def test_killed_at_random_moments(tmp_path: Path) -> None:
    """Kill -9 again and again: in the end every model is there once and whole, and none was downloaded twice."""
    import random

    rng = random.Random(SEED)
    print(f"seed {SEED}")
    kills = scaled(10, 3)
    async with avatars(scaled(300, 60), timing=Timing(scan=0, export=0.2)) as (avaturn, client, ids):
        (tmp_path / "ids").write_text("\n".join(map(str, ids)))
        worker = Path(__file__).with_name("worker.py")
        environment = {**os.environ, "AVATURN_BASE_URL": avaturn.url, "AVATURN_API_TOKEN": avaturn.token}
        wholes: dict[str, int] = {}
        for _ in range(kills):
            process = await asyncio.create_subprocess_exec(
                sys.executable, worker, tmp_path, env=environment, stdout=asyncio.subprocess.PIPE
            )
            assert process.stdout is not None
            for _ in range(rng.randrange(1, 1 + len(ids) // kills)):
                if not await process.stdout.readline():
                    break
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
            await process.communicate()
            for path in (tmp_path / "models").glob("*.glb"):
                assert whole(path)
                wholes.setdefault(path.name, path.stat().st_mtime_ns)
        assert wholes
        outcomes = await run_batch(client, ids, tmp_path)  # type: ignore[arg-type]
        assert [True] * len(ids) == [each.ok for each in outcomes]
        models = list((tmp_path / "models").glob("*.glb"))
        assert {f"{avatar_id}.glb" for avatar_id in ids} == {path.name for path in models}
        assert all(map(whole, models))
        kept = {path.name: path.stat().st_mtime_ns for path in models if path.name in wholes}
        assert wholes == kept


async def test_a_journal_that_fails_loses_no_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk each export has its outcome, and the rest goes on."""

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    async with avatars(5) as (_, client, ids):
        monkeypatch.setattr(Journal, "_write", full)
        outcomes = await run_batch(client, ids, tmp_path)  # type: ignore[arg-type]
        assert ids == [each.avatar_id for each in outcomes]
        assert all("disk is full" in str(each.error) for each in outcomes)
        monkeypatch.undo()
        assert [True] * 5 == [each.ok for each in await run_batch(client, ids, tmp_path)]  # type: ignore[arg-type]


async def test_a_cancelled_opening_keeps_no_lock(tmp_path: Path) -> None:
    """Another batch can have the journal."""
    journal = Journal(tmp_path / "journal.db", "u")
    opening = asyncio.create_task(journal.open())
    await asyncio.sleep(0)
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    for _ in range(100):
        again = Journal(tmp_path / "journal.db", "u")
        try:
            await again.open()
        except ConfigurationError:
            await asyncio.sleep(0.01)
        else:
            break
    assert await again.read(uuid4()) is None
    await again.aclose()

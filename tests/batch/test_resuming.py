"""Batches that go on where an earlier run ended, or was killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from avaturn_async import AvaturnClient, ConfigurationError, JobFailedError, WaitTimeoutError
from avaturn_async.emulator import Emulator, Faults, Timing
from tests.chaos.kit import FULL, SEED, scaled

from .kit import avatars, downloaded, exported, is_right, is_whole, run_batch

ROOT = Path(__file__).parents[2]


def entries(folder: Path) -> list[tuple[Any, ...]]:
    """Return what the journal in a folder has, without the hashes."""
    with closing(sqlite3.connect(folder / "journal.db")) as database:
        return database.execute("SELECT state, attempts, resume_token, file, error FROM exports").fetchall()


async def test_a_second_run_does_nothing_again(tmp_path: Path) -> None:
    """What is done is skipped, with its file in the outcome."""
    async with avatars(10) as (avaturn, client, ids):
        first = await run_batch(client, ids, tmp_path)
        before = avaturn.counts.copy()
        second = await run_batch(client, ids, tmp_path)
        assert before == avaturn.counts
    assert [each.download for each in first] == [each.download for each in second]
    assert [(None, None, 1)] * 10 == [(each.export, each.error, each.attempts) for each in second]
    assert {("done", 1, None, None)} == {entry[:3] + entry[4:] for entry in entries(tmp_path)}
    assert {f"{avatar_id}.glb" for avatar_id in ids} == {entry[3] for entry in entries(tmp_path)}


async def test_what_failed_is_tried_again(tmp_path: Path) -> None:
    """A later run counts the attempts."""
    async with avatars(3) as (avaturn, client, ids):
        avaturn.faults = Faults(job_failures=1)
        failed = await run_batch(client, ids, tmp_path)
        assert {"failed"} == {entry[0] for entry in entries(tmp_path)}
        assert all(entry[4].startswith("JobFailedError: the export of avatar") for entry in entries(tmp_path))
        avaturn.faults = Faults(restart_failed=True)
        mended = await run_batch(client, ids, tmp_path)
    assert {JobFailedError} == {type(each.error) for each in failed}
    assert [(True, 2)] * 3 == [(each.ok, each.attempts) for each in mended]


async def test_what_was_pending_is_resumed(tmp_path: Path) -> None:
    """After a timeout the job still goes on: a later run waits on, and does not start it again."""
    async with avatars(3, timing=Timing(scan=0, export=3600)) as (_, client, ids):
        late = await run_batch(client, ids, tmp_path, timeout=0.05)
        assert {WaitTimeoutError} == {type(each.error) for each in late}
        tokens = {entry[2] for entry in entries(tmp_path)}
        assert {("pending", 1)} == {entry[:2] for entry in entries(tmp_path)}
        resumed: list[str] = []
        resume = client.exports.resume

        def noted(token: str) -> Any:
            resumed.append(token)
            return resume(token)

        batch = client.exports.batch(
            ids, download_to=tmp_path / "models", journal=tmp_path / "journal.db", timeout=0.05
        )
        batch._stages._exports = type("Noted", (), {"create": client.exports.create, "resume": staticmethod(noted)})()
        async with batch:
            report = await batch.run()
    assert tokens == set(resumed)
    assert [1, 1, 1] == [each.attempts for each in report.outcomes]


async def test_whole_files_are_adopted_and_others_are_not(tmp_path: Path) -> None:
    """A model that the journal does not know, or knows by its hash; not one that is cut, or another."""
    async with avatars(5) as (avaturn, client, ids):
        first = await run_batch(client, ids, tmp_path)
        paths = [each.download.path for each in first if each.download]
        content = paths[0].read_bytes()
        paths[0].write_bytes(content[:-1])
        paths[1].write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        paths[2].write_bytes(b"<html>")
        paths[3].unlink()
        before = len(downloaded(avaturn))
        second = await run_batch(client, ids, tmp_path)
        assert set(ids[:4]) == set(downloaded(avaturn)[before:])
        assert [each.download for each in first] == [each.download for each in second]
        assert [2, 2, 2, 2, 1] == [each.attempts for each in second]
        (tmp_path / "journal.db").unlink()
        third = await run_batch(client, ids, tmp_path)
        assert before + 4 == len(downloaded(avaturn))
    assert [each.download for each in first] == [each.download for each in third]
    assert {0} == {each.attempts for each in third}
    assert {("done", 0)} == {entry[:2] for entry in entries(tmp_path)}


async def test_a_journal_without_files(tmp_path: Path) -> None:
    """Without a folder, done means exported; with one, it means that the file is there."""
    async with avatars(3) as (avaturn, client, ids):
        for _ in range(2):
            outcomes = await run_batch(client, ids, tmp_path, download_to=None)
            assert [True] * 3 == [each.ok for each in outcomes]
        assert 3 == sum(Counter(set(exported(avaturn))).values())
        asked = len(exported(avaturn))
        outcomes = await run_batch(client, ids, tmp_path)
        assert asked < len(exported(avaturn))
    assert all(map(is_right, outcomes))


async def test_a_journal_that_can_not_be_used_is_told_on_entering(tmp_path: Path) -> None:
    """With its path, before anything is sent; a batch beside another is told the same."""
    async with avatars(1) as (avaturn, client, ids):
        async with client.exports.batch(ids, journal=tmp_path / "journal.db") as batch:
            with pytest.raises(ConfigurationError, match=r"journal\.db can't be used: another batch"):
                await run_batch(client, ids, tmp_path)
            assert (await batch.run()).succeeded
        async with Emulator() as other:
            async with AvaturnClient(other.token, base_url=other.url) as stranger:
                with pytest.raises(ConfigurationError, match=avaturn.url):
                    await run_batch(stranger, ids, tmp_path)


async def _killed_run(avaturn: Emulator, folder: Path, moment: tuple[int, float]) -> None:
    """Run the worker until so many outcomes are out and so many seconds have passed, and kill it there."""
    environment = {
        **os.environ,
        "AVATURN_BASE_URL": avaturn.url,
        "AVATURN_API_TOKEN": avaturn.token,
        "PYTHONPATH": str(ROOT),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, Path(__file__).with_name("worker.py"), folder, env=environment, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    outcomes, seconds = moment
    for _ in range(outcomes):
        if not await process.stdout.readline():
            break
    await asyncio.sleep(seconds)  # which is the random moment itself, not a wait for something
    if process.returncode is None:
        process.send_signal(signal.SIGKILL)
    await process.communicate()


def _inodes(folder: Path) -> dict[UUID, tuple[int, int]]:
    found = {UUID(path.stem): path.stat() for path in (folder / "models").glob("*.glb") if is_whole(path)}
    return {avatar_id: (stat.st_ino, stat.st_mtime_ns) for avatar_id, stat in found.items()}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("count", "kills"), [(30, 3), pytest.param(scaled(500, 60), 10, marks=pytest.mark.chaos)], ids=["short", "ten"]
)
async def test_killed_at_random_moments(count: int, kills: int, tmp_path: Path) -> None:
    """Killed (-9) again and again: every model is there once and whole, and whole ones are not downloaded again."""
    rng = random.Random(SEED)
    print(f"seed {SEED}, full {FULL}")
    async with avatars(count, seed=SEED, timing=Timing(scan=0, export=0.2, jitter=0.2)) as (avaturn, client, ids):
        (tmp_path / "ids").write_text("\n".join(map(str, ids)))
        whole: dict[UUID, tuple[int, int]] = {}
        fetched: dict[UUID, int] = {}
        for _ in range(kills):
            await _killed_run(avaturn, tmp_path, (rng.randrange(count // kills), rng.uniform(0, 0.3)))
            assert all(map(is_whole, (tmp_path / "models").glob("*.glb")))
            counts = Counter(downloaded(avaturn))
            fetched = {avatar_id: counts[avatar_id] for avatar_id in _inodes(tmp_path)} | fetched
            whole = _inodes(tmp_path) | whole
        assert whole
        outcomes = await run_batch(client, ids, tmp_path)
        assert ids == [each.avatar_id for each in outcomes]
        assert all(map(is_right, outcomes))
        assert {f"{avatar_id}.glb" for avatar_id in ids} == {path.name for path in (tmp_path / "models").iterdir()}
        # neither replaced by a later run, nor asked for
        assert whole == {avatar_id: stat for avatar_id, stat in _inodes(tmp_path).items() if avatar_id in whole}
        counts = Counter(downloaded(avaturn))
        assert fetched == {avatar_id: counts[avatar_id] for avatar_id in fetched}

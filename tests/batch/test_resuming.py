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

from .kit import Recorder, avatars, downloaded, exported, is_right, is_whole, run_batch

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
    """After a timeout the job still goes on: a later run awaits it, and does not create it again."""
    async with avatars(3, timing=Timing(scan=0, export=3600)) as (_, client, ids):
        late = await run_batch(client, ids, tmp_path, timeout=0.05)
        assert {WaitTimeoutError} == {type(each.error) for each in late}
        assert {("pending", 1)} == {entry[:2] for entry in entries(tmp_path)}
        tokens = {entry[2] for entry in entries(tmp_path)}
        assert {each.error.resume_token for each in late if isinstance(each.error, WaitTimeoutError)} == tokens
        again = await run_batch(client, ids, tmp_path, timeout=0.05)
    assert {(WaitTimeoutError, 1)} == {(type(each.error), each.attempts) for each in again}


@pytest.mark.parametrize(
    "token",
    ["junk", "{}", '{"v":99,"kind":"export"}', '{"v":1,"kind":"render","base_url":"URL","created":1}', "[" * 20_000],
    ids=["junk", "empty", "version", "kind", "nested"],
)
async def test_a_bad_token_is_exported_afresh(token: str, tmp_path: Path) -> None:
    """As if the journal knew nothing."""
    async with avatars(2) as (avaturn, client, ids):
        await run_batch(client, ids, tmp_path)
        await asyncio.to_thread(change, tmp_path, token.replace("URL", avaturn.url))
        outcomes = await run_batch(client, ids, tmp_path)
    assert all(map(is_right, outcomes))
    assert [2, 2] == [each.attempts for each in outcomes]


async def test_a_token_of_another_avatar_is_not_used(tmp_path: Path) -> None:
    """It would put that avatar's model under this one's name."""
    async with avatars(2, timing=Timing(scan=0, export=3600)) as (avaturn, client, ids):
        await run_batch(client, ids, tmp_path, timeout=0.05)
        token = (await client.exports.create(ids[1])).resume_token
        await asyncio.to_thread(change, tmp_path, token)
        avaturn.timing = Timing(scan=0, export=0)
        first = await run_batch(client, ids[:1], tmp_path, timeout=0.3)
        assert [2] == [each.attempts for each in first]
        assert ids[0] == exported(avaturn.requests)[-1]


def change(folder: Path, token: str) -> None:
    """Have all entries of a journal pending with a token."""
    with closing(sqlite3.connect(folder / "journal.db", isolation_level=None)) as database:
        database.execute("UPDATE exports SET state = 'pending', resume_token = ?", (token,))


async def test_only_files_that_the_journal_recorded_are_adopted(tmp_path: Path) -> None:
    """Of the recorded size; others are downloaded again and replaced: shorter, changed, moved, or found there."""
    async with avatars(6) as (avaturn, client, ids):
        first = await run_batch(client, ids, tmp_path)
        paths = [each.download.path for each in first if each.download]
        contents = [path.read_bytes() for path in paths]
        paths[0].write_bytes(contents[0][:-1])
        paths[1].write_bytes(b"<html>")
        paths[2].unlink()
        paths[3].unlink()
        paths[3].symlink_to(paths[4])
        avaturn.requests.clear()
        second = await run_batch(client, ids, tmp_path)
        assert set(ids[:4]) == set(downloaded(avaturn.requests))
        assert [each.download for each in first] == [each.download for each in second]
        assert [2, 2, 2, 2, 1, 1] == [each.attempts for each in second]
        (tmp_path / "journal.db").unlink()
        avaturn.requests.clear()
        third = await run_batch(client, ids, tmp_path)
        assert sorted(ids) == sorted(downloaded(avaturn.requests))
    assert [each.download for each in first] == [each.download for each in third]
    assert contents == [path.read_bytes() for path in paths]
    assert not any(path.is_symlink() for path in paths)


async def test_a_checksum_tells_changed_files(tmp_path: Path) -> None:
    """Of the same size; without one, the size is all that is compared."""
    async with avatars(2) as (avaturn, client, ids):
        for checksum in (True, False):
            first = await run_batch(client, ids, tmp_path / str(checksum), checksum=checksum)
            assert {checksum} == {each.download.sha256 is not None for each in first if each.download}
            assert first[0].download
            path = first[0].download.path
            content = path.read_bytes()
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            avaturn.requests.clear()
            await run_batch(client, ids, tmp_path / str(checksum))
            assert (ids[:1] if checksum else []) == downloaded(avaturn.requests)


async def test_a_planted_model_is_not_taken_for_an_export(tmp_path: Path) -> None:
    """A whole model under the final name, which this journal did not record."""
    async with avatars(2) as (avaturn, client, ids):
        first = await run_batch(client, ids[:1], tmp_path)
        assert first[0].download
        planted = tmp_path / "models" / f"{ids[1]}.glb"
        planted.write_bytes(first[0].download.path.read_bytes())
        second = await run_batch(client, ids, tmp_path)
        assert 2 == len(downloaded(avaturn.requests))
    assert all(map(is_right, second))


async def test_a_fifo_under_a_final_name_does_not_hang(tmp_path: Path) -> None:
    """It is replaced by the model."""
    async with avatars(2) as (_, client, ids):
        first = await run_batch(client, ids, tmp_path)
        assert first[0].download
        path = first[0].download.path
        path.unlink()
        os.mkfifo(path)
        os.mkfifo(tmp_path / "models" / f"{ids[1]}.glb.fifo")
        outcomes = await run_batch(client, ids, tmp_path)
    assert all(map(is_right, outcomes))


async def test_files_are_recorded_by_their_names(tmp_path: Path) -> None:
    """A run with other names downloads again."""
    async with avatars(2) as (avaturn, client, ids):
        await run_batch(client, ids, tmp_path)
        renamed = await run_batch(client, ids, tmp_path, name=lambda avatar_id: f"to/{avatar_id}.glb")
        assert 4 == len(downloaded(avaturn.requests))
        assert all(map(is_right, renamed))
        await run_batch(client, ids, tmp_path, name=lambda avatar_id: f"to/{avatar_id}.glb")
        assert 4 == len(downloaded(avaturn.requests))


async def test_a_journal_without_files(tmp_path: Path) -> None:
    """Without a folder, done means exported; with one, it means that the file is there."""
    async with avatars(3) as (avaturn, client, ids):
        for _ in range(2):
            outcomes = await run_batch(client, ids, tmp_path, download_to=None)
            assert [True] * 3 == [each.ok for each in outcomes]
        assert set(ids) == set(exported(avaturn.requests))
        asked = len(exported(avaturn.requests))
        outcomes = await run_batch(client, ids, tmp_path)
        assert asked < len(exported(avaturn.requests))
    assert all(map(is_right, outcomes))


async def test_a_journal_that_can_not_be_used_is_refused_on_entering(tmp_path: Path) -> None:
    """With its path, before anything is sent."""
    async with avatars(1) as (avaturn, client, ids):
        async with client.exports.batch(ids, journal=tmp_path / "journal.db") as batch:
            with pytest.raises(ConfigurationError, match=r"journal\.db can't be used: another batch"):
                await run_batch(client, ids, tmp_path)
            assert (await batch.run()).succeeded
        async with Emulator() as other:
            async with AvaturnClient(other.token, base_url=other.url) as stranger:
                with pytest.raises(ConfigurationError, match=avaturn.url):
                    await run_batch(stranger, ids, tmp_path)


async def _interrupted_run(avaturn: Emulator, folder: Path, how: signal.Signals, moment: tuple[int, float]) -> str:
    """Run the worker until so many outcomes are out and so many seconds have passed, and interrupt it there."""
    environment = {
        **os.environ,
        "AVATURN_BASE_URL": avaturn.url,
        "AVATURN_API_TOKEN": avaturn.token,
        "PYTHONPATH": str(ROOT),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        Path(__file__).with_name("worker.py"),
        folder,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    outcomes, seconds = moment
    for _ in range(outcomes):
        if not await process.stdout.readline():
            break
    await asyncio.sleep(seconds)  # the random moment itself, not a wait for something
    if process.returncode is None:
        process.send_signal(how)
    _, complaints = await process.communicate()
    return complaints.decode()


def _recorded(folder: Path) -> dict[UUID, tuple[int, int]]:
    """Return the inode and the time of each file that the journal has recorded."""
    if not (folder / "journal.db").exists():
        return {}
    with closing(sqlite3.connect(folder / "journal.db")) as database:
        try:
            done = database.execute("SELECT file FROM exports WHERE state = 'done'").fetchall()
        except sqlite3.OperationalError:  # killed before the tables were made
            return {}
    files = {name: (folder / "models" / name).stat() for (name,) in done}
    return {UUID(Path(name).stem): (stat.st_ino, stat.st_mtime_ns) for name, stat in files.items()}


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["kill", "ctrl-c"])
@pytest.mark.parametrize(
    ("count", "interruptions"), [(30, 3), pytest.param(scaled(500, 60), 10, marks=pytest.mark.chaos)], ids=["3", "10"]
)
async def test_interrupted_at_random_moments(
    count: int, interruptions: int, how: signal.Signals, tmp_path: Path
) -> None:
    """Again and again: in the end every model is there once and complete; recorded ones are not downloaded again."""
    rng = random.Random(SEED)
    print(f"seed {SEED}, full {FULL}")
    async with avatars(count, seed=SEED, timing=Timing(scan=0, export=0.2, jitter=0.2)) as (avaturn, client, ids):
        recorder = Recorder(avaturn)
        (tmp_path / "ids").write_text("\n".join(map(str, ids)))
        recorded: dict[UUID, tuple[int, int]] = {}
        fetched: Counter[UUID] = Counter()
        for _ in range(interruptions):
            moment = (rng.randrange(count // interruptions), rng.uniform(0, 0.3))
            complaints = await _interrupted_run(avaturn, tmp_path, how, moment)
            assert all(map(is_whole, (tmp_path / "models").glob("*.glb")))
            assert not complaints or complaints.rstrip().endswith("KeyboardInterrupt"), complaints
            counts = Counter(downloaded(recorder.requests))
            found = await asyncio.to_thread(_recorded, tmp_path)
            fetched = Counter({avatar_id: counts[avatar_id] for avatar_id in found} | fetched)
            recorded = found | recorded
        assert recorded
        outcomes = await run_batch(client, ids, tmp_path)
        assert ids == [each.avatar_id for each in outcomes]
        assert all(map(is_right, outcomes))
        assert {f"{avatar_id}.glb" for avatar_id in ids} == {path.name for path in (tmp_path / "models").iterdir()}
        now = await asyncio.to_thread(_recorded, tmp_path)
        assert recorded == {avatar_id: now[avatar_id] for avatar_id in recorded}
        counts = Counter(downloaded(recorder.requests))
        assert fetched == {avatar_id: counts[avatar_id] for avatar_id in fetched}

"""Disks that are full or read-only, and folders in the way: errors for what they concern, and the rest goes on."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from avaturn_async import DownloadError
from avaturn_async.downloads import partfile

from .kit import avatars, is_right, run_batch


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """Mount a small disk."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if not sys.platform.startswith("linux") or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting needs Linux and root")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


async def test_a_disk_that_is_full_in_the_middle(tmp_path: Path) -> None:
    """What fits is whole, what does not is told, and a later run with more room does the rest, journal and all."""
    disk = tmp_path / "disk"
    async with avatars(8) as (_, client, ids):
        with mounted(disk, "size=1m"):
            outcomes = await run_batch(client, ids, disk)
            there = {path.name for path in (disk / "models").iterdir()}
            assert all(is_right(each) for each in outcomes if each.ok)
            assert {f"{each.avatar_id}.glb" for each in outcomes if each.ok} == there
            assert 1 <= len(there) <= 5
            errors = [each.error for each in outcomes if each.error]
            assert {DownloadError} == set(map(type, errors))
            assert all("the disk is full" in str(error) for error in errors)
            subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
            outcomes = await run_batch(client, ids, disk)
            assert all(map(is_right, outcomes))


async def test_a_disk_that_is_full_for_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others go on, and nothing half-written is left."""
    write, left = os.write, [400_000]

    def scarce(fd: int, content: Any) -> int:
        left[0] -= len(content)
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, content)

    monkeypatch.setattr(partfile.os, "write", scarce)
    async with avatars(6) as (_, client, ids):
        async with client.exports.batch(ids, download_to=tmp_path, max_downloads=1) as batch:
            outcomes = []
            async for outcome in batch:
                outcomes.append(outcome)
                left[0] = 400_000 if len(outcomes) == 4 else left[0]
    assert all("the disk is full" in str(outcome.error) for outcome in outcomes if not outcome.ok)
    assert 6 == len(outcomes)
    succeeded = [outcome for outcome in outcomes if outcome.ok]
    assert 2 <= len(succeeded) < 6
    assert {f"{outcome.avatar_id}.glb" for outcome in succeeded} == {path.name for path in tmp_path.iterdir()}


async def test_a_read_only_folder(tmp_path: Path) -> None:
    """Each avatar that has no file there fails with the path of its own, and the batch ends well."""
    disk = tmp_path / "disk"
    async with avatars(3) as (_, client, ids):
        with mounted(disk, "size=4m"):
            await run_batch(client, ids[:1], tmp_path, download_to=disk)
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            outcomes = await run_batch(client, ids, tmp_path, download_to=disk)
            assert [True, False, False] == [each.ok for each in outcomes]
            for outcome in outcomes[1:]:
                assert isinstance(outcome.error, DownloadError)
                assert str(disk / f"{outcome.avatar_id}.glb") == outcome.error.path
                assert "read-only" in str(outcome.error)


async def test_a_folder_where_a_model_is_to_be(tmp_path: Path) -> None:
    """It fails alone, with a journal and without."""
    async with avatars(4) as (_, client, ids):
        for journal in (None, tmp_path / "journal.db"):
            (tmp_path / "models" / f"{ids[2]}.glb").mkdir(parents=True, exist_ok=True)
            outcomes = await run_batch(client, ids, tmp_path, journal=journal)
            (failed,) = (each for each in outcomes if not each.ok)
            assert (ids[2], DownloadError) == (failed.avatar_id, type(failed.error))
            assert failed.export is not None
            assert "it is a directory" in str(failed.error)


async def test_a_folder_that_can_not_be_made(tmp_path: Path) -> None:
    """It is told on entering, with the path, before anything is sent."""
    (tmp_path / "file").touch()
    async with avatars(1) as (avaturn, client, ids):
        before = avaturn.counts.copy()
        for folder in (tmp_path / "file", tmp_path / "file" / "models"):
            with pytest.raises(DownloadError, match="can't be created") as caught:
                await run_batch(client, ids, tmp_path, download_to=folder)
            assert str(folder) == caught.value.path
        assert before == avaturn.counts
    assert not (tmp_path / "journal.db").exists()

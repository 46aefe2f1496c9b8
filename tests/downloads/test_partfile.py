"""The file before it has its name: what a later run finds, what a full disk leaves, and who may write to it."""

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import aclosing, contextmanager
from pathlib import Path

import pytest

from avaturn_async.downloads import partfile
from avaturn_async.downloads.partfile import Note, PartFile
from avaturn_async.errors import DownloadError, IncompleteDownloadError

from .kit import ETAG, Answer, downloader, model, sha256

BLOCK = 64 * 1024


def _part(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _note(target: Path) -> Path:
    return target.with_name(f".{target.name}.part.json")


async def _break_off(server, downloads, target, *, after=100_000):
    """Leave behind what a run leaves whose connection broke for good."""
    server.answers.append(lambda _, honest: Answer(honest.status, honest.headers, honest.body, cut=after))
    server.answers.extend([Answer(503)] * 5)
    with pytest.raises(IncompleteDownloadError) as caught:
        await downloads.fetch(server.url, target, kind="glb")
    server.requests.clear()
    return caught.value


async def test_a_later_run_goes_on(server, downloads, tmp_path):
    """What one call left is taken up by the next, by the same If-Range, and nothing is left over."""
    target = tmp_path / "m.glb"
    error = await _break_off(server, downloads, target)
    assert str(target) == error.path
    assert [_part(target), _note(target)] == sorted(tmp_path.iterdir())
    fetched = await downloads.fetch(f"{server.base}/m.glb?signature=OTHER", target, kind="glb")
    assert (len(server.body), sha256(server.body)) == (fetched.size, fetched.sha256)
    assert server.body == target.read_bytes()
    assert [(100_000, ETAG)] == [(request.start, request.headers["if-range"]) for request in server.requests]
    assert [target] == list(tmp_path.iterdir())


async def test_a_later_run_asks_for_a_fresh_link_at_once(server, downloads, tmp_path):
    """What an earlier run left is no progress of this one: a refusal is a refusal."""
    target = tmp_path / "m.glb"
    await _break_off(server, downloads, target)
    server.answers.append(Answer(403))

    async def fresh_url() -> str:
        return server.url

    await downloads.fetch(server.url, target, fresh_url=fresh_url, kind="glb")
    assert [100_000, 100_000] == [request.start for request in server.requests]


async def test_a_later_run_may_fail_too(server, downloads, tmp_path):
    """A run that brings nothing keeps what was there."""
    target = tmp_path / "m.glb"
    await _break_off(server, downloads, target)
    await _break_off(server, downloads, target, after=0)
    assert server.body[:100_000] == _part(target).read_bytes()


async def test_a_file_that_changed_between_runs_begins_again(server, downloads, tmp_path):
    """If-Range keeps two versions of a file apart."""
    target = tmp_path / "m.glb"
    await _break_off(server, downloads, target)
    server.body, server.etag = model(200_000, seed=9), '"new"'
    fetched = await downloads.fetch(server.url, target, kind="glb")
    assert sha256(server.body) == fetched.sha256


async def test_another_url_begins_again(server, downloads, tmp_path):
    """A partial file of another resource is not taken up, though its ETag is the same."""
    target = tmp_path / "m.glb"
    await _break_off(server, downloads, target)
    fetched = await downloads.fetch(f"{server.base}/other.glb", target, kind="glb")
    assert sha256(server.body) == fetched.sha256
    assert "range" not in server.requests[0].headers


async def test_a_partial_file_that_is_whole_is_confirmed(server, downloads, tmp_path):
    """A run that was killed before the rename costs one byte."""
    target = tmp_path / "m.glb"
    await _break_off(server, downloads, target)
    _part(target).write_bytes(server.body)
    fetched = await downloads.fetch(server.url, target, kind="glb")
    assert sha256(server.body) == fetched.sha256
    assert [len(server.body) - 1] == [request.start for request in server.requests]


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"[" * 100_000,
        b'"text"',
        b'{"source": 1, "validator": "x", "total": 1}',
        b'{"source": "SOURCE", "validator": 5, "total": 300000}',
        b'{"source": "SOURCE", "validator": "a\\r\\nb", "total": 300000}',
        b'{"source": "SOURCE", "validator": "x", "total": "300000"}',
        b'{"source": "SOURCE", "validator": "x", "total": true}',
        b'{"source": "SOURCE", "validator": "x", "total": -5}',
        b'{"source": "SOURCE", "validator": "x", "total": 1, "more": 1}',
        None,
    ],
)
async def test_a_note_that_is_nonsense_counts_for_nothing(note, server, downloads, tmp_path):
    """A partial file without a note that makes sense is written anew."""
    target = tmp_path / "m.glb"
    await _break_off(server, downloads, target)
    if note is None:
        _note(target).unlink()
    else:
        _note(target).write_bytes(note.replace(b"SOURCE", f"{server.base}/m.glb".encode()))
    fetched = await downloads.fetch(server.url, target, kind="glb")
    assert sha256(server.body) == fetched.sha256
    assert ["range" in request.headers for request in server.requests] == [False]
    assert [target] == list(tmp_path.iterdir())


async def test_a_partial_file_that_is_no_model_is_not_gone_on_with(server, downloads, tmp_path):
    """What an earlier run left of another kind of file is found out before anything is asked for, and removed."""
    target = tmp_path / "m.glb"
    await _break_off(server, downloads, target)
    _part(target).write_bytes(b"<html>" * 100)
    with pytest.raises(DownloadError, match="not a GLB model"):
        await downloads.fetch(server.url, target, kind="glb")
    assert [] == list(tmp_path.iterdir())


def test_a_long_name_has_a_short_partial_file(tmp_path):
    """A name of the greatest length leaves room for what the partial file's name adds."""
    target = tmp_path / ("n" * 255)
    part = PartFile(target, overwrite=False)
    part.open("source")
    part.write(b"abc")
    part.publish()
    part.close()
    assert b"abc" == target.read_bytes()
    assert [target] == list(tmp_path.iterdir())


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_name_that_is_too_long_is_refused(overwrite, tmp_path):
    """A name that the file system does not take is told before anything is fetched."""
    with pytest.raises(DownloadError, match="its name is too long"):
        PartFile(tmp_path / ("n" * 256), overwrite=overwrite).open("source")


def test_the_mode_follows_the_umask(tmp_path):
    """A downloaded file is as readable as any other that the process makes."""
    old = os.umask(0o027)
    try:
        part = PartFile(tmp_path / "f", overwrite=False)
        part.open("source")
        part.publish()
        part.close()
    finally:
        os.umask(old)
    assert 0o640 == (tmp_path / "f").stat().st_mode & 0o777


async def test_an_existing_file_is_not_touched(server, downloads, tmp_path):
    """Without `overwrite` an existing file is an error before any request."""
    target = tmp_path / "m.glb"
    target.write_bytes(b"mine")
    with pytest.raises(DownloadError, match="exists already, and overwrite is not set") as caught:
        await downloads.fetch(server.url, target)
    assert str(target) == caught.value.path
    assert isinstance(caught.value.__cause__, FileExistsError)
    assert b"mine" == target.read_bytes()
    assert [] == server.requests


async def test_a_dangling_link_is_not_followed(server, downloads, tmp_path):
    """A symbolic link to nowhere is something that exists."""
    (tmp_path / "m.glb").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DownloadError, match="exists already"):
        await downloads.fetch(server.url, tmp_path / "m.glb")


async def _meanwhile(server, downloads, target, act, **options):
    """Download to `target`, and call `act` when half of the file is here."""
    server.answers.append(lambda _, honest: Answer(honest.status, honest.headers, honest.body, stall=150_000))
    task = asyncio.create_task(downloads.fetch(server.url, target, **options))
    await server.stalled.wait()
    act()
    server.go_on.set()
    return await task


async def test_overwrite_replaces(server, downloads, tmp_path):
    """With `overwrite` the file is replaced, at the end and in one step."""
    target = tmp_path / "m.glb"
    target.write_bytes(b"old")
    seen = []
    await _meanwhile(server, downloads, target, lambda: seen.append(target.read_bytes()), overwrite=True)
    assert [b"old"] == seen
    assert server.body == target.read_bytes()


async def test_a_file_that_appears_meanwhile_is_not_replaced(server, downloads, tmp_path):
    """Without `overwrite` a file that came into being during the download stays."""
    target = tmp_path / "m.glb"
    with pytest.raises(DownloadError, match="exists already"):
        await _meanwhile(server, downloads, target, lambda: target.write_bytes(b"mine"))
    assert b"mine" == target.read_bytes()
    assert [target] == list(tmp_path.iterdir())


@pytest.fixture
def no_hard_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take hard links away, as FAT and some network file systems do."""

    def link(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)


@pytest.mark.usefixtures("no_hard_links")
async def test_without_hard_links_the_file_is_renamed(server, downloads, tmp_path):
    """A file system without hard links gets a rename."""
    await downloads.fetch(server.url, tmp_path / "m.glb")
    assert server.body == (tmp_path / "m.glb").read_bytes()
    assert [tmp_path / "m.glb"] == list(tmp_path.iterdir())


@pytest.mark.usefixtures("no_hard_links")
async def test_without_hard_links_a_file_that_appears_is_not_replaced_either(server, downloads, tmp_path):
    """Also the rename replaces nothing that is there."""
    target = tmp_path / "m.glb"
    with pytest.raises(DownloadError, match="exists already"):
        await _meanwhile(server, downloads, target, lambda: target.write_bytes(b"mine"))
    assert b"mine" == target.read_bytes()
    assert [target] == list(tmp_path.iterdir())


@pytest.mark.parametrize("overwrite", [False, True])
async def test_a_directory_is_refused(overwrite, server, downloads, tmp_path):
    """A directory is no file to write, neither is the root or the current one."""
    for target in (tmp_path, Path("/"), Path(), ".."):
        with pytest.raises(DownloadError, match="it is a directory"):
            await downloads.fetch(server.url, target, overwrite=overwrite)
    assert [] == server.requests


@pytest.mark.parametrize(
    ("name", "reason"), [("missing/m.glb", "its folder does not exist"), ("file/m.glb", "its folder is not a folder")]
)
async def test_a_folder_must_be_there(name, reason, server, downloads, tmp_path):
    """A folder that is missing, or none, is told before any request."""
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match=reason) as caught:
        await downloads.fetch(server.url, tmp_path / name)
    assert str(tmp_path / name) == caught.value.path
    assert [] == server.requests


def _failing(call, code, *, after=0):
    """Return `call`, made to fail with `code` once it was called `after` times on a partial file."""
    calls = []

    def wrapped(first, *args, **kwargs):
        calls.append(first)
        if len(calls) > after:
            raise OSError(code, os.strerror(code))
        return call(first, *args, **kwargs)

    return wrapped


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.EACCES, "permission denied"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
async def test_a_folder_that_can_not_be_written_to(code, reason, server, downloads, tmp_path, monkeypatch):
    """A read-only folder is told before any request, with the path."""
    monkeypatch.setattr(partfile.os, "open", _failing(os.open, code))
    with pytest.raises(DownloadError, match=f"m.glb could not be written: {reason}") as caught:
        await downloads.fetch(server.url, tmp_path / "m.glb")
    assert str(tmp_path / "m.glb") == caught.value.path
    assert [] == server.requests


@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize(("code", "reason"), [(errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "quota is used up")])
async def test_a_full_disk(after, code, reason, server, downloads, tmp_path, monkeypatch):
    """A disk that is full, at whichever write, is an error with the path, and leaves nothing to make it fuller."""
    monkeypatch.setattr(partfile.os, "write", _failing(os.write, code, after=after))
    server.body = model(2_000_000)
    with pytest.raises(DownloadError, match=reason) as caught:
        await downloads.fetch(server.url, tmp_path / "m.glb", kind="glb")
    assert str(tmp_path / "m.glb") == caught.value.path
    assert [] == list(tmp_path.iterdir())


async def test_a_write_may_take_less_than_it_was_given(server, downloads, tmp_path, monkeypatch):
    """What a write leaves out is written by the next."""
    real = os.write
    monkeypatch.setattr(partfile.os, "write", lambda fd, data: real(fd, memoryview(data)[:1000]))
    fetched = await downloads.fetch(server.url, tmp_path / "m.glb")
    assert server.body == (tmp_path / "m.glb").read_bytes()
    assert sha256(server.body) == fetched.sha256


async def test_a_new_file_is_not_truncated(server, downloads, tmp_path, monkeypatch):
    """A file that was truncated is written to the disk when it is closed, by ext4; a new one need not be."""
    monkeypatch.setattr(partfile.os, "ftruncate", _failing(os.ftruncate, errno.EIO))
    await downloads.fetch(server.url, tmp_path / "m.glb")
    assert server.body == (tmp_path / "m.glb").read_bytes()


@pytest.mark.parametrize("call", ["dup", "link"])
async def test_a_failure_at_the_end(call, server, downloads, tmp_path, monkeypatch):
    """An error that a file system reports as late as at close leaves no file of that name."""
    monkeypatch.setattr(partfile.os, call, _failing(getattr(os, call), errno.ENOSPC))
    monkeypatch.setattr(Path, "rename", _failing(Path.rename, errno.ENOSPC))
    with pytest.raises(DownloadError, match="the disk is full"):
        await downloads.fetch(server.url, tmp_path / "m.glb")
    assert [] == list(tmp_path.iterdir())


@contextmanager
def _small_disk(folder: Path):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs tmpfs")
async def test_a_disk_that_is_really_full(server, downloads, tmp_path):
    """On a file system of 1 MB a file of 2 MB is an error, and takes no room afterwards."""
    server.body = model(2_000_000)
    with _small_disk(tmp_path):
        with pytest.raises(DownloadError, match="the disk is full"):
            await downloads.fetch(server.url, tmp_path / "m.glb", kind="glb")
        assert [] == list(tmp_path.iterdir())
        server.body = model(900_000)
        assert await downloads.fetch(server.url, tmp_path / "m.glb", kind="glb")


async def test_a_note_that_can_not_be_left_leaves_nothing(server, downloads, tmp_path, monkeypatch):
    """Without its note a partial file is of no use, so it is not left."""
    monkeypatch.setattr(partfile.json, "dump", _failing(json.dump, errno.ENOSPC))
    await _break_off(server, downloads, tmp_path / "m.glb")
    assert [] == list(tmp_path.iterdir())


async def test_two_downloads_of_one_target_do_not_mix(server, downloads, tmp_path):
    """Of two at once the second has a file of its own; both are whole, and one of them is what is there at the end."""
    fetched = await asyncio.gather(
        *(downloads.fetch(server.url, tmp_path / "m.glb", overwrite=True, kind="glb") for _ in range(8))
    )
    assert {sha256(server.body)} == {one.sha256 for one in fetched}
    assert server.body == (tmp_path / "m.glb").read_bytes()
    assert [tmp_path / "m.glb"] == list(tmp_path.iterdir())


async def test_of_two_downloads_that_must_not_overwrite_one_wins(server, downloads, tmp_path):
    """Without `overwrite` exactly one of several gets the name, and the others say that it exists."""
    ended = await asyncio.gather(
        *(downloads.fetch(server.url, tmp_path / "m.glb", kind="glb") for _ in range(8)), return_exceptions=True
    )
    assert 7 == sum(isinstance(one, DownloadError) for one in ended)
    assert server.body == (tmp_path / "m.glb").read_bytes()
    assert [tmp_path / "m.glb"] == list(tmp_path.iterdir())


def test_a_second_download_leaves_the_first_ones_note_alone(tmp_path):
    """A download that does not have the shared file neither reads, writes nor removes what belongs to it."""
    first, second = (PartFile(tmp_path / "f", overwrite=True) for _ in range(2))
    first.open("source")
    second.open("source")
    for part in (first, second):
        part.note = Note("source", ETAG, 10)
        part.write(b"12345")
        part.save_note()
    assert 3 == len(list(tmp_path.iterdir()))
    second.close()
    assert ETAG == json.loads(_note(tmp_path / "f").read_text())["validator"]
    first.close()
    third = PartFile(tmp_path / "f", overwrite=True)
    third.open("source")
    assert (5, b"12345") == (third.size, third.head)
    third.rewind()
    third.close()
    assert [] == list(tmp_path.iterdir())


def test_a_lock_on_a_file_that_was_just_renamed_is_worth_nothing(tmp_path, monkeypatch):
    """Who waited for a partial file that meanwhile got its name does not write into the finished file."""
    first, second = (PartFile(tmp_path / "f", overwrite=True) for _ in range(2))
    first.open("source")
    first.write(b"whole")
    real = partfile._lock

    def lock(fd: int) -> bool:
        first.publish()
        first.close()
        return real(fd)

    monkeypatch.setattr(partfile, "_lock", lock)
    second.open("source")
    second.write(b"other")
    assert b"whole" == (tmp_path / "f").read_bytes()
    second.close()
    assert [tmp_path / "f"] == list(tmp_path.iterdir())


@pytest.mark.parametrize("trap", ["symlink", "hard link", "directory", "stranger's"])
async def test_what_lies_in_the_way_is_not_written_to(trap, server, downloads, tmp_path, monkeypatch):
    """Something else under the partial file's name is neither followed, written to nor gone on with."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    part = _part(tmp_path / "m.glb")
    if trap == "symlink":
        part.symlink_to(victim)
    elif trap == "hard link":
        part.hardlink_to(victim)
    elif trap == "directory":
        part.mkdir()
    else:
        part.write_bytes(b"glTF")
        monkeypatch.setattr(partfile.os, "geteuid", lambda: 54321)
    fetched = await downloads.fetch(server.url, tmp_path / "m.glb", kind="glb")
    assert sha256(server.body) == fetched.sha256
    assert b"precious" == victim.read_bytes()
    assert part.exists()


async def test_without_locks_nothing_is_shared(server, downloads, tmp_path, monkeypatch):
    """On a system without `fcntl` each download has a file of its own, which is removed when it fails."""
    monkeypatch.setattr(partfile, "_LOCKS", False)
    target = tmp_path / "m.glb"
    await _break_off(server, downloads, target)
    assert [] == list(tmp_path.iterdir())
    fetched = await downloads.fetch(server.url, target, kind="glb")
    assert sha256(server.body) == fetched.sha256
    assert [target] == list(tmp_path.iterdir())


KILLED = """
import asyncio, sys
from tests.downloads.kit import downloader

async def main():
    print("ready", flush=True)
    await downloader().fetch(sys.argv[1], sys.argv[2], kind="glb")

asyncio.run(main())
"""


async def test_a_run_that_was_killed_is_gone_on_with(server, downloads, tmp_path):
    """After kill -9 there is no file of that name, and the next run asks only for what is missing."""
    server.body = model(2_000_000)
    target = tmp_path / "m.glb"
    server.answers.append(lambda _, honest: Answer(headers=honest.headers, body=honest.body, stall=1_500_000))
    run = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, server.url, str(target))
    while not (_note(target).exists() and _part(target).stat().st_size >= 1_000_000):
        await asyncio.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    assert -signal.SIGKILL == await run.wait()
    assert not target.exists()
    fetched = await downloads.fetch(server.url, target, kind="glb")
    assert sha256(server.body) == fetched.sha256
    assert server.requests[-1].start >= 1_000_000
    assert [target] == list(tmp_path.iterdir())


@pytest.mark.parametrize("gained", range(0, 300_000, 30_000))
async def test_cancelled_at_every_chunk(gained, server, tmp_path):
    """A cancellation leaves what can be resumed or nothing, no task, no open file and no thread at work."""
    target = tmp_path / "m.glb"
    server.answers.append(lambda _, honest: Answer(headers=honest.headers, body=honest.body, stall=gained))
    async with aclosing(downloader()) as downloads:
        task = asyncio.create_task(downloads.fetch(server.url, target, kind="glb"))
        await server.stalled.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert {asyncio.current_task()} == asyncio.all_tasks() - server.tasks
        assert not target.exists()
        assert [] == [one for one in _open_files() if str(tmp_path) in one]
        fetched = await downloads.fetch(server.url, target, kind="glb")
    assert sha256(server.body) == fetched.sha256
    assert [target] == list(tmp_path.iterdir())


def _open_files() -> list[str]:
    found = []
    for link in Path("/proc/self/fd").iterdir() if Path("/proc/self/fd").exists() else []:
        try:
            found.append(str(link.readlink()))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("turns", range(40))
async def test_cancelled_at_any_turn_of_the_loop(turns, server, downloads, tmp_path):
    """However early or late it is cancelled, the file is there whole or not at all."""
    target = tmp_path / "m.glb"
    task = asyncio.create_task(downloads.fetch(server.url, target, kind="glb"))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert [] == [one for one in _open_files() if str(tmp_path) in one]
    assert not target.exists() or server.body == target.read_bytes()
    await downloads.fetch(server.url, target, kind="glb", overwrite=True)
    assert server.body == target.read_bytes()
    assert [target] == list(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["open", "write", "rewind", "publish", "close"])
async def test_cancelled_while_a_thread_works(method, server, downloads, tmp_path, monkeypatch):
    """A cancellation waits for the thread that has the file, however often it comes."""
    started, go_on = threading.Event(), threading.Event()
    real = getattr(PartFile, method)

    def slow(self, *args):
        started.set()
        assert go_on.wait(10)
        return real(self, *args)

    monkeypatch.setattr(PartFile, method, slow)
    task = asyncio.create_task(downloads.fetch(server.url, tmp_path / "m.glb"))
    while not started.is_set():
        await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.sleep(0.01)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [] == [one for one in _open_files() if str(tmp_path) in one]


async def test_a_cancelled_download_without_a_validator_leaves_nothing(server, downloads, tmp_path):
    """What can't be resumed is not kept."""
    server.etag = None
    server.answers.append(lambda _, honest: Answer(headers=honest.headers, body=honest.body, stall=100_000))
    task = asyncio.create_task(downloads.fetch(server.url, tmp_path / "m.glb"))
    await server.stalled.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [] == list(tmp_path.iterdir())


async def test_a_failed_write_outlives_no_cancellation(server, downloads, tmp_path, monkeypatch):
    """A write that fails while its download is cancelled is not warned about, and leaves nothing."""
    started, go_on = threading.Event(), threading.Event()

    def fail(*_: object) -> int:
        started.set()
        assert go_on.wait(10)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(partfile.os, "write", fail)
    task = asyncio.create_task(downloads.fetch(server.url, tmp_path / "m.glb"))
    while not started.is_set():
        await asyncio.sleep(0.001)
    task.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [] == list(tmp_path.iterdir())

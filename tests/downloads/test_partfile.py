"""The file before it has its name: what a later download finds, what a full disk leaves, and what lies in the way."""

import asyncio
import errno
import fcntl
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from contextlib import aclosing, contextmanager
from pathlib import Path

import pytest

from avaturn_async.downloads import partfile
from avaturn_async.downloads.partfile import PartFile
from avaturn_async.errors import DownloadError, IncompleteDownloadError

from .kit import ETAG, Answer, downloader, model, sha256

BLOCK = 64 * 1024


def _part(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _info(target: Path) -> Path:
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
    """What one call left is resumed by the next, with If-Range, and nothing is left over."""
    target = tmp_path / "m.glb"
    error = await _break_off(server, downloads, target)
    assert str(target) == error.path
    assert [_part(target), _info(target)] == sorted(tmp_path.iterdir())
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


async def test_what_is_left_is_named_by_its_own_etag(server, downloads, tmp_path):
    """Though the first response was of another version, and nothing of that was written."""
    target, old = tmp_path / "m.glb", model(300_000, seed=9)
    server.answers.append(Answer(headers={"ETag": '"old"'}, body=old, chunked=True, cut=5000))
    server.answers.append(lambda _, honest: honest)
    await _break_off(server, downloads, target)
    server.answers.append(
        lambda request, _: Answer(
            206, {"ETag": '"old"', "Content-Range": f"bytes {request.start}-299999/300000"}, old[request.start :]
        )
    )
    fetched = await downloads.fetch(server.url, target, kind="glb")
    assert sha256(server.body) == fetched.sha256
    assert ETAG == server.requests[0].headers["if-range"]


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
    "info",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"[" * 100_000,
        b'"text"',
        b'{"source": 1, "etag": "\\"x\\"", "total": 1}',
        b'{"source": "SOURCE", "etag": 5, "total": 300000}',
        b'{"source": "SOURCE", "etag": "W/\\"x\\"", "total": 300000}',
        b'{"source": "SOURCE", "etag": "\\"a\\r\\nb\\"", "total": 300000}',
        b'{"source": "SOURCE", "etag": "\\"x\\"", "total": "300000"}',
        b'{"source": "SOURCE", "etag": "\\"x\\"", "total": true}',
        b'{"source": "SOURCE", "etag": "\\"x\\"", "total": -5}',
        b'{"source": "SOURCE", "etag": "\\"x\\"", "total": 1e999}',
        b'{"source": "SOURCE", "etag": "\\"x\\"", "total": 300000, "more": 1}',
        None,
    ],
    ids=lambda info: "missing" if info is None else info[:60].decode(errors="replace"),
)
async def test_resume_info_that_is_nonsense_counts_for_nothing(info, server, downloads, tmp_path):
    """A partial file without a ResumeInfo that makes sense is written anew."""
    target = tmp_path / "m.glb"
    await _break_off(server, downloads, target)
    if info is None:
        _info(target).unlink()
    else:
        _info(target).write_bytes(info.replace(b"SOURCE", f"{server.base}/m.glb".encode()))
    fetched = await downloads.fetch(server.url, target, kind="glb")
    assert sha256(server.body) == fetched.sha256
    assert ["range" in request.headers for request in server.requests] == [False]
    assert [target] == list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["glb", "file"])
@pytest.mark.parametrize("wrong", ["no-model", "another-length", "total-too-large", "total-too-small"])
async def test_a_partial_file_that_can_not_be_right_is_written_anew(kind, wrong, server, downloads, tmp_path):
    """What an earlier download has left never makes a later one fail."""
    target = tmp_path / "m.glb"
    await _break_off(server, downloads, target)
    info = json.loads(_info(target).read_text())
    if wrong == "no-model":
        _part(target).write_bytes(b"<html>" * 100)
        info["etag"] = '"page"'
    elif wrong == "another-length":
        _part(target).write_bytes(model(200_000)[:100_000])
        info["etag"] = '"other"'
    else:
        info["total"] = 10**15 if wrong == "total-too-large" else 250_000
    _info(target).write_text(json.dumps(info))
    fetched = await downloads.fetch(server.url, target, kind=kind)
    assert sha256(server.body) == fetched.sha256
    assert server.body == target.read_bytes()
    assert [target] == list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["n" * 255, "é" * 127, "n" * 200], ids=["ascii", "unicode", "short-enough"])
async def test_a_long_name_leaves_room_for_partial_files(name, server, downloads, tmp_path):
    """A name of the greatest length can be downloaded to, several times at once, and resumed."""
    target = tmp_path / name
    await asyncio.gather(*(downloads.fetch(server.url, target, overwrite=True) for _ in range(4)))
    assert [target] == list(tmp_path.iterdir())
    target.unlink()
    await _break_off(server, downloads, target)
    await downloads.fetch(server.url, target)
    assert 100_000 == server.requests[0].start


@pytest.mark.parametrize("overwrite", [False, True])
async def test_a_name_that_is_too_long_is_refused(overwrite, server, downloads, tmp_path):
    """A name that the file system does not take is an error before any request."""
    with pytest.raises(DownloadError, match="its name is too long"):
        await downloads.fetch(server.url, tmp_path / ("n" * 256), overwrite=overwrite)
    assert [] == server.requests
    assert [] == list(tmp_path.iterdir())


async def test_the_mode_follows_the_umask(server, downloads, tmp_path):
    """A downloaded file is as readable as any other that the process creates."""
    old = os.umask(0o027)
    try:
        fetched = await downloads.fetch(server.url, tmp_path / "f")
    finally:
        os.umask(old)
    assert 0o640 == fetched.path.stat().st_mode & 0o777


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
    monkeypatch.setattr(os, "open", _failing(os.open, code))
    with pytest.raises(DownloadError, match=f"m.glb could not be written: {reason}") as caught:
        await downloads.fetch(server.url, tmp_path / "m.glb")
    assert str(tmp_path / "m.glb") == caught.value.path
    assert [] == server.requests


@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize(("code", "reason"), [(errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "quota is used up")])
async def test_a_full_disk(after, code, reason, server, downloads, tmp_path, monkeypatch):
    """A disk that is full, at whichever write, is an error with the path, and leaves nothing to make it fuller."""
    monkeypatch.setattr(os, "write", _failing(os.write, code, after=after))
    server.body = model(2_000_000)
    with pytest.raises(DownloadError, match=reason) as caught:
        await downloads.fetch(server.url, tmp_path / "m.glb", kind="glb")
    assert str(tmp_path / "m.glb") == caught.value.path
    assert [] == list(tmp_path.iterdir())


async def test_a_write_may_take_less_than_it_was_given(server, downloads, tmp_path, monkeypatch):
    """What a write leaves out is written by the next."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, memoryview(data)[:1000]))
    fetched = await downloads.fetch(server.url, tmp_path / "m.glb")
    assert server.body == (tmp_path / "m.glb").read_bytes()
    assert sha256(server.body) == fetched.sha256


async def test_a_new_file_is_not_truncated(server, downloads, tmp_path, monkeypatch):
    """A file that was truncated is written to the disk when it is closed, by ext4; a new one need not be."""
    monkeypatch.setattr(os, "ftruncate", _failing(os.ftruncate, errno.EIO))
    await downloads.fetch(server.url, tmp_path / "m.glb")
    assert server.body == (tmp_path / "m.glb").read_bytes()


@pytest.mark.parametrize("call", ["dup", "link"])
async def test_a_failure_at_the_end(call, server, downloads, tmp_path, monkeypatch):
    """An error that a file system reports as late as at close leaves no file of that name."""
    monkeypatch.setattr(os, call, _failing(getattr(os, call), errno.ENOSPC))
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


async def test_resume_info_that_can_not_be_saved_is_done_without(server, downloads, tmp_path, monkeypatch):
    """A download that can't save it goes on, and leaves nothing when it is cut: its partial file can't be resumed."""
    monkeypatch.setattr(json, "dump", _failing(json.dump, errno.ENOSPC))
    await _break_off(server, downloads, tmp_path / "m.glb")
    assert [] == list(tmp_path.iterdir())
    server.body = model(2_000_000)
    assert 2_000_000 == (await downloads.fetch(server.url, tmp_path / "m.glb", kind="glb")).size


async def test_a_slow_disk_holds_back_the_network(server, downloads, tmp_path, monkeypatch):
    """While a write takes its time the download goes on, but for no more than the next batch."""
    started, go_on, write = threading.Event(), threading.Event(), os.write

    def slow(fd, data):
        if len(data) > 1024:  # not the event loop's own
            started.set()
            assert go_on.wait(10)
        return write(fd, data)

    monkeypatch.setattr(os, "write", slow)
    server.body = model(20_000_000)
    seen = [0]
    task = asyncio.create_task(
        downloads.fetch(server.url, tmp_path / "m.glb", kind="glb", progress=lambda done, _: seen.append(done))
    )
    async with asyncio.timeout(10):
        while not started.is_set() or seen[-1] < 1_500_000:
            await asyncio.sleep(0)
    for _ in range(1000):
        await asyncio.sleep(0)
    assert seen[-1] < 2_000_000
    go_on.set()
    assert sha256(server.body) == (await task).sha256


async def test_a_write_that_fails_in_the_middle_leaves_no_gap(server, downloads, tmp_path, monkeypatch):
    """Whatever stops a write, a later download resumes exactly after what was written."""
    calls, write = [], os.write

    def fail(fd, data):
        calls.extend([1] if len(data) > 1024 else [])
        if len(calls) == 3:
            write(fd, memoryview(data)[:1000])
            raise MemoryError
        return write(fd, data)

    server.body = model(3_000_000)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        with pytest.raises(MemoryError):
            await downloads.fetch(server.url, tmp_path / "m.glb", kind="glb")
    fetched = await downloads.fetch(server.url, tmp_path / "m.glb", kind="glb")
    assert sha256(server.body) == fetched.sha256
    assert server.body == fetched.path.read_bytes()
    assert [fetched.path] == list(tmp_path.iterdir())


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


async def test_a_second_download_leaves_the_first_ones_files_alone(server, downloads, tmp_path):
    """Each of several partial files can be resumed; the download that succeeds removes those that nobody holds."""
    target = tmp_path / "m.glb"
    server.answers.extend([lambda _, honest: Answer(headers=honest.headers, body=honest.body, stall=150_000)] * 3)
    tasks = []
    for _ in range(3):
        arrived = asyncio.Event()
        progress = lambda done, _, arrived=arrived: arrived.set() if done == 150_000 else None  # noqa: E731
        tasks.append(asyncio.create_task(downloads.fetch(server.url, target, kind="glb", progress=progress)))
        await arrived.wait()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert 6 == len(list(tmp_path.iterdir()))
    await downloads.fetch(server.url, target, kind="glb")
    assert [target] == list(tmp_path.iterdir())
    assert 150_000 == server.requests[-1].start


def test_a_lock_on_a_file_that_was_just_renamed_is_worth_nothing(tmp_path, monkeypatch):
    """A download that locks a partial file after that got its final name does not write into the finished file."""
    first, second = (PartFile(tmp_path / "f", overwrite=True) for _ in range(2))
    first.open("source")
    first.write([b"whole"])
    real = fcntl.flock

    def lock(fd: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", real)
        first.publish()
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", lock)
    second.open("source")
    second.write([b"other"])
    assert b"whole" == (tmp_path / "f").read_bytes()
    second.close()
    assert [tmp_path / "f"] == list(tmp_path.iterdir())


TRAPS = ["fifo", "directory", "symlink", "dangling", "zero", "hard-link", "foreign", "socket", "device"]


def _set_trap(trap: str, path: Path, victim: Path) -> None:
    """Put something under a name of ours that must be neither followed, written to nor waited for."""
    victim.write_bytes(b"precious")
    if trap == "fifo":
        os.mkfifo(path)
    elif trap == "directory":
        (path / "inside").mkdir(parents=True)
    elif trap == "symlink":
        path.symlink_to(victim)
    elif trap == "dangling":
        path.symlink_to(victim.with_name("created"))
    elif trap == "zero":
        path.symlink_to("/dev/zero")
    elif trap == "hard-link":
        path.hardlink_to(victim)
    elif trap == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
    elif os.geteuid():
        pytest.skip("needs root")
    elif trap == "foreign":
        path.write_bytes(b"glTF")
        os.chown(path, 54321, 54321)
    else:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))


@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize("place", ["part", "info"])
async def test_what_lies_in_the_way_is_not_touched(place, trap, server, downloads, tmp_path, tmp_path_factory):
    """The download goes on beside it, within bounds, also after a break, and the trap is as it was."""
    folder = tmp_path_factory.mktemp("models")
    target, victim = folder / "m.glb", tmp_path / "victim"
    path = _part(target) if place == "part" else _info(target)
    _set_trap(trap, path, victim)
    server.body = model(2_000_000)
    await _break_off(server, downloads, target, after=1_500_000)
    fetched = await downloads.fetch(server.url, target, kind="glb")
    assert sha256(server.body) == fetched.sha256
    assert server.body == target.read_bytes()
    assert b"precious" == victim.read_bytes()
    assert [victim] == list(tmp_path.iterdir())
    if place == "part":
        assert {target, path} == set(folder.iterdir())


@pytest.mark.parametrize("trap", sorted(set(TRAPS) - {"directory"}))
async def test_what_is_under_the_final_name_is_replaced_and_not_opened(trap, server, downloads, tmp_path):
    """Without `overwrite` it is an error."""
    target, victim = tmp_path / "m.glb", tmp_path / "victim"
    _set_trap(trap, target, victim)
    with pytest.raises(DownloadError, match="exists already"):
        await downloads.fetch(server.url, target, kind="glb")
    await downloads.fetch(server.url, target, kind="glb", overwrite=True)
    assert not target.is_symlink()
    assert server.body == target.read_bytes()
    assert b"precious" == victim.read_bytes()
    assert {target, victim} == set(tmp_path.iterdir())


@pytest.mark.parametrize("trap", TRAPS)
async def test_traps_under_all_names_are_passed_by(trap, server, downloads, tmp_path):
    """Then the partial file has a random name."""
    target, victim = tmp_path / "m.glb", tmp_path / "victim"
    names = [".m.glb.part", *(f".m.glb.{number}.part" for number in range(1, 20))]
    for name in names:
        _set_trap(trap, tmp_path / name, victim)
    fetched = await downloads.fetch(server.url, target, kind="glb")
    assert sha256(server.body) == fetched.sha256
    assert b"precious" == victim.read_bytes()
    assert {"m.glb", "victim", *names} == {path.name for path in tmp_path.iterdir()}


async def test_without_any_shared_name_a_cut_download_leaves_nothing(server, downloads, tmp_path):
    """A partial file of a random name is of no use to a later download."""
    names = [".m.glb.part", *(f".m.glb.{number}.part" for number in range(1, 20))]
    for name in names:
        (tmp_path / name).mkdir()
    await _break_off(server, downloads, tmp_path / "m.glb")
    assert set(names) == {path.name for path in tmp_path.iterdir()}


async def test_without_locks_nothing_is_shared(server, downloads, tmp_path, monkeypatch):
    """On a system without `fcntl` each download has a file of a random name, which is removed when it fails."""
    monkeypatch.setattr(partfile, "fcntl", None)
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
    one = downloader()
    await asyncio.gather(*(one.fetch(*sys.argv[1:], kind="glb") for _ in range(2)))

asyncio.run(main())
"""


async def test_a_download_that_was_killed_is_resumed(server, downloads, tmp_path):
    """After kill -9 of two downloads of one target the next one requests only what is missing, and tidies up."""
    server.body = model(2_000_000)
    target = tmp_path / "m.glb"
    server.answers.extend([lambda _, honest: Answer(headers=honest.headers, body=honest.body, stall=1_500_000)] * 2)
    run = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, server.url, str(target))
    parts = [_part(target), target.with_name(".m.glb.1.part")]
    while not all(_size(part) >= 1_000_000 and part.with_name(f"{part.name}.json").exists() for part in parts):
        await asyncio.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    assert -signal.SIGKILL == await run.wait()
    assert not target.exists()
    fetched = await downloads.fetch(server.url, target, kind="glb")
    assert sha256(server.body) == fetched.sha256
    assert server.requests[-1].start >= 1_000_000
    assert [target] == list(tmp_path.iterdir())


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


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

    server.etag = None if method == "rewind" else server.etag
    server.answers.append(lambda _, honest: Answer(headers=honest.headers, body=honest.body, cut=100_000))
    if method == "close":  # not called after a success
        server.answers.append(Answer(404))

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


async def test_a_cancelled_download_without_an_etag_leaves_nothing(server, downloads, tmp_path):
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

    monkeypatch.setattr(os, "write", fail)
    task = asyncio.create_task(downloads.fetch(server.url, tmp_path / "m.glb"))
    while not started.is_set():
        await asyncio.sleep(0.001)
    task.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [] == list(tmp_path.iterdir())

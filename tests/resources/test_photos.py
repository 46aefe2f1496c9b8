"""The three photos of a face: their forms, and what is refused before anything is sent."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import io
import os
import re
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.datastructures import UploadFile

from avaturn_async import Photos
from avaturn_async.resources import photos as module

THUMBNAIL = b"\xff\xe1\x00\x08\xff\xd8\xff\xd9\xff\xd9"  # a segment that has end markers in it
JPEG = b"\xff\xd8" + THUMBNAIL + b"\xff\xff\xfe\x00\x04hi" + b"\xff\xda a face \xff\xd9"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Write a photo."""
    path = tmp_path / "me.jpg"
    path.write_bytes(JPEG)
    return path


async def contents(photos: Photos) -> list[bytes]:
    """Return the content of each field of the form, after the second reading of it."""
    async with photos.open() as form:
        first, second = [await asyncio.to_thread(lambda: b"".join(form.pieces())) for _ in range(2)]
        assert first == second
        assert len(first) == form.size
    boundary = b"--" + form.content_type.partition("boundary=")[2].encode()
    return [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in first.split(boundary)[1:-1]]


async def problem(photo: Any, kind: type[Exception] = ValueError) -> str:
    """Return what is wrong with the photo of a side."""
    with pytest.raises(kind) as caught:
        async with Photos(JPEG, photo, JPEG, body_type="male").open():
            pass
    assert caught.value.__cause__ is None
    return str(caught.value)


@pytest.mark.parametrize(
    "form",
    ["path", "str", "home", "bytes", "bytearray", "memoryview", "file", "BytesIO", "UploadFile", "anyio", "unseekable"],
)
async def test_forms_of_a_photo(file: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is sent whole, as often as it takes."""
    monkeypatch.setenv("HOME", str(file.parent))
    with file.open("rb") as opened:
        pipe_reader, pipe_writer = os.pipe()
        os.write(pipe_writer, JPEG)
        os.close(pipe_writer)
        with os.fdopen(pipe_reader, "rb") as pipe:
            photo: Any = {
                "path": file,
                "str": str(file),
                "home": "~/me.jpg",
                "bytes": JPEG,
                "bytearray": bytearray(JPEG),
                "memoryview": memoryview(JPEG),
                "file": opened,
                "BytesIO": io.BytesIO(JPEG),
                "UploadFile": UploadFile(io.BytesIO(JPEG)),
                "anyio": anyio.wrap_file(opened),
                "unseekable": pipe,
            }[form]
            photos = Photos(photo, JPEG, JPEG, body_type="female", telephoto=True)
            assert [JPEG, JPEG, JPEG, b"female", b"true"] == await contents(photos)


async def test_a_file_object_is_read_from_where_it_stands(file: Path) -> None:
    """What was read before is not sent."""
    opened = io.BytesIO(b"head" + JPEG)
    opened.seek(4)
    assert JPEG == (await contents(Photos(JPEG, opened, JPEG, body_type="male")))[1]


@pytest.mark.parametrize("name", ["frontal", "side_1", "side_2"])
async def test_an_error_names_the_photo(tmp_path: Path, name: str) -> None:
    """And the file, and how it begins."""
    path = tmp_path / "me.txt"
    path.write_bytes(b"text")
    given: dict[str, Any] = {"frontal": JPEG, "side_1": JPEG, "side_2": JPEG, name: path}
    with pytest.raises(ValueError, match="is not a JPEG: it begins with 74 65 78 74") as caught:
        async with Photos(**given, body_type="male").open():
            pass
    assert str(caught.value).startswith(f"Photos.{name} ({str(path)!r})")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not a JPEG: it begins with nothing"),
        (b"\xff\xd8", "is not a JPEG: it begins with ff d8"),
        (PNG, "is not a JPEG: it is PNG; convert it to JPEG, with Pillow"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "is not a JPEG: it is WebP; convert it"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00", "is not a JPEG: it is HEIC, the format of many phones; convert it"),
        (b"\x00\x00\x00\x18ftypmif1\x00\x00", "is not a JPEG: it is HEIC"),
        (b"\x00\x00\x00\x18ftypavif\x00\x00", "is not a JPEG: it is AVIF"),
        (b"\x00\x00\x00\x18ftypmif1\x00\x00\x00\x00mif1avif", "is not a JPEG: it is AVIF"),
        (b"\x00\x00\x00\x18ftypqt  \x00\x00", "is not a JPEG: it begins with 00 00 00 18"),
        (JPEG[:-1], "is a JPEG that ends early"),
        (JPEG[: len(THUMBNAIL) + 2], "is a JPEG that ends early"),
        (JPEG[:6], "is a JPEG that ends early"),
        (b"\xff\xd8\xff\xe1\x00\x00" + JPEG, "is a JPEG that ends early"),
    ],
)
async def test_what_is_no_complete_jpeg(content: bytes, said: str) -> None:
    """The content is not shown, its format is."""
    assert (await problem(content)).startswith(f"Photos.side_1 (<{len(content)} bytes>) {said}")


async def test_what_follows_a_jpeg_is_ignored() -> None:
    """Some cameras append a video."""
    assert JPEG + bytes(100) == (await contents(Photos(JPEG, JPEG + bytes(100), JPEG, body_type="male")))[1]


@pytest.mark.parametrize("tail", [1, 2, 3, 4, 5, 2**15])
@pytest.mark.parametrize("more", [b"", b"a", b"ab", b"\xff", bytes(2**16)], ids=len)
async def test_an_end_marker_is_found_wherever_it_is(tail: int, more: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also across two reads; without it nothing is."""
    monkeypatch.setattr(module, "_TAIL", tail)
    async with Photos(JPEG + more, JPEG, JPEG, body_type="male").open():
        pass
    assert "ends early" in await problem(JPEG[:-2] + more)


@pytest.mark.parametrize(("name", "error"), [("none.jpg", FileNotFoundError), (".", IsADirectoryError)])
async def test_files_that_can_not_be_read(tmp_path: Path, name: str, error: type[OSError]) -> None:
    """It is Python's own error, which names the photo and the file."""
    assert "Photos.side_1 can't be read: " in await problem(tmp_path / name, error)


@pytest.mark.parametrize(
    ("photo", "kind", "said"),
    [
        ("~nobody-of-that-name/me.jpg", FileNotFoundError, "No such file or directory: '~nobody-of-that-name/me.jpg'"),
        ("a\0b", ValueError, "embedded null byte"),
        ("\udc80\ud800", ValueError, "surrogates not allowed"),
        (memoryview(JPEG)[::2], TypeError, "contiguous"),
    ],
    ids=["unknown-home", "null", "surrogate", "strided"],
)
async def test_inputs_that_python_refuses(photo: Any, kind: type[Exception], said: str) -> None:
    """Python's reason, with the name of the photo."""
    assert re.search(rf"Photos\.side_1 can't be read: .*{said}", await problem(photo, kind))


class Broken:
    """A file object that raises when it is read."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def read(self, size: int) -> bytes:
        raise self.error


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (ValueError("I/O operation on closed file"), ValueError, "I/O operation on closed file"),
        (OSError(errno.EIO, "Input/output error"), OSError, "Input/output error"),
    ],
    ids=["closed", "EIO"],
)
async def test_a_file_object_that_can_not_be_read(error: Exception, kind: type[Exception], said: str) -> None:
    """Its error is raised with the name of the photo."""
    assert re.search(rf"Photos\.side_1 can't be read: {said}", await problem(Broken(error), kind))


async def test_a_file_object_that_blocks_does_not_hold_up_a_cancellation() -> None:
    """Such as one over a pipe into which nobody writes."""
    started, go_on = threading.Event(), threading.Event()

    class Blocking:
        def read(self, size: int) -> bytes:
            started.set()
            go_on.wait(20)
            return b""

    async def use() -> None:
        async with Photos(JPEG, Blocking(), JPEG, body_type="male").open():
            pass

    task = asyncio.create_task(use())
    await asyncio.to_thread(started.wait, 20)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert not go_on.is_set()
    go_on.set()


@pytest.mark.parametrize("form", ["path", "file"])
async def test_a_cancellation_leaves_no_file_open(file: Path, form: str) -> None:
    """Whenever it comes, while a thread opens a file, too: an unclosed one is a ResourceWarning."""

    async def open_and_close() -> None:
        photo: Any = file if form == "path" else UploadFile(io.BytesIO(JPEG))
        async with Photos(JPEG, photo, photo, body_type="male").open():
            pass

    for turns in range(40):
        task = asyncio.create_task(open_and_close())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    del task
    gc.collect()


async def test_a_disk_that_hangs_does_not_hold_up_the_end(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is closed once the thread that reads it goes on."""
    hangs, reads, go_on = threading.Event(), threading.Event(), threading.Event()

    class Hanging(io.FileIO):
        def readinto(self, buffer: Any) -> int:
            if hangs.is_set():
                reads.set()
                go_on.wait(20)
            return super().readinto(buffer)

        def read(self, size: int | None = -1) -> bytes:
            buffer = bytearray(size or 0)
            return bytes(buffer[: self.readinto(buffer)])

    opened: list[Any] = []

    def hook(path: str, mode: str, opener: Any) -> io.BufferedReader:
        opened.append(io.BufferedReader(Hanging(path, mode, opener=opener)))
        return opened[-1]

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", hook)
        async with Photos(file, JPEG, JPEG, body_type="male").open() as form:
            hangs.set()
            reading = asyncio.create_task(asyncio.to_thread(lambda: b"".join(form.pieces())))
            await asyncio.to_thread(reads.wait, 20)
    assert not go_on.is_set()
    assert not reading.done()
    go_on.set()
    with contextlib.suppress(OSError):  # the other photos may be closed already
        await reading
    async with asyncio.timeout(20):
        while not opened[0].closed:
            await asyncio.sleep(0)


async def test_an_error_of_a_users_own_file_stays_as_it_is() -> None:
    """A note names the photo."""
    error = LookupError("gone")
    assert "gone" in await problem(Broken(error), LookupError)
    assert ["raised while Photos.side_1 was read"] == error.__notes__


async def test_a_full_disk_is_an_os_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """File objects are copied to a temporary file."""
    with Path("/dev/full").open("wb", buffering=0) as full:
        monkeypatch.setattr(module.tempfile, "TemporaryFile", lambda: full)
        assert "Photos.side_1 can't be read: No space left on device" in await problem(io.BytesIO(JPEG), OSError)


@pytest.mark.parametrize("kind", [ValueError, OSError, TypeError, LookupError])
async def test_an_error_shows_and_keeps_no_photo(kind: type[Exception]) -> None:
    """Its traceback has no frame that holds one."""
    content = JPEG + b"a very private face" * 1000
    references = sys.getrefcount(content)

    async def fail() -> Exception:
        with pytest.raises(kind) as caught:
            async with Photos(content, io.BytesIO(content), Broken(kind()), body_type="male").open():
                pass
        return caught.value.with_traceback(caught.tb.tb_next)

    error = await fail()
    shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "open" in shown
    assert "private" not in shown
    async with asyncio.timeout(20):
        while references != sys.getrefcount(content):  # a worker thread lets go of its last call when it runs again
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("form", ["bytes", "file"])
async def test_a_cancellation_shows_no_photo(form: str) -> None:
    """Whenever it comes, and neither does the TimeoutError that it may become."""
    content = JPEG + b"a very private face" * 1000

    class Endless:
        async def read(self, size: int) -> bytes:
            return await asyncio.get_running_loop().create_future()

    async def open_and_close() -> None:
        photo: Any = content if form == "bytes" else io.BytesIO(content)
        async with Photos(photo, photo, Endless(), body_type="male").open():
            pass

    for turns in range(20):
        task = asyncio.create_task(open_and_close())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        frames = [entry.frame for entry in caught.traceback if "avaturn_async" in str(entry.path)]
        assert not [frame.code.name for frame in frames if "private" in repr(frame.f_locals)]


@pytest.mark.parametrize("name", ["fifo", "/dev/zero"])
async def test_only_regular_files_are_read(tmp_path: Path, name: str) -> None:
    """A FIFO would block, and a device may never end."""
    os.mkfifo(tmp_path / "fifo")
    path = str(tmp_path / name)
    assert f"Photos.side_1 can't be read: {path!r} is not a regular file" == await problem(path)


@pytest.mark.parametrize("form", ["bytes", "path", "file", "UploadFile"])
async def test_the_size_is_limited_in_every_form(file: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says to what."""
    monkeypatch.setattr(module, "MAX_SIZE", len(JPEG) - 1)
    monkeypatch.setattr(module, "_PIECE", 4)
    photo = {"bytes": JPEG, "path": file, "file": io.BytesIO(JPEG * 9), "UploadFile": UploadFile(io.BytesIO(JPEG * 9))}
    assert "is larger than" in await problem(photo[form])


async def test_a_text_file_is_refused(file: Path) -> None:
    """Its bytes can't be had."""
    with file.open(encoding="latin-1") as text:
        assert "Photos.side_1 can't be read: read() returned str; open it in binary mode" in await problem(
            text, TypeError
        )


@pytest.mark.parametrize("value", ["other", None, "Male"])
def test_body_types_are_known(value: Any) -> None:
    """The contract names two."""
    with pytest.raises(ValueError, match=r"Photos\.body_type must be 'male' or 'female', not"):
        Photos(JPEG, JPEG, JPEG, body_type=value)


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_telephoto_is_a_bool(value: Any) -> None:
    """It is checked where it is given, not when the photos are sent."""
    with pytest.raises(TypeError, match=r"Photos\.telephoto must be a bool, not"):
        Photos(JPEG, JPEG, JPEG, body_type="male", telephoto=value)


@pytest.mark.parametrize("value", [None, 1, 2.5, ["me.jpg"]])
def test_a_photo_is_a_path_bytes_or_a_file(value: Any) -> None:
    """Anything else is refused where it is given; a number is no file descriptor."""
    with pytest.raises(TypeError, match=r"Photos\.side_1 must be a path, bytes or a binary file object, not"):
        Photos(JPEG, value, JPEG, body_type="male")


def test_photos_are_not_shown(file: Path) -> None:
    """The repr has paths and sizes, no faces."""
    shown = repr(Photos(JPEG, file, io.BytesIO(JPEG), body_type="male"))
    expected = f"Photos(frontal=<{len(JPEG)} bytes>, side_1={str(file)!r}, side_2=<BytesIO>"
    assert f"{expected}, body_type='male', telephoto=False)" == shown

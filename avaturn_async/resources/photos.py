"""The three photos of a face: where they come from, and what is checked before they are uploaded."""

from __future__ import annotations

import asyncio
import inspect
import os
import stat
import tempfile
from collections.abc import AsyncIterator, Awaitable
from contextlib import ExitStack, asynccontextmanager
from io import BytesIO, RawIOBase
from typing import Any, BinaryIO, Literal, Protocol, TypeAlias

import attrs

from ..http.tasks import completed, is_async, run_in_thread
from ..http.upload import FormField, MultipartForm, read_error, without_frames

__all__ = ["Photo", "Photos", "ReadableFile"]

#: Bytes of one photo, far more than any camera's JPEG has.
MAX_SIZE = 64 * 2**20
_PIECE = 2**20
_TAIL = 2**15
_NONBLOCK: int = getattr(os, "O_NONBLOCK", 0)  # not on Windows
#: Brands of HEIF files (ISO/IEC 23008-12); other files that begin with "ftyp" are videos.
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1")


class ReadableFile(Protocol):
    """A binary file object, or an asynchronous one such as Starlette's ``UploadFile``."""

    def read(self, size: int, /) -> bytes | Awaitable[bytes]:
        """Read up to so many bytes."""


Photo: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | ReadableFile


def _is_photo(_: object, attribute: attrs.Attribute[Photo], value: object) -> None:
    known = isinstance(value, str | os.PathLike | bytes | bytearray | memoryview)
    if not known and not callable(getattr(value, "read", None)):
        raise TypeError(
            f"Photos.{attribute.name} must be a path, bytes or a binary file object, not {type(value).__name__}"
        )


def _photo() -> Any:
    return attrs.field(validator=_is_photo, repr=lambda photo: _shown(photo))


@attrs.frozen
class Photos:
    """Three photos of a face, JPEGs of up to 64 MiB, and how they are to be interpreted.

    Each is a path, bytes, or a binary file object, which may be asynchronous (Starlette's ``UploadFile``). A file
    object is read from its current position, once for each upload.

    Attributes:
        frontal: looking straight into the camera.
        side_1: turned to one side.
        side_2: turned to the other side.
        body_type: ``"male"`` or ``"female"``.
        telephoto: whether they were taken through a telephoto lens.
    """

    frontal: Photo = _photo()
    side_1: Photo = _photo()
    side_2: Photo = _photo()
    body_type: Literal["male", "female"] = attrs.field(kw_only=True)
    telephoto: bool = attrs.field(default=False, kw_only=True)

    @body_type.validator
    def _check_body_type(self, _: object, value: object) -> None:
        if value not in ("male", "female"):
            raise ValueError(f"Photos.body_type must be 'male' or 'female', not {value!r:.80}")

    @telephoto.validator
    def _check_telephoto(self, _: object, value: object) -> None:
        if not isinstance(value, bool):
            raise TypeError(f"Photos.telephoto must be a bool, not {value!r:.80}")

    @asynccontextmanager
    async def open(self) -> AsyncIterator[MultipartForm]:
        """Open and check the photos; yield the contract's form, which can be sent several times.

        Raises:
            OSError: a file can't be read; the message names the photo and the file.
            ValueError: a photo is not a complete JPEG, is larger than 64 MiB, or is not a regular file.
            TypeError: a file object is not in binary mode.
        """
        files = ExitStack()
        fields: list[FormField] = []
        problem: BaseException | None = None
        try:
            try:
                fields += [await _open(name, getattr(self, name), files) for name in ("frontal", "side_1", "side_2")]
            except BaseException as error:  # noqa: BLE001 - a file object may be the user's own, or it was cancelled
                problem = without_frames(error)
            for name, text in ("body-type", self.body_type), ("telephoto", "true" if self.telephoto else "false"):
                fields.append(FormField(name, BytesIO(text.encode()), len(text)))
            del self  # a kept exception must not keep the photos alive
            if problem is not None:
                raise problem
            yield MultipartForm(fields)
        finally:
            closing = asyncio.get_running_loop().run_in_executor(None, files.close)
            # A file that is being read is closed only afterwards, and a disk may hang: its threads are left behind.
            if not any(field.reading for field in fields):
                await completed(closing)


async def _open(name: str, photo: Photo, files: ExitStack) -> FormField:
    """Open a photo, or a copy of a file object, and check it; `files` closes it."""
    label = f"Photos.{name}"
    try:
        source: Any = photo
        if not isinstance(photo, str | os.PathLike | bytes | bytearray | memoryview):
            source = await _copy(photo, files)
        file, size, problem = await run_in_thread(_checked, source, files)
    except Exception as error:  # noqa: BLE001 - as above
        raise read_error(error, label) from None
    if problem:
        raise ValueError(f"{label} ({_shown(photo)}) {problem}")
    field = f"image-{name.replace('_', '-')}"
    return FormField(field, file, size, filename=f"{field}.jpg", content_type="image/jpeg", label=label)


def _checked(source: Any, files: ExitStack) -> tuple[BinaryIO, int, str | None]:
    """Open a photo; return its file, size, and what is wrong with it."""
    if isinstance(source, bytes | bytearray | memoryview):
        source = files.enter_context(_MemoryFile(source))
    elif isinstance(source, str | os.PathLike):
        source = files.enter_context(_open_file(source))
    size = source.seek(0, os.SEEK_END)
    return source, size, _problem_of(source, size)


class _MemoryFile(RawIOBase):
    """A file over bytes, without a copy of them."""

    def __init__(self, content: bytes | bytearray | memoryview) -> None:
        self._content = memoryview(content).cast("B")
        self._position = 0

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer)
        piece = self._content[self._position : self._position + len(target)]
        target[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + (0, self._position, len(self._content))[whence]
        return self._position

    def close(self) -> None:
        super().close()
        self._content = memoryview(b"")


def _open_file(photo: str | os.PathLike[str]) -> BinaryIO:
    path = os.path.expanduser(photo)  # noqa: PTH111 - which raises nothing for an unknown user
    # Without O_NONBLOCK, opening a FIFO would wait for somebody to write to it.
    file = open(path, "rb", opener=lambda file, flags: os.open(file, flags | _NONBLOCK))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError(f"{path!r} is not a regular file")
    return file


async def _copy(photo: ReadableFile, files: ExitStack) -> BinaryIO:
    """Copy what a file object yields: a retry, and the length in the request's head, need all of it."""
    copy = await run_in_thread(lambda: files.enter_context(tempfile.TemporaryFile()))  # noqa: SIM115
    # A coroutine that a thread makes would be lost if the caller was cancelled meanwhile. A file object may block for
    # ever, as that of a pipe; then its thread is left behind.
    read: Any = photo.read if is_async(photo.read) else lambda size: asyncio.to_thread(photo.read, size)
    size = 0
    while size <= MAX_SIZE:
        piece = await read(_PIECE)
        if inspect.isawaitable(piece):
            piece = await piece
        if not isinstance(piece, bytes | bytearray | memoryview):
            raise TypeError(f"read() returned {type(piece).__name__}; open it in binary mode")
        if not piece:
            break
        size += await run_in_thread(copy.write, piece)
    return copy


def _problem_of(file: BinaryIO, size: int) -> str | None:
    """Say what is wrong with a photo, or return None."""
    if size > MAX_SIZE:
        return f"is larger than {MAX_SIZE >> 20} MiB"
    file.seek(0)
    head = file.read(32)
    if not head.startswith(b"\xff\xd8\xff"):
        return f"is not a JPEG: it {_format_of(head)}"
    return None if _has_end(file) else "is a JPEG that ends early"


def _format_of(head: bytes) -> str:
    convert = "convert it to JPEG, with Pillow for example"
    if head[4:8] == b"ftyp" and b"avif" in head[8:]:
        return f"is AVIF; {convert}"
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC:
        return (
            f"is HEIC, the format of many phones; {convert} and pillow-heif, or have the phone save JPEGs "
            "(iPhone: Settings > Camera > Formats > Most Compatible)"
        )
    if head.startswith(b"\x89PNG"):
        return f"is PNG; {convert}"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return f"is WebP; {convert}"
    return f"begins with {head[:4].hex(' ') or 'nothing'}"


def _has_end(file: BinaryIO) -> bool:
    """Look for a JPEG's end marker after its image data begins: a thumbnail before it has an end marker, too.

    Whatever follows the marker is ignored: some cameras append a video. It is searched for from the end of the file,
    where it usually is.
    """
    file.seek(2)
    while (marker := file.read(2)) != b"\xff\xda":  # start of scan
        if marker == b"\xff\xff":  # fill byte
            file.seek(-1, os.SEEK_CUR)
            continue
        length = int.from_bytes(file.read(2))  # counts itself (ITU T.81, B.1.1.4)
        if marker[:1] != b"\xff" or length < 2:
            return False
        file.seek(length - 2, os.SEEK_CUR)
    begin, end = file.tell(), file.seek(0, os.SEEK_END)
    while end > begin:
        start = max(begin, end - _TAIL)
        file.seek(start)
        if b"\xff\xd9" in file.read(end - start + 1):  # one byte more, of a marker across two reads
            return True
        end = start
    return False


def _shown(photo: Photo) -> str:
    if isinstance(photo, bytes | bytearray | memoryview):
        return f"<{memoryview(photo).nbytes} bytes>"
    return repr(os.fspath(photo)) if isinstance(photo, str | os.PathLike) else f"<{type(photo).__name__}>"

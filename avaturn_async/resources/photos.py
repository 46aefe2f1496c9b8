"""The three photos of a face, from paths or bytes."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any, Literal, TypeAlias

import attrs

from ..models import PhotoUpload

__all__ = ["Photo", "Photos"]

Photo: TypeAlias = str | os.PathLike[str] | bytes

#: More than any camera's JPEG, in bytes.
_MAX_SIZE = 64 * 2**20


def _is_photo(_: object, attribute: attrs.Attribute[Photo], value: object) -> None:
    if not isinstance(value, str | os.PathLike | bytes | bytearray | memoryview):
        raise TypeError(f"Photos.{attribute.name} must be a path or bytes, not {type(value).__name__}")


def _photo() -> Any:
    return attrs.field(validator=_is_photo, repr=lambda photo: _shown(photo))


@attrs.frozen
class Photos:
    """Three photos of a face, each a path or the bytes of a JPEG, and how they are to be read.

    Attributes:
        frontal: straight into the camera.
        side_1: turned to one side.
        side_2: turned to the other.
        body_type: ``"male"`` or ``"female"``.
        telephoto: whether they were taken through a telephoto lens.
    """

    frontal: Photo = _photo()
    side_1: Photo = _photo()
    side_2: Photo = _photo()
    body_type: Literal["male", "female"] = attrs.field(kw_only=True)
    telephoto: bool = attrs.field(default=False, kw_only=True)

    @body_type.validator
    def _known_body_type(self, _: object, value: object) -> None:
        if value not in ("male", "female"):
            raise ValueError(f"Photos.body_type must be 'male' or 'female', not {value!r:.80}")

    @telephoto.validator
    def _a_bool(self, _: object, value: object) -> None:
        if not isinstance(value, bool):
            raise TypeError(f"Photos.telephoto must be a bool, not {value!r:.80}")

    async def read(self) -> PhotoUpload:
        """Read the files off the loop and check that each is a JPEG.

        Raises:
            OSError: a file can't be read; the message names the photo and the file.
            ValueError: a photo is not a JPEG, or is larger than 64 MiB.
        """
        return await asyncio.to_thread(self._read)

    def _read(self) -> PhotoUpload:
        return PhotoUpload(
            image_frontal=_bytes_of("frontal", self.frontal),
            image_side_1=_bytes_of("side_1", self.side_1),
            image_side_2=_bytes_of("side_2", self.side_2),
            body_type=self.body_type,
            telephoto=self.telephoto,
        )


def _bytes_of(name: str, photo: Photo) -> bytes:
    content = bytes(photo) if isinstance(photo, bytes | bytearray | memoryview) else _read_file(name, photo)
    if not content.startswith(b"\xff\xd8\xff"):
        begins = content[:4].hex(" ") or "nothing"
        raise ValueError(f"Photos.{name} ({_shown(photo)}) is not a JPEG: it begins with {begins}")
    return content


def _read_file(name: str, photo: str | os.PathLike[str]) -> bytes:
    path = Path(photo)
    try:
        if path.stat().st_size > _MAX_SIZE:
            raise ValueError(f"Photos.{name} ({path}) is larger than {_MAX_SIZE // 2**20} MiB")
        return path.read_bytes()
    except OSError as error:
        number = error.errno or errno.EIO
        raise type(error)(number, f"Photos.{name} can't be read: {os.strerror(number)}", str(path)) from None


def _shown(photo: Photo) -> str:
    return f"<{len(photo)} bytes>" if isinstance(photo, bytes | bytearray | memoryview) else repr(os.fspath(photo))

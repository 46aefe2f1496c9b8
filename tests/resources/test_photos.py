"""The three photos of a face."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from avaturn_async import Photos
from avaturn_async.resources import photos as module

JPEG = b"\xff\xd8\xff\xe0 a face"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Write a photo."""
    path = tmp_path / "me.jpg"
    path.write_bytes(JPEG)
    return path


async def test_paths_and_bytes(file: Path) -> None:
    """Each photo is one or the other, and is read when it is asked for."""
    read = await Photos(file, str(file), bytearray(JPEG), body_type="female", telephoto=True).read()  # type: ignore[arg-type]
    assert [JPEG] * 3 == [read.image_frontal, read.image_side_1, read.image_side_2]
    assert ("female", True) == (read.body_type, read.telephoto)


async def test_memory_is_read_like_bytes() -> None:
    """A view of a larger buffer is taken as it is."""
    read = await Photos(memoryview(JPEG), JPEG, JPEG, body_type="male").read()  # type: ignore[arg-type]
    assert (JPEG, bytes) == (read.image_frontal, type(read.image_frontal))


@pytest.mark.parametrize("name", ["frontal", "side_1", "side_2"])
@pytest.mark.parametrize(("content", "begins"), [(PNG, "89 50 4e 47"), (b"", "nothing"), (b"\xff\xd8", "ff d8")])
async def test_what_is_no_jpeg(tmp_path: Path, name: str, content: bytes, begins: str) -> None:
    """The message names the photo, the file and how it begins."""
    path = tmp_path / "me.png"
    path.write_bytes(content)
    given: dict[str, Any] = {"frontal": JPEG, "side_1": JPEG, "side_2": JPEG, name: path}
    with pytest.raises(ValueError, match=f"is not a JPEG: it begins with {begins}") as caught:
        await Photos(**given, body_type="male").read()
    assert str(caught.value).startswith(f"Photos.{name} ({str(path)!r})")


async def test_bytes_that_are_no_jpeg_are_not_shown() -> None:
    """Their number is."""
    with pytest.raises(ValueError, match=r"Photos\.side_1 \(<8 bytes>\) is not a JPEG"):
        await Photos(JPEG, PNG, JPEG, body_type="male").read()


@pytest.mark.parametrize(("name", "error"), [("none.jpg", FileNotFoundError), (".", IsADirectoryError)])
async def test_what_can_t_be_read(tmp_path: Path, name: str, error: type[OSError]) -> None:
    """It is Python's own error, which names the photo and the file."""
    with pytest.raises(error, match=r"Photos\.side_2 can't be read") as caught:
        await Photos(JPEG, JPEG, tmp_path / name, body_type="male").read()
    assert str(tmp_path / name) == caught.value.filename
    assert caught.value.__cause__ is None


async def test_a_file_that_is_far_too_large(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused before it is read."""
    monkeypatch.setattr(module, "_MAX_SIZE", len(JPEG) - 1)
    with pytest.raises(ValueError, match=r"Photos\.frontal \(.*me\.jpg'?\) is larger than"):
        await Photos(file, JPEG, JPEG, body_type="male").read()


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
def test_a_photo_is_a_path_or_bytes(value: Any) -> None:
    """Anything else is refused where it is given; a number is no file descriptor."""
    with pytest.raises(TypeError, match=r"Photos\.side_1 must be a path or bytes, not"):
        Photos(JPEG, value, JPEG, body_type="male")


def test_photos_are_not_shown(file: Path) -> None:
    """The repr has paths and sizes, no faces."""
    shown = repr(Photos(JPEG, file, str(file), body_type="male"))
    expected = f"Photos(frontal=<{len(JPEG)} bytes>, side_1={str(file)!r}, side_2={str(file)!r}"
    assert f"{expected}, body_type='male', telephoto=False)" == shown

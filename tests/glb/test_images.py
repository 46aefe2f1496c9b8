"""The headers of images."""

from __future__ import annotations

import struct

import pytest
from PIL import Image

from avaturn_async.glb.images import Header, read_header

from .kit import image

EXIF = b"Exif\0\0" + bytes(60_000)


def header(data: bytes) -> Header:
    """Read the header of an image in memory."""
    return read_header(lambda offset, length: data[offset : offset + length], len(data))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {"mode": "RGB"}),
        ("PNG", {"mode": "LA"}),
        ("PNG", {"mode": "P"}),
        ("JPEG", {"mode": "RGB"}),
        ("JPEG", {"mode": "L", "progressive": True}),
        ("JPEG", {"mode": "CMYK", "exif": EXIF, "icc_profile": bytes(200_000)}),
        ("WEBP", {"mode": "RGB"}),
        ("WEBP", {"mode": "RGB", "lossless": True}),
        ("WEBP", {"mode": "RGBA", "color": (9, 9, 9, 9)}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values()))[:20],
)
@pytest.mark.parametrize("size", [(1, 1), (640, 7), (3000, 2000)], ids=str)
def test_formats_as_pillow_writes_them(kind: str, options: dict[str, object], size: tuple[int, int]) -> None:
    """Format, width and height are those of the image, whatever precedes its frame."""
    assert Header(kind, *size) == header(image(kind, *size, **options))  # type: ignore[arg-type]


@pytest.mark.skipif(".avif" not in Image.registered_extensions(), reason="this Pillow has no AVIF")
def test_avif() -> None:
    """AVIF has its size in a box of the metadata."""
    assert Header("AVIF", 70, 30) == header(image("AVIF", 70, 30))


def test_ktx2() -> None:
    """KTX 2.0 has its size behind the identifier, the format and the type size."""
    data = b"\xabKTX 20\xbb\r\n\x1a\n" + struct.pack("<4I", 0, 1, 1024, 512) + bytes(100)
    assert Header("KTX2", 1024, 512) == header(data)


def test_jpeg_with_fill_bytes_and_lone_markers() -> None:
    """Fill bytes may precede any marker, and some markers have no length (ITU-T T.81, B.1.1)."""
    data = image("JPEG", 33, 44)
    odd = data[:2] + b"\xff\x01" + b"\xff\xff\xff" + data[2:]
    assert Header("JPEG", 33, 44) == header(odd)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("length", [2, 4, 12, 13, 16, 20])
def test_truncated_headers(kind: str, length: int) -> None:
    """What is cut off has no size."""
    found = header(image(kind)[:length])
    assert (None, None) == found[1:]
    assert found.kind in (kind, "")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a" + bytes(20),
        b"\xff\xd8" + b"\xff\xe0\x00\x02" * 1000,
        b"\xff\xd8\xff\xe0\x00\x00" * 50,
        b"\xff\xd8junk",
    ],
    ids=["empty", "gif", "endless", "zero", "junk"],
)
def test_other_bytes_have_no_size(data: bytes) -> None:
    """Nothing is searched for without end."""
    assert (None, None) == header(data)[1:]

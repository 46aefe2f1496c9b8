"""Read the format and size of an image from its header, without decoding it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Header", "read_header"]

Read = Callable[[int, int], bytes]

HEAD = 512
MAX_SEGMENTS = 64
#: JPEG markers that begin a frame: SOF0 to SOF15 without DHT, JPG and DAC.
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class Header(NamedTuple):
    """The format of an image, and its size in pixels; unknown values are empty or None."""

    kind: str
    width: int | None = None
    height: int | None = None


def read_header(read: Read, length: int) -> Header:
    """Read the header of an image of `length` bytes; `read(offset, length)` returns bytes of it."""
    head = read(0, min(HEAD, length))
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _sized("PNG", head, ">II", 16)
    if head.startswith(b"\xff\xd8"):
        return _jpeg(read, length)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _webp(head)
    if head.startswith(b"\xabKTX 20\xbb\r\n\x1a\n"):
        return _sized("KTX2", head, "<II", 20)
    if head[4:12] in (b"ftypavif", b"ftypmif1"):
        # Image spatial extents (ISO/IEC 23008-12, 6.5.3), after four bytes of version and flags.
        extents = head.find(b"ispe")
        return _sized("AVIF", head, ">II", extents + 8) if extents > 0 else Header("AVIF")
    return Header("")


def _sized(kind: str, head: bytes, layout: str, offset: int) -> Header:
    if len(head) < offset + struct.calcsize(layout):
        return Header(kind)
    width, height = struct.unpack_from(layout, head, offset)
    return Header(kind, width, height)


def _jpeg(read: Read, length: int) -> Header:
    """Follow the segments to the first frame header (ITU-T T.81, B.2.2)."""
    offset = 2
    for _ in range(MAX_SEGMENTS):
        segment = read(offset, min(9, length - offset))
        if len(segment) < 9 or segment[0] != 0xFF:
            break
        if segment[1] in FRAMES:
            height, width = struct.unpack_from(">HH", segment, 5)
            return Header("JPEG", width, height)
        # A fill byte, or a marker without a length, is followed by the next marker.
        alone = segment[1] == 0xFF or segment[1] == 0x01 or 0xD0 <= segment[1] <= 0xD8
        offset += 1 if segment[1] == 0xFF else 2 if alone else 2 + int.from_bytes(segment[2:4], "big")
        if offset >= length:
            break
    return Header("JPEG")


def _webp(head: bytes) -> Header:
    """Read a lossy, lossless or extended WebP header (RFC 9649)."""
    chunk = head[12:16]
    if chunk == b"VP8X" and len(head) >= 30:
        width, height = (int.from_bytes(head[at : at + 3], "little") + 1 for at in (24, 27))
        return Header("WEBP", width, height)
    if chunk == b"VP8L" and len(head) >= 25:
        bits = int.from_bytes(head[21:25], "little")
        return Header("WEBP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if chunk == b"VP8 " and len(head) >= 30:
        width, height = struct.unpack_from("<HH", head, 26)
        return Header("WEBP", width & 0x3FFF, height & 0x3FFF)
    return Header("WEBP")

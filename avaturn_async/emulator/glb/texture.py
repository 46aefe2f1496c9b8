"""The texture: an atlas of swatches with a fine grain, written as a PNG of any size asked for."""

import math
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from enum import IntEnum
from functools import cache

from .palette import Color, choose, mix

__all__ = ["Swatch", "atlas_uv", "fit", "paint", "png_size"]

Ramp = Callable[[float], Color]

GRID = 3
SMALLEST = 48
STORED_BLOCK = 65_535
GRAIN = 12
# PNG signature, IHDR, IEND, and the frame of one IDAT with its zlib header and checksum.
PNG_FRAME = 8 + 25 + 12 + 12 + 6


class Swatch(IntEnum):
    """A cell of the atlas, counted from the top left."""

    SKIN = 0
    LIPS = 1
    MOUTH = 2
    EYE = 3
    HAIR = 4
    SHIRT = 5
    TROUSERS = 6
    SHOES = 7
    TEETH = 8


def atlas_uv(swatch: Swatch, u: float, v: float) -> tuple[float, float]:
    """Map a surface's own texture coordinates into its swatch, off the edges, so that filtering mixes no neighbours."""
    row, column = divmod(swatch, GRID)
    return (column + 0.1 + 0.8 * u) / GRID, (row + 0.1 + 0.8 * v) / GRID


def fit(size: int) -> tuple[int, int]:
    """Choose the width and height of the smallest near-square atlas whose PNG has at least `size` bytes."""
    width = max(SMALLEST, math.isqrt(max(size, 0) // 3))
    height = max(SMALLEST, (size - PNG_FRAME) // (3 * width + 1))
    while png_size(width, height) < size:
        height += 1
    return width, height


def png_size(width: int, height: int) -> int:
    """Count the bytes of an atlas of that many pixels."""
    raw = height * (3 * width + 1)
    return PNG_FRAME + raw + 5 * -(-raw // STORED_BLOCK)


def paint(*, seed: int, width: int, height: int) -> bytes:
    """Paint the atlas of `seed` in RGB."""
    dice = random.Random(seed)
    ramps = _ramps(dice)
    edges = [width * cell // GRID for cell in range(GRID + 1)]
    rows = bytearray()
    for y in range(height):
        cell, v = divmod(y * GRID / height, 1.0)
        row = bytearray(3 * width)
        noise = dice.randbytes(3 * width)
        for column in range(GRID):
            start, end = 3 * edges[column], 3 * edges[column + 1]
            color = ramps[int(cell) * GRID + column](min(max((v - 0.1) / 0.8, 0.0), 1.0))
            for channel, level in enumerate(color):
                row[start + channel : end : 3] = noise[start + channel : end : 3].translate(_grain(level))
        rows += b"\0" + row
    return _png(width, height, rows)


@cache
def _grain(level: int) -> bytes:
    return bytes(min(255, max(0, level + noise * GRAIN // 256 - GRAIN // 2)) for noise in range(256))


def _ramps(dice: random.Random) -> list[Ramp]:
    """Give for each swatch the colour at a height between 0 and 1."""
    skin, hair, shirt, trousers, shoes, iris = choose(dice)
    stripes = int(dice.random() * 5)
    return [
        lambda _: skin,
        lambda _: mix(skin, (176, 60, 64), 0.55),
        lambda _: (58, 18, 20),
        lambda v: _eye(v, iris),
        lambda v: mix(hair, (0, 0, 0), 0.25 * (1 - v)),
        lambda v: mix(shirt, (255, 255, 255), 0.35 if stripes > 1 and v * 4 * stripes % 2 > 1.6 else 0.0),
        lambda v: mix(trousers, (0, 0, 0), 0.2 * v),
        lambda _: shoes,
        lambda _: (240, 236, 224),
    ]


def _eye(v: float, iris: Color) -> Color:
    if v > 0.9:
        return 12, 10, 10
    return iris if v > 0.78 else (240, 238, 234)


def _png(width: int, height: int, rows: bytearray) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (_chunk(b"IHDR", header), _chunk(b"IDAT", b"".join(_stored(rows))), _chunk(b"IEND", b"")),
    )


def _stored(data: bytearray) -> Iterator[bytes | memoryview]:
    # Written out here and not by zlib.compress(level=0): how that cuts its blocks depends on the zlib of the platform.
    view = memoryview(data)
    yield b"\x78\x01"
    for start in range(0, len(data), STORED_BLOCK):
        block = view[start : start + STORED_BLOCK]
        final = start + STORED_BLOCK >= len(data)
        yield struct.pack("<BHH", final, len(block), len(block) ^ 0xFFFF)
        yield block
    yield struct.pack(">I", zlib.adler32(data))


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(data, zlib.crc32(kind))
    return b"".join((struct.pack(">I", len(data)), kind, data, struct.pack(">I", checksum)))

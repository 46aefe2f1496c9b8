"""The textures: noise, tinted and painted with Pillow, the same bytes for the same arguments."""

import io
import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal

from PIL import Image, ImageChops, ImageDraw, ImageOps

from .palette import Color, mix

__all__ = ["AREAS", "Box", "Kind", "picture"]

Box = tuple[float, float, float, float]
Kind = Literal["base", "normal", "orm"]

# Where each area of surfaces is in its texture: left, top, right, bottom.
AREAS: dict[str, Box] = {
    "": (0.0, 0.0, 1.0, 1.0),
    "face": (0.0, 0.0, 0.5, 0.88),
    "mouth": (0.0, 0.9, 0.16, 1.0),
    "brow": (0.17, 0.9, 0.33, 1.0),
    "ear": (0.34, 0.9, 0.5, 1.0),
    "skin": (0.5, 0.0, 1.0, 0.5),
    "eye": (0.5, 0.5, 0.75, 1.0),
    "teeth": (0.75, 0.5, 0.87, 1.0),
    "tongue": (0.88, 0.5, 1.0, 1.0),
    "shirt": (0.0, 0.0, 0.6, 1.0),
    "trousers": (0.6, 0.0, 1.0, 1.0),
    "shoes": (0.0, 0.0, 1.0, 1.0),
}
LIPS: Box = (0.185, 0.325, 0.315, 0.39)

WHITE: Color = (255, 255, 255)
BLACK: Color = (0, 0, 0)


@lru_cache(maxsize=256)
def picture(name: str, kind: Kind, size: int, painting: str, *colors: Color) -> tuple[str, bytes]:
    """Draw a texture of the material `name`, and return its media type and its bytes.

    Base colours with transparency are a PNG of grey and alpha, all other textures are JPEGs.
    """
    if kind == "normal":
        image = _bumps(_grain(name, size))
    elif kind == "orm":
        image = ImageOps.colorize(_grain(name, size), (230, 150, 0), (255, 235, 10))
    else:
        image = PAINTINGS[painting](size, *colors)
    buffer = io.BytesIO()
    if image.mode == "LA":
        image.save(buffer, "PNG")
        return "image/png", buffer.getvalue()
    image.save(buffer, "JPEG", quality=90)
    return "image/jpeg", buffer.getvalue()


@lru_cache(maxsize=32)
def _grain(name: str, size: int) -> Image.Image:
    """Mix fine and coarse noise."""
    fine, coarse = (_noise(name, (max(2, size // step),) * 2, size) for step in (2, 16))
    return Image.blend(fine, coarse, 0.3)


def _streaks(name: str, size: int) -> Image.Image:
    return _noise(name, (size, 4), size)


def _noise(name: str, pixels: tuple[int, int], size: int) -> Image.Image:
    data = random.Random(name).randbytes(pixels[0] * pixels[1])
    return Image.frombytes("L", pixels, data).resize((size, size), Image.Resampling.BICUBIC)


def _bumps(heights: Image.Image) -> Image.Image:
    """Turn heights into a normal map."""
    slopes = [ImageChops.subtract(heights, ImageChops.offset(heights, x, y), 3.0, 128) for x, y in ((1, 0), (0, 1))]
    return Image.merge("RGB", (*slopes, Image.new("L", heights.size, 255)))


@lru_cache(maxsize=16)
def _plain(size: int, color: Color = (228, 228, 228), contrast: float = 0.16) -> Image.Image:
    return ImageOps.colorize(_grain("plain", size), mix(color, BLACK, contrast), mix(color, WHITE, contrast))


def _body(size: int, iris: Color = BLACK, skin: Color = (240, 240, 240)) -> Image.Image:
    """Paint skin with the face, eyeballs wrapped around their axis, teeth, and the inside of the mouth."""
    image = Image.new("RGB", (size, size), skin)
    draw = ImageDraw.Draw(image)
    draw.ellipse(_pixels(LIPS, size), mix(skin, (190, 60, 70), 0.45))
    left, top, right, bottom = AREAS["eye"]
    for share, color in ((0.0, (240, 236, 232)), (0.83, mix(iris, BLACK, 0.4)), (0.845, iris), (0.935, (10, 8, 8))):
        draw.rectangle(_pixels((left, top + share * (bottom - top), right, bottom), size), color)
    patches: dict[str, Color] = {
        "mouth": (80, 20, 24), "brow": mix(skin, (40, 26, 22), 0.75), "teeth": (236, 230, 216), "tongue": (190, 92, 96)
    }  # fmt: skip
    for area, color in patches.items():
        draw.rectangle(_pixels(AREAS[area], size), color)
    return ImageChops.multiply(image, _plain(size, (246, 246, 246), 0.06))


def _look(size: int, shirt: Color, trousers: Color) -> Image.Image:
    image = _plain(size, shirt).copy()
    image.paste(_plain(size, trousers), (round(size * AREAS["trousers"][0]), 0))
    return image


def _hair(size: int) -> Image.Image:
    return Image.merge("LA", (_shade(size), Image.new("L", (size, size), 255)))


def _strands(size: int) -> Image.Image:
    """Paint strands that thin out towards their ends."""
    fade = Image.linear_gradient("L").resize((size, size)).point(lambda level: max(0, 2 * level - 255))
    streaks = _streaks("ends", size).point(lambda level: 255 - level // 4)
    return Image.merge("LA", (_shade(size), ImageChops.subtract(streaks, fade)))


def _shade(size: int) -> Image.Image:
    return _streaks("hair", size).point(lambda level: 150 + level * 2 // 5)


def _eye_shadow(size: int) -> Image.Image:
    return Image.merge("LA", (Image.new("L", (size, size)), Image.new("L", (size, size), 40)))


def _eyelash(size: int) -> Image.Image:
    hairs = _streaks("lashes", size).point(lambda level: 230 if level > 96 else 40)
    return Image.merge("LA", (Image.new("L", (size, size), 20), hairs))


def _pixels(box: Box, size: int) -> Sequence[int]:
    return [round(size * edge) for edge in box]


PAINTINGS: dict[str, Callable[..., Image.Image]] = {
    "body": _body,
    "plain": _plain,
    "look": _look,
    "hair": _hair,
    "strands": _strands,
    "eye_shadow": _eye_shadow,
    "eyelash": _eyelash,
}

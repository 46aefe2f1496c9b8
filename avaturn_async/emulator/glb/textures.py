"""The textures: tinted and painted noise, deterministic."""

import io
import random
from functools import lru_cache
from typing import Literal

from PIL import Image, ImageChops, ImageDraw, ImageOps

from .tables import BLACK, WHITE, Color, load, mix

__all__ = ["Kind", "picture"]

Kind = Literal["base", "normal", "orm"]


@lru_cache(maxsize=256)
def picture(name: str, kind: Kind, size: int, painting: str, *colors: Color) -> tuple[str, bytes]:
    """Draw a texture of the material `name`, and return its media type and its bytes.

    Base colours with transparency are a PNG of grey and alpha, all other textures are JPEGs.
    """
    if kind == "base":
        image = _painted(painting, size, *colors)
    elif kind == "normal":
        heights = _grain(name, size)
        shifted = (ImageChops.offset(heights, 1, 0), ImageChops.offset(heights, 0, 1))
        slopes = [ImageChops.subtract(heights, each, 3.0, 128) for each in shifted]
        image = Image.merge("RGB", (*slopes, Image.new("L", heights.size, 255)))
    else:
        image = ImageOps.colorize(_grain(name, size), (230, 150, 0), (255, 235, 10))
    buffer = io.BytesIO()
    if image.mode == "LA":
        image.save(buffer, "PNG")
        return "image/png", buffer.getvalue()
    image.save(buffer, "JPEG", quality=90)
    return "image/jpeg", buffer.getvalue()


def _painted(painting: str, size: int, *colors: Color) -> Image.Image:
    """Paint a base colour; hair, lashes and shadows have transparency."""
    if painting == "body":
        return _body(size, *colors)
    if painting == "plain":
        return _plain(size, *colors)
    if painting == "look":
        image = _plain(size, colors[0]).copy()
        image.paste(_plain(size, colors[1]), _box("trousers", size)[:2])
        return image
    grey = Image.new("L", (size, size), {"eye_shadow": 0, "eyelash": 20}.get(painting))
    alpha = Image.new("L", (size, size), {"eye_shadow": 40}.get(painting, 255))
    if painting in ("hair", "strands"):
        grey = _streaks("hair", size).point(lambda level: 150 + level * 2 // 5)
    if painting == "strands":
        # Strands get thinner towards their ends.
        fade = Image.linear_gradient("L").resize((size, size)).point(lambda level: max(0, 2 * level - 255))
        alpha = ImageChops.subtract(_streaks("ends", size).point(lambda level: 255 - level // 4), fade)
    elif painting == "eyelash":
        alpha = _streaks("lashes", size).point(lambda level: 230 if level > 96 else 40)
    return Image.merge("LA", (grey, alpha))


def _body(size: int, iris: Color = BLACK, skin: Color = (240, 240, 240)) -> Image.Image:
    """Paint skin with the face, eyeballs wrapped around their axis, teeth, and the inside of the mouth."""
    image = Image.new("RGB", (size, size), skin)
    draw = ImageDraw.Draw(image)
    draw.ellipse(_box("lips", size), mix(skin, (190, 60, 70), 0.45))
    for share, color in ((0.0, (240, 236, 232)), (0.83, mix(iris, BLACK, 0.4)), (0.845, iris), (0.935, (10, 8, 8))):
        draw.rectangle(_box("eye", size, below=share), color)
    brow = mix(skin, (40, 26, 22), 0.75)
    for area, color in (("mouth", (80, 20, 24)), ("brow", brow), ("teeth", (236, 230, 216)), ("tongue", (190, 92, 96))):
        draw.rectangle(_box(area, size), color)
    return ImageChops.multiply(image, _plain(size, (246, 246, 246), 0.06))


@lru_cache(maxsize=16)
def _plain(size: int, color: Color = (228, 228, 228), contrast: float = 0.16) -> Image.Image:
    return ImageOps.colorize(_grain("plain", size), mix(color, BLACK, contrast), mix(color, WHITE, contrast))


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


def _box(area: str, size: int, below: float = 0.0) -> tuple[int, int, int, int]:
    """Return an area in pixels, or the part of it `below` a share of its height."""
    left, top, right, bottom = load("avatar")["areas"][area]
    top += below * (bottom - top)
    return round(size * left), round(size * top), round(size * right), round(size * bottom)

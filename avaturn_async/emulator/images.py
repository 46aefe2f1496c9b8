"""The emulator's images: renders of avatars, and photos of faces."""

import io
import math
import random
import zlib
from collections.abc import Sequence
from typing import Literal

from .glb.tables import BLACK, WHITE, Color, Palette, choose, mix

try:
    from PIL import Image, ImageDraw, ImageOps
except ImportError:
    raise ImportError("the emulator draws with Pillow: install avaturn-async[emulator]") from None

__all__ = ["photo", "render_image"]

Point = tuple[float, float]

ENCODERS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}
VIEWS = {"frontal": 0.0, "side-1": -0.55, "side-2": 0.55}
RENDER_SIZE = (512, 512)
PHOTO_SIZE = (480, 640)
# Images are drawn larger by this factor, then scaled down, for smooth edges.
OVERSAMPLING = 2


def render_image(*, seed: int, scene: str, format: Literal["jpg", "png", "webp"]) -> bytes:
    """Draw the avatar of `seed` in a scene: the whole body if the scene's name contains `full_body`, else a bust.

    A scene with `transparent` in its name has an alpha channel, or is white in a JPEG. Raises `ValueError` for
    another format.
    """
    if format not in ENCODERS:
        raise ValueError(f"format must be one of {', '.join(ENCODERS)}, not {format!r}")
    transparent = "transparent" in scene
    image = _background(scene, RENDER_SIZE)
    pen = Pen(ImageDraw.Draw(image), (image.width / 2, 0.0), float(image.height))
    palette = choose(random.Random(seed))
    if "full_body" in scene:
        _full_body(pen, palette)
    else:
        _bust(pen, palette, turn=0.12)
    return _encoded(image if transparent and format != "jpg" else _opaque(image), format)


def photo(*, seed: int, view: Literal["frontal", "side-1", "side-2"]) -> bytes:
    """Draw a photo of the face of `seed` as a JPEG. Raises `ValueError` for another view."""
    if view not in VIEWS:
        raise ValueError(f"view must be one of {', '.join(VIEWS)}, not {view!r}")
    image = _background(f"photo {seed}", PHOTO_SIZE)
    pen = Pen(ImageDraw.Draw(image), (image.width / 2, 0.1 * image.height), 0.9 * image.height)
    _bust(pen, choose(random.Random(seed)), turn=VIEWS[view])
    return _encoded(_opaque(image), "jpg")


class Pen:
    """Draws filled shapes in coordinates of its own, given their origin and the length of their unit in pixels."""

    def __init__(self, draw: ImageDraw.ImageDraw, origin: Point, unit: float) -> None:
        self._draw = draw
        self._origin = origin
        self._unit = unit

    def at(self, x: float, y: float, unit: float) -> "Pen":
        """Return a pen with another origin and unit, both given in this pen's units."""
        return Pen(self._draw, self._pixels((x, y)), unit * self._unit)

    def oval(self, x: float, y: float, width: float, height: float, color: Color) -> None:
        """Fill an ellipse, given its centre and radii."""
        box = (self._pixels((x - width, y - height)), self._pixels((x + width, y + height)))
        self._draw.ellipse(box, fill=color)

    def shape(self, points: Sequence[Point], color: Color) -> None:
        """Fill a polygon."""
        self._draw.polygon([self._pixels(point) for point in points], fill=color)

    def stroke(self, points: Sequence[Point], width: float, color: Color) -> None:
        """Draw a line with round ends and corners."""
        pixels = [self._pixels(point) for point in points]
        self._draw.line(pixels, fill=color, width=max(1, round(width * self._unit)), joint="curve")
        for x, y in points:
            self.oval(x, y, width / 2, width / 2, color)

    def _pixels(self, point: Point) -> Point:
        return self._origin[0] + point[0] * self._unit, self._origin[1] + point[1] * self._unit


def _background(scene: str, size: tuple[int, int]) -> Image.Image:
    """Paint a gradient in colours derived from the scene's name, or a transparent background."""
    width, height = (OVERSAMPLING * length for length in size)
    if "transparent" in scene:
        return Image.new("RGBA", (width, height), (*WHITE, 0))
    dice = random.Random(zlib.crc32(scene.encode()))
    top: Color = (150 + int(80 * dice.random()), 160 + int(70 * dice.random()), 180 + int(60 * dice.random()))
    ramp = Image.linear_gradient("L").resize((width, height))
    return ImageOps.colorize(ramp, top, mix(top, (70, 76, 92), 0.45)).convert("RGBA")


def _bust(pen: Pen, palette: Palette, *, turn: float) -> None:
    pen.oval(0.0, 1.06, 0.4, 0.32, palette.shirt)
    pen.stroke([(0.0, 0.56), (0.0, 0.76)], 0.2, mix(palette.skin, BLACK, 0.12))
    _face(pen.at(0.0, 0.4, 0.27), palette, turn=turn)


def _full_body(pen: Pen, palette: Palette) -> None:
    body = pen.at(0.0, 0.06, 0.9)
    for side in (-1, 1):
        body.stroke([(0.07 * side, 0.52), (0.075 * side, 0.72), (0.08 * side, 0.93)], 0.09, palette.trousers)
        body.stroke([(0.075 * side, 0.96), (0.11 * side, 0.965)], 0.05, palette.shoes)
        body.stroke([(0.155 * side, 0.29), (0.19 * side, 0.39), (0.2 * side, 0.52)], 0.05, palette.skin)
        body.stroke([(0.12 * side, 0.225), (0.165 * side, 0.34)], 0.075, palette.shirt)
    body.stroke([(0.0, 0.14), (0.0, 0.2)], 0.07, mix(palette.skin, BLACK, 0.12))
    trunk = ((-0.09, 0.19), (0.09, 0.19), (0.145, 0.22), (0.115, 0.4), (0.12, 0.54), (-0.12, 0.54), (-0.115, 0.4))
    body.shape([*trunk, (-0.145, 0.22)], palette.shirt)
    _face(body.at(0.0, 0.09, 0.085), palette, turn=0.1)


def _face(pen: Pen, palette: Palette, *, turn: float) -> None:
    """Draw a head of radius 1, turned sideways by `turn` from -1 to 1."""
    shade = mix(palette.skin, BLACK, 0.18)
    pen.oval(-0.15 * turn, -0.2, 0.86, 0.92, palette.hair)
    for side in (-1, 1):
        pen.oval(side * 0.74 - 0.4 * turn, 0.08, 0.12, 0.2, shade)
    pen.oval(0.0, 0.1, 0.74, 0.94, palette.skin)
    fringe = [(0.76 * math.sin(angle / 10), 0.06 - 0.96 * math.cos(angle / 10)) for angle in range(-13, 14)]
    pen.shape([*fringe, (0.4 + turn * 0.3, -0.5), (-0.3 + turn * 0.3, -0.56)], palette.hair)
    for side in (-1, 1):
        _eye(pen.at(0.31 * side + 0.45 * turn, 0.0, 1.0 - 0.35 * max(0.0, side * turn)), palette)
    nose = 0.55 * turn
    pen.shape([(0.42 * turn, -0.02), (nose - 0.1, 0.34), (nose + 0.1, 0.34)], mix(palette.skin, BLACK, 0.06))
    pen.stroke([(nose - 0.09, 0.36), (nose, 0.39), (nose + 0.09, 0.36)], 0.04, shade)
    mouth = [(0.5 * turn + 0.22 * step / 4, 0.64 - 0.05 * (step / 4) ** 2) for step in range(-4, 5)]
    pen.stroke(mouth, 0.07, mix(palette.skin, (176, 60, 64), 0.6))


def _eye(pen: Pen, palette: Palette) -> None:
    pen.oval(0.0, 0.0, 0.15, 0.09, (246, 244, 240))
    pen.oval(0.0, 0.0, 0.08, 0.085, palette.iris)
    pen.oval(0.0, 0.0, 0.04, 0.045, (14, 12, 12))
    pen.oval(0.025, -0.03, 0.018, 0.018, WHITE)
    pen.stroke([(-0.16, -0.2), (0.0, -0.25), (0.16, -0.2)], 0.05, mix(palette.hair, BLACK, 0.2))


def _opaque(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image).convert("RGB")


def _encoded(image: Image.Image, format: str) -> bytes:
    out = io.BytesIO()
    image.reduce(OVERSAMPLING).save(out, ENCODERS[format], quality=88)
    return out.getvalue()

"""The texture of a model: colours by swatch, of any size."""

import io

import pytest
from PIL import Image

from avaturn_async.emulator.glb.texture import Swatch, atlas_uv, fit, paint, png_size


def test_swatches_have_the_same_colour_at_every_resolution() -> None:
    """A larger texture is the same one with a finer grain."""
    for swatch in Swatch:
        u, v = atlas_uv(swatch, 0.5, 0.5)
        small, large = (_sample(paint(seed=5, width=width, height=width), u, v) for width in (48, 300))
        assert small == pytest.approx(large, abs=20)


def test_texture_has_grain() -> None:
    """The texture is noisy, as a photo is, and does not compress to nothing."""
    colors = Image.open(io.BytesIO(paint(seed=1, width=96, height=96))).getcolors(96 * 96)
    assert colors is not None
    assert len(colors) > 2_000


@pytest.mark.parametrize("size", [-5, 0, 7_000, 65_535, 65_536, 70_001, 1_234_567, 20_000_000])
def test_fit_is_the_smallest_texture_of_a_size(size: int) -> None:
    """The chosen texture has the size, and with one row less has not, unless it is the smallest."""
    width, height = fit(size)
    assert png_size(width, height) >= size
    assert png_size(width, height - 1) < max(size, png_size(48, 48))


@pytest.mark.parametrize(("width", "height"), [(48, 48), (128, 64), (200, 333)])
def test_png_size_is_exact(width: int, height: int) -> None:
    """The computed length is the length."""
    assert png_size(width, height) == len(paint(seed=0, width=width, height=height))


def _sample(png: bytes, u: float, v: float) -> tuple[int, ...]:
    image = Image.open(io.BytesIO(png))
    pixel = image.getpixel((int(u * image.width), int(v * image.height)))
    assert isinstance(pixel, tuple)
    return pixel

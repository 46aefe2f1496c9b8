"""The emulator's pictures are real images of the requested format."""

import io
import subprocess
import sys
from typing import Literal

import pytest
from PIL import Image

from avaturn_async.emulator.images import photo, render_image

Format = Literal["jpg", "png", "webp"]
View = Literal["frontal", "side-1", "side-2"]

SCENES = (
    "common/preview",
    "common/city_full_body",
    "common/forest_full_body",
    "common/transparent_full_body",
    "common/transparent",
    "acme/studio",
)
FORMATS: tuple[tuple[Format, str], ...] = (("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP"))
VIEWS: tuple[View, ...] = ("frontal", "side-1", "side-2")


def _opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def _middle_of_black(image: Image.Image) -> float:
    box = image.convert("L").point([255] * 30 + [0] * 226).getbbox()
    assert box is not None
    return (box[0] + box[2]) / 2


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize(("format", "name"), FORMATS)
def test_render_is_an_image_of_its_format(scene: str, format: Format, name: str) -> None:
    """In every scene and format."""
    image = _opened(render_image(seed=1, scene=scene, format=format))
    assert (name, (512, 512)) == (image.format, image.size)


@pytest.mark.parametrize("format", ["png", "webp"])
@pytest.mark.parametrize("scene", ["common/transparent_full_body", "common/transparent"])
def test_transparent_scene_has_no_background(format: Format, scene: str) -> None:
    """Its alpha channel has nothing in the corner and a body in the middle."""
    image = _opened(render_image(seed=1, scene=scene, format=format))
    alpha = image.getchannel("A")
    assert "RGBA" == image.mode
    assert (0, 255) == (alpha.getpixel((2, 2)), alpha.getpixel((256, 200)))


def test_transparent_scene_is_white_in_a_jpeg() -> None:
    """A JPEG has no alpha channel."""
    image = _opened(render_image(seed=1, scene="common/transparent_full_body", format="jpg"))
    assert ("RGB", (255, 255, 255)) == (image.mode, image.getpixel((2, 2)))


@pytest.mark.parametrize("format", ["png", "webp"])
def test_other_scenes_are_opaque(format: Format) -> None:
    """They have no alpha channel."""
    assert "RGB" == _opened(render_image(seed=1, scene="common/preview", format=format)).mode


def test_render_is_a_function_of_its_arguments() -> None:
    """The same arguments give the same bytes, another seed or scene others."""
    first = render_image(seed=1, scene="common/preview", format="png")
    assert first == render_image(seed=1, scene="common/preview", format="png")
    others = [render_image(seed=1, scene=scene, format="png") for scene in SCENES[1:]]
    assert len(SCENES) == len({first, *others})
    assert first != render_image(seed=2, scene="common/preview", format="png")


def test_unknown_format_is_refused() -> None:
    """The error names it."""
    with pytest.raises(ValueError, match="format must be one of jpg, png, webp, not 'gif'"):
        render_image(seed=1, scene="common/preview", format="gif")  # type: ignore[arg-type]


@pytest.mark.parametrize("view", VIEWS)
def test_photo_is_a_jpeg_in_portrait_format(view: View) -> None:
    """It has 480 by 640 pixels."""
    data = photo(seed=1, view=view)
    image = _opened(data)
    assert data.startswith(b"\xff\xd8\xff")
    assert ("JPEG", "RGB", (480, 640)) == (image.format, image.mode, image.size)


def test_photo_is_a_function_of_its_arguments() -> None:
    """The same arguments give the same bytes, another seed or view others."""
    assert photo(seed=1, view="frontal") == photo(seed=1, view="frontal")
    assert 6 == len({photo(seed=seed, view=view) for seed in (1, 2) for view in VIEWS})


def test_side_photos_look_to_opposite_sides() -> None:
    """The two side views are turned away from each other: the pupils are in different halves."""
    middles = [_middle_of_black(_opened(photo(seed=1, view=view))) for view in ("side-1", "side-2")]
    assert middles[0] < 240 < middles[1]


def test_unknown_view_is_refused() -> None:
    """The error names it."""
    with pytest.raises(ValueError, match="view must be one of frontal, side-1, side-2, not 'back'"):
        photo(seed=1, view="back")  # type: ignore[arg-type]


def test_without_pillow_the_import_says_what_to_install() -> None:
    """The error names the extra."""
    code = "import sys; sys.modules['PIL'] = None\nimport avaturn_async.emulator.images"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert 1 == done.returncode
    assert done.stderr.rstrip().endswith("ImportError: the emulator draws with Pillow: install avaturn-async[emulator]")

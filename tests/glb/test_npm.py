"""Models that tools from npm wrote, and what the glTF validator says about shrunk ones."""

from __future__ import annotations

import asyncio
import base64
import subprocess
from pathlib import Path
from typing import Any

import pytest

from avaturn_async import glb
from avaturn_async.glb import Texture, inspect
from tests.npm import node, node_modules

from .kit import avatar, with_images

pytestmark = [pytest.mark.npm, pytest.mark.timeout(300)]

VALIDATOR = Path(__file__).parents[1] / "emulator" / "glb" / "validate.mjs"
TOOLS = {
    "draco": (("@gltf-transform/cli", "gltf-transform", "draco", "{source}", "{target}"), {"JPEG", "PNG"}),
    "meshopt": (("@gltf-transform/cli", "gltf-transform", "meshopt", "{source}", "{target}"), {"JPEG", "PNG"}),
    "quantize": (("@gltf-transform/cli", "gltf-transform", "quantize", "{source}", "{target}"), {"JPEG", "PNG"}),
    "sparse": (("@gltf-transform/cli", "gltf-transform", "sparse", "{source}", "{target}"), {"JPEG", "PNG"}),
    "webp": (("@gltf-transform/cli", "gltf-transform", "webp", "{source}", "{target}"), {"WEBP"}),
    "avif": (("@gltf-transform/cli", "gltf-transform", "avif", "{source}", "{target}"), {"AVIF"}),
    "gltfpack": (("gltfpack", "gltfpack", "-cc", "-kn", "-km", "-i", "{source}", "-o", "{target}"), {"JPEG", "PNG"}),
}
SHRINKING: dict[str, dict[str, Any]] = {
    "textures": {"max_texture": 16},
    "morphs": {"drop_morphs": ["viseme_*", "mouth*"]},
    "all morphs": {"drop_morphs": ["*"], "drop_animations": True},
}


@pytest.fixture(params=TOOLS)
def compressed(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, set[str]]:
    """Compress a T2 with a tool; return the file, and the formats of its images."""
    (package, command, *arguments), kinds = TOOLS[request.param]
    source, target = tmp_path / "source.glb", tmp_path / "target.glb"
    source.write_bytes(avatar("T2"))
    tool = node_modules(package) / ".bin" / command
    filled = [argument.format(source=source, target=target) for argument in arguments]
    subprocess.run([tool, *filled], check=True, capture_output=True, timeout=200)
    return target, kinds


def test_compressed_models_are_read(compressed: tuple[Path, set[str]]) -> None:
    """Whatever compresses geometry and images, a T2 is a T2, with all triangles and expressions."""
    file, kinds = compressed
    report, original = inspect(file), inspect(avatar("T2"))
    assert ("T2", original.triangles, 54) == (report.body_type, report.triangles, report.joints)
    assert kinds == {texture.kind for texture in report.textures}
    assert {(32, 32)} == {(texture.width, texture.height) for texture in report.textures}
    assert ((), ()) == (report.arkit.missing, report.visemes.missing)
    assert original.animations[0].seconds == pytest.approx(report.animations[0].seconds, abs=0.05)


def test_ktx2_images_are_read() -> None:
    """Their size is in the header."""
    data = base64.b64decode(node(Path(__file__).with_name("ktx2.mjs"), 24, 12, modules=node_modules("ktx-parse")))
    assert (Texture("image 0", "KTX2", 24, 12, len(data)),) == inspect(with_images(data)).textures


@pytest.mark.parametrize("options", SHRINKING)
def test_shrunk_models_are_valid(tmp_path: Path, options: str) -> None:
    """The validator has nothing more to say than before."""
    source, target = tmp_path / "a.glb", tmp_path / "b.glb"
    source.write_bytes(avatar("T2"))
    asyncio.run(glb.shrink(source, target, **SHRINKING[options]))
    before, after = _findings(source, target)
    assert after <= before


def test_shrunk_compressed_models_are_valid(compressed: tuple[Path, set[str]]) -> None:
    """What other tools wrote stays as valid as it was."""
    file, kinds = compressed
    target = file.with_name("shrunk.glb")
    asyncio.run(glb.shrink(file, target, max_texture=16, drop_animations=True))
    before, after = _findings(file, target)
    assert after <= before
    width = 32 if "AVIF" in kinds else 16
    assert {width} == {texture.width for texture in inspect(target).textures}


def _findings(*files: Path) -> list[set[str]]:
    """Return the codes of the errors and warnings of models."""
    reports = node(VALIDATOR, *files, modules=node_modules("gltf-validator"))
    return [{each["code"] for each in report["issues"]["messages"] if each["severity"] < 2} for report in reports]

"""Models that other tools wrote, and what the glTF validator says about them and about shrunk ones."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from avaturn_async import glb
from avaturn_async.emulator.glb.model import build_glb
from avaturn_async.glb import ModelReport, Texture, inspect
from tests.npm import node, node_modules, samples

from .kit import avatar, packed, with_images

pytestmark = [pytest.mark.npm, pytest.mark.timeout(300)]

VALIDATOR = Path(__file__).parents[1] / "emulator" / "glb" / "validate.mjs"
GUIDE = Path(__file__).parents[2] / "docs" / "pages" / "models.md"
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


@pytest.fixture(scope="module", params=TOOLS)
def compressed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """Compress a T2 with a tool; return the file, and the formats of its images."""
    (package, command, *arguments), kinds = TOOLS[request.param]
    tmp_path = tmp_path_factory.mktemp("compressed")
    source, target = tmp_path / "source.glb", tmp_path / "target.glb"
    source.write_bytes(avatar("T2"))
    tool = node_modules(package) / ".bin" / command
    filled = [argument.format(source=source, target=target) for argument in arguments]
    subprocess.run([tool, *filled], check=True, capture_output=True, timeout=200)
    return target, kinds


def test_compressed_models_are_read(compressed: tuple[Path, set[str]]) -> None:
    """A compressed T2 is still a T2, with all triangles and expressions."""
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


def test_sample_files_are_read_as_by_the_validator(tmp_path: Path) -> None:
    """Khronos' sample files have the triangles, vertices, animations and images that the validator counts."""
    files = _sample_files(tmp_path)
    reports = _validated(*files)
    for file, validated in zip(files, reports, strict=True):
        if not validated["issues"]["numErrors"]:
            assert _counted(validated["info"]) == _reported(inspect(file)), file.name
    used = {name for validated in reports for name in validated.get("info", {}).get("extensionsUsed", ())}
    assert "KHR_draco_mesh_compression" in used


def test_shrunk_sample_files_are_valid(tmp_path: Path) -> None:
    """Shrinking adds no error or warning to a valid sample file."""
    files = _sample_files(tmp_path)
    valid = [file for file, found in zip(files, _validated(*files), strict=True) if not found["issues"]["numErrors"]]
    shrunk = [file.with_suffix(".shrunk.glb") for file in valid]
    for source, target in zip(valid, shrunk, strict=True):
        asyncio.run(glb.shrink(source, target, max_texture=64, drop_morphs=["*"], drop_animations=True))
    findings = _findings(*valid, *shrunk)
    for source, before, after in zip(valid, findings[: len(valid)], findings[len(valid) :], strict=True):
        assert after <= before, source.name


def test_commands_of_the_guide_run(tmp_path: Path) -> None:
    """Each command of the guide on models works on the default T2, and the sizes that it tells are true."""
    text = GUIDE.read_text()
    (tmp_path / "avatar.glb").write_bytes(build_glb())
    folders = [str(node_modules("@gltf-transform/cli") / ".bin"), str(Path(sys.executable).parent)]
    environment = {**os.environ, "PATH": os.pathsep.join([*folders, os.environ["PATH"]])}
    commands = re.findall(r"(?<!-->\n)^```sh\n(.+?)^```$", text, re.MULTILINE | re.DOTALL)
    assert 7 == len(commands)
    for command in commands:
        done = subprocess.run(["bash", "-ec", command], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert 0 == done.returncode, f"{command}\n{done.stdout}\n{done.stderr}"
    reports = {file.stem: inspect(file) for file in tmp_path.glob("*.glb")}
    assert {"T2"} == {report.body_type for report in reports.values()}
    assert not any(report.visemes.missing for report in reports.values())
    assert f"{reports['avatar'].triangles:,} triangles, {len(reports['avatar'].textures)} textures" in text
    for name in ("avatar", "avatar-draco", "avatar-meshopt"):
        assert f"{reports[name].size / 1e6:.1f} MB" in text
    for name in ("avatar-lod1", "avatar-lod2"):
        assert f"{float(f'{reports[name].triangles:.2g}'):,.0f}" in text


def _sample_files(folder: Path) -> list[Path]:
    """Write all sample files as GLB."""
    folder.joinpath("samples").mkdir()
    written = []
    for number, source in enumerate(sorted(samples().rglob("*.gl[bt]*"))):
        try:
            data = source.read_bytes() if source.suffix == ".glb" else packed(source)
        except FileNotFoundError:  # a sample that is broken on purpose
            continue
        written.append(folder / "samples" / f"{number:03}-{source.stem}.glb")
        written[-1].write_bytes(data)
    return written


def _counted(info: dict[str, Any]) -> tuple[Any, ...]:
    images = [resource for resource in info.get("resources", ()) if resource["pointer"].startswith("/images/")]
    sizes = [tuple(found["image"].get(name) for name in ("width", "height")) for found in images if "image" in found]
    sums = (info["totalTriangleCount"], info["totalVertexCount"], info["animationCount"])
    return (*sums, info["hasMorphTargets"], info["hasSkins"], sizes)


def _reported(report: ModelReport) -> tuple[Any, ...]:
    measured = ("PNG", "JPEG", "WEBP")  # the validator knows no other sizes
    sizes = [(texture.width, texture.height) for texture in report.textures if texture.kind in measured]
    morphs = any(mesh.targets for mesh in report.meshes)
    return report.triangles, report.vertices, len(report.animations), morphs, report.joints > 0, sizes


def _findings(*files: Path) -> list[set[str]]:
    """Return the codes of the errors and warnings of models."""
    return [
        {each["code"] for each in report["issues"]["messages"] if each["severity"] < 2} for report in _validated(*files)
    ]


def _validated(*files: Path) -> list[dict[str, Any]]:
    reports: list[dict[str, Any]] = node(VALIDATOR, *files, modules=node_modules("gltf-validator"))
    return reports

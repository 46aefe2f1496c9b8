"""What `inspect` finds in models."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from avaturn_async.glb import ARKIT, VISEMES, Animation, Coverage, Mesh, ModelReport, Texture, inspect

from .kit import avatar, glb, image, with_images

NEITHER: list[list[str]] = [
    ["Wolf3D_Head", "Wolf3D_Body", "Wolf3D_Teeth", "EyeLeft", "EyeRight"],  # Ready Player Me
    ["Face", "Body", "Hair"],  # VRoid
    ["Human.Body", "Human.eyebrow001", "Human.teeth_base"],  # MakeHuman
    ["head_mesh", "body_mesh"],
    ["Head_Mesh"],
    [],
]


def test_t2_has_all_expressions() -> None:
    """A T2 body has a head with the blend shapes and visemes, and some of Avaturn's own."""
    report = inspect(avatar("T2"))
    head = next(mesh for mesh in report.meshes if mesh.name == "Head_Mesh")
    assert "T2" == report.body_type
    assert "avaturn-async emulator" == report.generator
    assert (72, 54, 13, 24) == (len(head.targets), report.joints, len(report.meshes), len(report.textures))
    assert Coverage(ARKIT, ()) == report.arkit
    assert Coverage(VISEMES, ()) == report.visemes


def test_t1_has_no_expressions() -> None:
    """A T1 body has a static head."""
    report = inspect(avatar("T1"))
    assert ("T1", 52, 7) == (report.body_type, report.joints, len(report.meshes))
    assert Coverage((), ARKIT) == report.arkit


def test_files_and_bytes_give_the_same_report(tmp_path: Path) -> None:
    """A path may be a str or a Path."""
    file = tmp_path / "avatar.glb"
    file.write_bytes(avatar())
    assert inspect(avatar()) == inspect(file) == inspect(str(file))


def test_missing_file(tmp_path: Path) -> None:
    """It is an OSError, as for `open`."""
    with pytest.raises(FileNotFoundError):
        inspect(tmp_path / "none.glb")


def test_empty_model() -> None:
    """A model with nothing in it has nothing to report."""
    report = inspect(glb({}))
    assert (0, 0, 0, None, "") == (report.triangles, report.vertices, report.joints, report.body_type, report.generator)


@pytest.mark.parametrize("names", NEITHER, ids=str)
@pytest.mark.parametrize("targets", [[], list(ARKIT)], ids=["plain", "arkit"])
def test_other_people_are_not_avaturns(names: list[str], targets: list[str]) -> None:
    """A face that moves makes no T2, as other services' models have one too."""
    primitive = {"attributes": {}, "targets": [{} for _ in targets]}
    meshes = [{"name": name, "primitives": [primitive], "extras": {"targetNames": targets}} for name in names]
    assert inspect(glb({"meshes": meshes})).body_type is None


@pytest.mark.parametrize(
    ("names", "body_type"),
    [
        (["Head_Mesh.001", "Body_Mesh.012"], "T2"),
        (["Head_Mesh", "Eye_Mesh"], "T2"),
        (["avaturn_body.003", "avaturn_hair_0"], "T1"),
        (["Head_Mesh.1", "Body_Mesh.0012"], None),
    ],
    ids=lambda value: str(value),
)
def test_copies_by_blender_are_told(names: list[str], body_type: str | None) -> None:
    """Blender appends a number of three digits to names."""
    assert body_type == inspect(glb({"meshes": [{"name": name, "primitives": []} for name in names]})).body_type
    assert body_type == inspect(glb({"nodes": [{"name": name} for name in names]})).body_type


def test_kinds_of_primitives() -> None:
    """Strips and fans share corners, lines are no triangles, and shared vertices count once."""
    accessors = [{"count": count, "componentType": 5126, "type": "VEC3"} for count in (9, 12)]
    position = {"attributes": {"POSITION": 0}}
    primitives = [position, position | {"indices": 1}, position | {"mode": 5}, position | {"mode": 6}]
    primitives += [position | {"mode": 1}, {"attributes": {}}]
    report = inspect(glb({"accessors": accessors, "meshes": [{"primitives": primitives}]}))
    assert (Mesh("mesh 0", 3 + 4 + 7 + 7, 9, ()),) == report.meshes


def test_some_expressions() -> None:
    """What is missing is named, and a target without a name is a number."""
    primitive = {"attributes": {}, "targets": [{}, {}, {}]}
    mesh = {"name": "Face", "primitives": [primitive], "extras": {"targetNames": ["jawOpen", "viseme_aa"]}}
    report = inspect(glb({"meshes": [mesh]}))
    assert ("jawOpen", "viseme_aa", "target 2") == report.meshes[0].targets
    assert Coverage(("viseme_aa",), tuple(name for name in VISEMES if name != "viseme_aa")) == report.visemes


@pytest.mark.parametrize("extras", [None, 7, [], {"targetNames": None}, {"targetNames": {}}], ids=str)
def test_extras_may_be_anything(extras: Any) -> None:
    """Applications define them."""
    mesh = {"primitives": [{"attributes": {}, "targets": [{}]}], "extras": extras}
    assert ("target 0",) == inspect(glb({"meshes": [mesh]})).meshes[0].targets


def test_joints_of_several_skins_count_once() -> None:
    """Skins may share joints."""
    assert 3 == inspect(glb({"skins": [{"joints": [0, 1]}, {"joints": [1, 2]}]})).joints


def test_animations() -> None:
    """An animation is as long as its longest channel."""
    accessors = [{"count": 2, "componentType": 5126, "type": "SCALAR", "max": [end]} for end in (1.5, 2.25)]
    samplers = [{"input": 0, "output": 0}, {"input": 1, "output": 0}]
    animations = [{"name": "wave", "samplers": samplers, "channels": []}, {"samplers": [], "channels": []}]
    report = inspect(glb({"accessors": accessors, "animations": animations}))
    assert (Animation("wave", 2.25), Animation("animation 1", 0.0)) == report.animations


def test_images_are_told_by_their_bytes() -> None:
    """The declared media type is used where the bytes say nothing."""
    data = with_images(
        image("PNG"), image("JPEG", 30, 20), b"something else", extensionsRequired=["KHR_texture_basisu"]
    )
    report = inspect(data)
    kinds = [(texture.kind, texture.width, texture.height) for texture in report.textures]
    assert [("PNG", 64, 48), ("JPEG", 30, 20), ("unknown", None, None)] == kinds
    assert [len(image("PNG")), len(image("JPEG", 30, 20)), 14] == [texture.size for texture in report.textures]
    assert ("KHR_texture_basisu",) == report.extensions


def test_images_in_other_places() -> None:
    """A data URI has a size; for other files and buffers it is unknown."""
    inline = "data:image/png;base64," + base64.b64encode(image("PNG", 5, 6)).decode()
    images = [{"uri": inline, "name": "skin"}, {"uri": "hair.png", "mimeType": "image/png"}, {"bufferView": 0}]
    views = [{"buffer": 0, "byteLength": 100}]
    report = inspect(glb({"images": images, "bufferViews": views, "buffers": [{"uri": "a.bin", "byteLength": 100}]}))
    expected = (
        Texture("skin", "PNG", 5, 6, len(image("PNG", 5, 6))),
        Texture("image 1", "PNG", None, None, None),
        Texture("image 2", "unknown", None, None, None),
    )
    assert expected == report.textures


def test_record_is_plain() -> None:
    """It has the report's fields, the sums and the coverage of expressions."""
    report: ModelReport = inspect(avatar("T1"))
    record = report.record()
    assert report.triangles == record["triangles"]
    assert record["meshes"][0] | {"name": "avaturn_body"} == record["meshes"][0]
    assert {"found": (), "missing": VISEMES} == record["visemes"]

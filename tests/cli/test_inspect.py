"""``avaturn inspect``."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from avaturn_async.cli.expressions import ARKIT, VISEMES
from avaturn_async.cli.glb import Animation, Coverage, Mesh, Texture, read
from avaturn_async.errors import NotAModelError

from .kit import avaturn, model, records


def glb(folder: Path, document: dict[str, Any] | bytes, data: bytes = b"") -> Path:
    """Write a GLB of a glTF document and its binary buffer."""
    text = document if isinstance(document, bytes) else json.dumps({"asset": {"version": "2.0"}} | document).encode()
    text += b" " * (-len(text) % 4)
    data += bytes(-len(data) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text
    if data:
        chunks += struct.pack("<II", len(data), 0x004E4942) + data
    file = folder / "made.glb"
    file.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
    return file


def test_t2_has_all_expressions(tmp_path: Path) -> None:
    """A T2 body has a head with 52 blend shapes and 15 visemes."""
    report = read(model(tmp_path, "T2"))
    head = next(mesh for mesh in report.meshes if mesh.name == "Head_Mesh")
    assert "T2" == report.body_type
    assert 72 == len(head.targets)
    assert (ARKIT, ()) == report.arkit
    assert (VISEMES, ()) == report.visemes


def test_t1_has_no_expressions(tmp_path: Path) -> None:
    """A T1 body has a static head."""
    report = read(model(tmp_path, "T1"))
    assert "T1" == report.body_type
    assert ((), ARKIT) == report.arkit


def test_facts_for_people(tmp_path: Path) -> None:
    """The table says all that people ask before they ship a model."""
    result = avaturn("inspect", model(tmp_path))
    facts = dict(line.split(maxsplit=1) for line in result.stdout.splitlines() if " " in line)
    assert 0 == result.exit_code
    assert "T2" == facts["body"].removeprefix("type").strip()
    assert facts["meshes"].startswith("13: Body_Mesh, Eye_Mesh, ")
    assert facts["textures"].startswith("image 0 32 x 32 JPEG, ")
    assert "54" == facts["joints"]
    assert "avaturn_animation (8.1 s)" == facts["animations"]
    assert "52 of 52" == facts["ARKit"]
    assert "15 of 15" == facts["visemes"]


def test_facts_for_machines(tmp_path: Path) -> None:
    """Each model is one line of JSON."""
    files = [model(tmp_path, "T1"), model(tmp_path, "T2")]
    result = avaturn("inspect", "--json", *files)
    assert [("T1", str(files[0])), ("T2", str(files[1]))] == [
        (record["body_type"], record["file"]) for record in records(result.stdout)
    ]


def test_one_bad_file_of_two(tmp_path: Path) -> None:
    """The other is shown all the same, and the exit code says that one failed."""
    bad = tmp_path / "page.glb"
    bad.write_text("<html></html>")
    result = avaturn("inspect", bad, model(tmp_path))
    assert 1 == result.exit_code
    assert f"avaturn: {bad} is not a GLB model: it came as a page of HTML or XML\n" == result.stderr
    assert "52 of 52" in result.stdout


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is a matter of usage."""
    result = avaturn("inspect", tmp_path / "none.glb")
    assert (2, f"avaturn: {tmp_path}/none.glb: No such file or directory\n") == (result.exit_code, result.stderr)


@pytest.mark.parametrize(
    "document",
    [
        b"not JSON",
        b"[]",
        {"meshes": [{"primitives": [{"attributes": {"POSITION": 9}}]}]},
        {"images": [{"bufferView": 3}]},
        {"meshes": 7},
    ],
)
def test_broken_document(tmp_path: Path, document: Any) -> None:
    """Whatever is wrong behind a right header, it is told in one line."""
    result = avaturn("inspect", glb(tmp_path, document))
    assert (1, 1) == (result.exit_code, len(result.stderr.splitlines()))
    assert "is not a GLB model that can be read" in result.stderr


def test_truncated_chunk(tmp_path: Path) -> None:
    """A header that is right about the length does not make a model."""
    file = tmp_path / "cut.glb"
    file.write_bytes(struct.pack("<4sIIHH", b"glTF", 2, 16, 0, 0))
    with pytest.raises(NotAModelError, match="can be read"):
        read(file)


def test_empty_model(tmp_path: Path) -> None:
    """A model with nothing in it has nothing to report."""
    report = read(glb(tmp_path, {}))
    assert (0, 0, 0, None) == (report.triangles, report.vertices, report.joints, report.body_type)


def test_kinds_of_primitives(tmp_path: Path) -> None:
    """Strips and fans share corners, lines are no triangles, and vertices that are shared count once."""
    accessors = [{"count": count, "componentType": 5126, "type": "VEC3"} for count in (9, 12)]
    position = {"attributes": {"POSITION": 0}}
    primitives = [position, position | {"indices": 1}, position | {"mode": 5}, position | {"mode": 6}]
    primitives += [position | {"mode": 1}, {"attributes": {}}]
    report = read(glb(tmp_path, {"accessors": accessors, "meshes": [{"primitives": primitives}]}))
    assert (Mesh("mesh 0", 3 + 4 + 7 + 7, 9, ()),) == report.meshes


def test_some_expressions(tmp_path: Path) -> None:
    """What is missing is named, and a target without a name is a number."""
    primitive = {"attributes": {}, "targets": [{}, {}, {}]}
    mesh = {"name": "Face", "primitives": [primitive], "extras": {"targetNames": ["jawOpen", "viseme_aa"]}}
    file = glb(tmp_path, {"meshes": [mesh]})
    assert ("jawOpen", "viseme_aa", "target 2") == read(file).meshes[0].targets
    assert Coverage(("viseme_aa",), tuple(name for name in VISEMES if name != "viseme_aa")) == read(file).visemes
    assert "1 of 52; without browDownLeft, " in avaturn("inspect", file).stdout
    assert "T2" == read(file).body_type


def test_images_of_all_kinds(tmp_path: Path) -> None:
    """An image in a format that is not known, or in another file, is told as such."""
    views = [{"buffer": 0, "byteOffset": 4, "byteLength": 8}]
    images = [{"bufferView": 0, "mimeType": "image/ktx2", "name": "skin"}, {"uri": "hair.png"}]
    document = {"bufferViews": views, "images": images, "buffers": [{"byteLength": 12}]}
    file = glb(tmp_path, document | {"extensionsRequired": ["KHR_texture_basisu"]}, bytes(12))
    assert (Texture("skin", "KTX2", None, None, 8), Texture("image 1", "IMAGE", None, None, None)) == read(
        file
    ).textures
    shown = avaturn("inspect", file).stdout
    assert "skin of unknown size KTX2, 8 bytes; image 1 of unknown size IMAGE, in another file" in shown
    assert "KHR_texture_basisu" in shown


def test_animations(tmp_path: Path) -> None:
    """An animation is as long as its longest channel."""
    accessors = [{"count": 2, "componentType": 5126, "type": "SCALAR", "max": [end]} for end in (1.5, 2.25)]
    samplers = [{"input": 0, "output": 0}, {"input": 1, "output": 0}]
    animations = [{"name": "wave", "samplers": samplers, "channels": []}, {"samplers": [], "channels": []}]
    file = glb(tmp_path, {"accessors": accessors, "animations": animations})
    assert (Animation("wave", 2.25), Animation("animation 1", 0.0)) == read(file).animations
    assert "wave (2.2 s), animation 1 (0.0 s)" in avaturn("inspect", file).stdout


def test_names_drive_no_terminal(tmp_path: Path) -> None:
    """Control characters in a model's names are not printed."""
    file = glb(tmp_path, {"meshes": [{"name": "\x1b[31mred\nline", "primitives": []}]})
    assert "1: [31mred line" in avaturn("inspect", file).stdout

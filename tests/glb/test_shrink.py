"""Smaller copies of models."""

from __future__ import annotations

import asyncio
import base64
import io
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from avaturn_async import glb as library
from avaturn_async.errors import NotAModelError
from avaturn_async.glb import ModelReport, inspect

from .kit import avatar, document_of, glb, image, view_of, with_images

NOISE = Image.effect_noise((64, 64), 80).convert("RGB")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Write a T2."""
    file = tmp_path / "source.glb"
    file.write_bytes(avatar())
    return file


def shrink(source: Path, target: Path, **options: Any) -> ModelReport:
    """Shrink a file, without a running loop, so that the test may read files itself."""
    return asyncio.run(library.shrink(source, target, **options))


def shrunk(folder: Path, data: bytes, **options: Any) -> bytes:
    """Shrink a model by way of files."""
    (folder / "in.glb").write_bytes(data)
    shrink(folder / "in.glb", folder / "out.glb", **options)
    return (folder / "out.glb").read_bytes()


def picture(data: bytes, index: int = 0) -> tuple[str, Image.Image]:
    """Return the media type and the image of a model's image."""
    described = document_of(data)["images"][index]
    return described["mimeType"], Image.open(io.BytesIO(view_of(data, described["bufferView"])))


def encoded(picture: Image.Image, kind: str) -> bytes:
    """Encode an image."""
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.slow
def test_textures_are_scaled_and_all_else_survives(source: Path) -> None:
    """Names, skins, morph targets and clips are as before, and all accessors have the same values."""
    target = source.with_name("target.glb")
    report = shrink(source, target, max_texture=16)
    before, after = inspect(source), inspect(target)
    assert report == after
    assert {16} == {texture.width for texture in after.textures}
    assert (before.meshes, before.animations, before.joints) == (after.meshes, after.animations, after.joints)
    old, new = document_of(avatar()), document_of(target.read_bytes())
    different = {key for key in old if old[key] != new[key]}
    assert different <= {"bufferViews", "buffers", "images"}
    for accessor in old["accessors"]:
        view = accessor["bufferView"]
        assert view_of(avatar(), view) == view_of(target.read_bytes(), view)


def test_small_textures_are_not_touched(source: Path) -> None:
    """A model within the limit comes out as it went in."""
    target = source.with_name("target.glb")
    shrink(source, target, max_texture=32)
    assert source.read_bytes() == target.read_bytes()
    shrink(source, target, max_texture=None)
    assert source.read_bytes() == target.read_bytes()


@pytest.mark.parametrize(
    ("data", "media_type", "mode"),
    [
        (encoded(NOISE, "PNG"), "image/jpeg", "RGB"),
        (encoded(NOISE.convert("RGBA"), "PNG"), "image/jpeg", "RGB"),
        (encoded(NOISE, "JPEG"), "image/jpeg", "RGB"),
        (encoded(NOISE.convert("CMYK"), "JPEG"), "image/jpeg", "RGB"),
        (encoded(NOISE.convert("L"), "PNG"), "image/jpeg", "L"),
        (encoded(NOISE, "WEBP"), "image/webp", "RGB"),
        (image("PNG", color=(1, 2, 3)), "image/png", "RGB"),
        (image("PNG", mode="RGBA", color=(200, 100, 50, 128)), "image/png", "RGBA"),
        (image("PNG", mode="LA", color=(200, 128)), "image/png", "LA"),
        (image("PNG", mode="I;16", color=40_000), "image/png", "L"),
        (image("PNG", mode="P", color=0, transparency=0), "image/png", "RGBA"),
        (image("PNG", mode="RGB", color=(1, 2, 3), transparency=(1, 2, 3)), "image/png", "RGBA"),
        (encoded(NOISE.quantize(16), "PNG"), "image/jpeg", "RGB"),
        (encoded(NOISE.convert("1"), "PNG"), "image/jpeg", "RGB"),
        (image("WEBP", mode="RGBA", color=(200, 100, 50, 128)), "image/webp", "RGBA"),
    ],
    ids=[
        "png",
        "opaque",
        "jpeg",
        "cmyk",
        "grey",
        "webp",
        "flat",
        "rgba",
        "la",
        "16-bit",
        "palette-alpha",
        "colour-key",
        "palette",
        "bits",
        "webp-alpha",
    ],
)
def test_formats(tmp_path: Path, data: bytes, media_type: str, mode: str) -> None:
    """PNG stays PNG if alpha needs it or if it is smaller; WebP stays WebP, as textures refer to it by an extension."""
    after = shrunk(tmp_path, with_images(data), max_texture=32)
    found, scaled = picture(after)
    assert (media_type, mode, 32) == (found, scaled.mode, scaled.width)
    assert Image.open(io.BytesIO(data)).height // 2 == scaled.height


def test_levels_survive(tmp_path: Path) -> None:
    """Colours, alpha and sixteen bits of grey are scaled, not distorted."""
    pictures = (
        image("PNG", mode="RGBA", color=(200, 100, 50, 128)),
        image("PNG", mode="I;16", color=40_000),
        image("JPEG", color=(200, 100, 50)),
    )
    after = shrunk(tmp_path, with_images(*pictures), max_texture=8)
    colors = [picture(after, index)[1].getpixel((3, 3)) for index in range(3)]
    assert (200, 100, 50, 128) == pytest.approx(colors[0], abs=2)
    assert 40_000 // 256 == colors[1]
    assert (200, 100, 50) == pytest.approx(colors[2], abs=4)


def test_images_that_share_a_view_are_scaled_once(tmp_path: Path) -> None:
    """Both keep the view, and learn its new media type."""
    data = with_images(encoded(NOISE, "PNG"))
    images = [{"bufferView": 0, "mimeType": "image/png"}] * 2
    document = document_of(data) | {"images": images}
    after = shrunk(tmp_path, glb(document, view_of(data, 0)), max_texture=16)
    media_type, scaled = picture(after)
    assert 16 == scaled.width
    assert [{"bufferView": 0, "mimeType": media_type}] * 2 == document_of(after)["images"]


def test_data_uris_move_into_the_buffer(tmp_path: Path) -> None:
    """A large image in the JSON is scaled, a small one stays there."""
    uris = ["data:image/png;base64," + base64.b64encode(image("PNG", size, 5)).decode() for size in (64, 8)]
    images = [{"uri": uri} for uri in (*uris, "other.png")]
    after = document_of(shrunk(tmp_path, glb({"images": images}), max_texture=16))
    assert images[1:] == after["images"][1:]
    assert 0 == after["images"][0]["bufferView"]
    elsewhere = {"images": images, "buffers": [{"byteLength": 4, "uri": "a.bin"}]}
    with pytest.raises(NotAModelError, match="in another file"):
        shrunk(tmp_path, glb(elsewhere), max_texture=16)


def test_images_that_pillow_does_not_read_stay(tmp_path: Path) -> None:
    """KTX2 and AVIF are left to other tools."""
    ktx = b"\xabKTX 20\xbb\r\n\x1a\n" + struct.pack("<4I", 0, 1, 4096, 4096) + bytes(60)
    before = with_images(ktx, b"junk")
    assert inspect(before).textures == inspect(shrunk(tmp_path, before, max_texture=64)).textures


def test_morph_targets_are_dropped_by_name_and_pattern(tmp_path: Path) -> None:
    """From meshes, weights, names and clips; what is left keeps its values."""
    before = avatar()
    after = shrunk(tmp_path, before, drop_morphs=["viseme_*", "eyesClosed"])
    assert len(after) < 0.9 * len(before)
    report = inspect(after)
    names = {mesh.name: mesh.targets for mesh in report.meshes}
    gone = {mesh.name: mesh.targets for mesh in inspect(before).meshes}
    for name, targets in gone.items():
        left = tuple(target for target in targets if not target.startswith("viseme_") and target != "eyesClosed")
        assert left == names[name]
    for mesh in document_of(after)["meshes"]:
        if "weights" in mesh:
            assert len(mesh["weights"]) == len(mesh["extras"]["targetNames"]) == len(mesh["primitives"][0]["targets"])
    assert _target(before, "Head_Mesh", "jawOpen") == _target(after, "Head_Mesh", "jawOpen")
    assert _keys(before, "Head_Mesh", "mouthOpen") == _keys(after, "Head_Mesh", "mouthOpen")
    assert len(document_of(after)["accessors"]) < len(document_of(before)["accessors"])


def test_all_morph_targets_can_be_dropped(tmp_path: Path) -> None:
    """Then nothing is left of them, and joints still move."""
    after = document_of(shrunk(tmp_path, avatar(), drop_morphs=["*"]))
    assert not any({"weights", "extras"} & mesh.keys() for mesh in after["meshes"])
    assert not any("targets" in primitive for mesh in after["meshes"] for primitive in mesh["primitives"])
    (clip,) = after["animations"]
    assert {"rotation", "translation"} == {channel["target"]["path"] for channel in clip["channels"]}
    assert len(clip["channels"]) == len(clip["samplers"])


def test_animations_can_be_dropped(tmp_path: Path) -> None:
    """Their keys leave the file."""
    after = shrunk(tmp_path, avatar("T1"), drop_animations=True)
    assert "animations" not in document_of(after)
    assert len(after) < len(avatar("T1")) - 5_000
    assert inspect(after).meshes == inspect(avatar("T1")).meshes


def test_an_animation_of_morph_targets_alone_goes_with_them(tmp_path: Path) -> None:
    """GlTF allows no animation without channels."""
    primitive = {"attributes": {"POSITION": 0}, "targets": [{"POSITION": 0}]}
    document = {
        "meshes": [{"primitives": [primitive], "weights": [0], "extras": {"targetNames": ["a"]}}],
        "nodes": [{"mesh": 0, "weights": [0]}],
        "animations": [
            {
                "samplers": [{"input": 1, "output": 1}],
                "channels": [{"sampler": 0, "target": {"node": 0, "path": "weights"}}],
            }
        ],
        "accessors": [
            {"count": 1, "bufferView": 0, "componentType": 5126, "type": kind} for kind in ("VEC3", "SCALAR")
        ],
        "bufferViews": [{"buffer": 0, "byteLength": 12}],
        "buffers": [{"byteLength": 12}],
    }
    after = document_of(shrunk(tmp_path, glb(document, bytes(12)), drop_morphs=["a"]))
    assert "animations" not in after
    assert [{"mesh": 0}] == after["nodes"]
    assert 1 == len(after["accessors"])


def test_compressed_keys_of_morph_targets_can_not_be_thinned_out(tmp_path: Path) -> None:
    """They can be dropped with all others."""
    document = document_of(avatar())
    (clip,) = document["animations"]
    output = clip["samplers"][-1]["output"]
    document["accessors"][output]["sparse"] = {"count": 1, "indices": {"bufferView": 0}, "values": {"bufferView": 0}}
    buffer = avatar()[28 + struct.unpack_from("<I", avatar(), 12)[0] :]
    with pytest.raises(NotAModelError, match="animations of morph targets"):
        shrunk(tmp_path, glb(document, buffer), drop_morphs=["jawOpen"])
    assert not inspect(shrunk(tmp_path, glb(document, buffer), drop_morphs=["*"])).arkit.found


def test_large_models_are_not_read(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model is held in memory while it is packed."""
    monkeypatch.setattr("avaturn_async.glb.repack.MAX_SIZE", 1000)
    with pytest.raises(NotAModelError, match="more than the 1000 that are read"):
        shrink(source, source)


def test_source_may_be_the_target(source: Path) -> None:
    """The file is read before it is replaced."""
    shrink(source, source, max_texture=8)
    assert {8} == {texture.width for texture in inspect(source).textures}
    assert [source] == list(source.parent.iterdir())


def test_a_failure_leaves_the_target_alone(source: Path) -> None:
    """Nothing is left beside it either."""
    target = source.with_name("target.glb")
    target.write_bytes(b"before")
    source.write_bytes(with_images(image("JPEG")[:400] + bytes(8)))
    with pytest.raises(NotAModelError, match="can't be decoded"):
        shrink(source, target, max_texture=8)
    target.unlink()
    target.mkdir()
    source.write_bytes(avatar())
    with pytest.raises(IsADirectoryError) as caught:
        shrink(source, target, max_texture=8)
    assert str(target) == caught.value.filename
    assert {source, target} == set(source.parent.iterdir())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"junk", "came as something"),
        (glb({"images": [{}]}), "is malformed: KeyError"),
        (
            glb(
                {
                    "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
                    "accessors": [{"count": 1, "sparse": 3}],
                }
            ),
            "is malformed",
        ),
        (
            glb(
                {
                    "extensionsUsed": ["VRM"],
                    "animations": [{"samplers": [{"input": 0, "output": 0}], "channels": []}],
                    "accessors": [{}],
                }
            ),
            "the extension VRM",
        ),
    ],
    ids=["junk", "image", "sparse", "extension"],
)
def test_what_can_not_be_shrunk_is_told(tmp_path: Path, data: bytes, message: str) -> None:
    """By a NotAModelError that names the file."""
    with pytest.raises(NotAModelError, match=message):
        shrunk(tmp_path, data, drop_animations=True)


def test_images_of_too_many_pixels_are_not_decoded(tmp_path: Path) -> None:
    """A header of some bytes can claim gigabytes."""
    bomb = bytearray(image("PNG"))
    bomb[16:24] = struct.pack(">II", 60_000, 60_000)
    with pytest.raises(NotAModelError, match="60000 x 60000 pixels"):
        shrunk(tmp_path, with_images(bytes(bomb)))


@pytest.mark.parametrize("name", ["EXT_meshopt_compression", "KHR_meshopt_compression"])
def test_compressed_geometry_stays(tmp_path: Path, name: str) -> None:
    """Meshopt's views are moved by what they point to, and Draco's are kept."""
    meshopt = {"buffer": 0, "byteOffset": 4, "byteLength": 8, "count": 2, "byteStride": 12, "mode": "ATTRIBUTES"}
    document = {
        "extensionsUsed": [name, "KHR_draco_mesh_compression"],
        "buffers": [
            {"byteLength": 20},
            {"byteLength": 24, "extensions": {name: {"fallback": True}}},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": 3},
            {"buffer": 1, "byteLength": 24, "extensions": {name: meshopt}},
            {"buffer": 0, "byteOffset": 12, "byteLength": 8},
        ],
        "accessors": [{"count": 2, "bufferView": 1}, {"count": 2}, {"count": 1, "bufferView": 0}],
        "meshes": [
            {
                "primitives": [
                    {"attributes": {"POSITION": 0}},
                    {"attributes": {"POSITION": 1}, "extensions": {"KHR_draco_mesh_compression": {"bufferView": 2}}},
                ]
            }
        ],
        "animations": [{"samplers": [{"input": 2, "output": 2}], "channels": []}],
    }
    after = shrunk(tmp_path, glb(document, b"abc\0MESHOPT.DRACO..."), drop_animations=True)
    views = document_of(after)["bufferViews"]
    assert 2 == len(views)
    assert meshopt | {"byteOffset": 0} == views[0]["extensions"][name]
    assert {"buffer": 0, "byteOffset": 8, "byteLength": 8} == views[1]
    assert after.endswith(b"MESHOPT.DRACO...")
    assert {"bufferView": 1} == document_of(after)["meshes"][0]["primitives"][1]["extensions"][
        "KHR_draco_mesh_compression"
    ]


@pytest.mark.parametrize(
    ("options", "error"),
    [({"max_texture": 0}, ValueError), ({"drop_morphs": "jawOpen"}, TypeError)],
    ids=str,
)
def test_nonsense_is_refused(source: Path, options: dict[str, Any], error: type[Exception]) -> None:
    """Before anything is read."""
    with pytest.raises(error):
        shrink(source, source, **options)


def test_pillow_is_needed_for_large_images_alone(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, morph targets and animations can still be dropped."""
    monkeypatch.setitem(sys.modules, "PIL", None)
    shrink(source, source, drop_morphs=["viseme_*"])
    with pytest.raises(ImportError, match=r"avaturn-async\[glb\]"):
        shrink(source, source, max_texture=8)


def _target(data: bytes, mesh: str, name: str) -> bytes:
    """Return the positions of a morph target."""
    document = document_of(data)
    (described,) = (each for each in document["meshes"] if each["name"] == mesh)
    target = described["primitives"][0]["targets"][described["extras"]["targetNames"].index(name)]
    return view_of(data, document["accessors"][target["POSITION"]]["bufferView"])


def _keys(data: bytes, mesh: str, name: str) -> list[float]:
    """Return the keys of a morph target in the only clip."""
    document = document_of(data)
    (described,) = (each for each in document["meshes"] if each["name"] == mesh)
    names = described["extras"]["targetNames"]
    (clip,) = document["animations"]
    node = next(index for index, each in enumerate(document["nodes"]) if each["name"] == mesh)
    (channel,) = (each for each in clip["channels"] if each["target"] == {"node": node, "path": "weights"})
    view = view_of(data, document["accessors"][clip["samplers"][channel["sampler"]]["output"]]["bufferView"])
    values = [value for (value,) in struct.iter_unpack("<f", view)]
    return values[names.index(name) :: len(names)]

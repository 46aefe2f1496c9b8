"""What programs that are not ours say about the models: the glTF validator, three.js and TalkingHead."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from avaturn_async.emulator.glb.model import build_glb
from tests.npm import chromium, node, node_modules

from .kit import BODIES, morph_targets, product, rest_pose

pytestmark = [pytest.mark.npm, pytest.mark.timeout(900)]

HERE = Path(__file__).parent
CASES = [
    (body, models, {"seed": seed, **more})
    for body in BODIES
    for models in ("full", "small")
    for seed, more in enumerate(({}, {"worn": {"clothing": "suit"}}, {"worn": {}, "idle_clip": False}, {"size": 2**24}))
]


def test_khronos_validator_has_nothing_to_say(tmp_path: Path) -> None:
    """The reference validator finds no errors, and no warnings but the one that it has for Avaturn's own exports."""
    for number, (body, models, options) in enumerate(CASES):
        (tmp_path / f"{number:02}.glb").write_bytes(build_glb(body=body, models=models, **options))
    reports = node(HERE / "validate.mjs", *sorted(tmp_path.iterdir()), modules=node_modules("gltf-validator"))
    assert len(CASES) == len(reports)
    for report in reports:
        messages = report["issues"]["messages"]
        found = [
            message
            for message in messages
            if message["severity"] < 2 and message["code"] != "NODE_SKINNED_MESH_NON_ROOT"
        ]
        assert [] == found
        assert 0 == report["issues"]["numErrors"]
        assert not report["issues"]["truncated"]


@pytest.mark.parametrize("body", BODIES)
def test_three_plays_a_clip_made_for_avaturn(tmp_path: Path, body: Any) -> None:
    """A clip that turns every measured joint by name leaves the feet on the ground, and so does the idle clip."""
    (tmp_path / "model.glb").write_bytes(build_glb(body=body))
    (tmp_path / "clip.json").write_text(json.dumps(_clip()))
    (result,) = browse(tmp_path, "three.html", "three")
    assert (None, []) == (result.get("error"), result["trouble"])
    assert all(abs(height) < 0.1 for height in result["feet"] + result["idle"])
    assert set(rest_pose()) == set(result["turned"])
    assert all(angle > math.radians(2) for angle in result["turned"].values())
    _look(tmp_path / "three.png", f"three-{body}")


def test_talkinghead_speaks(tmp_path: Path) -> None:
    """It loads the default model, and its visemes move the head, the teeth and the tongue."""
    (tmp_path / "model.glb").write_bytes(build_glb())
    (result,) = browse(tmp_path, "talkinghead.html", "three", "@met4citizen/talkinghead")
    assert (None, []) == (result.get("error"), result["trouble"])
    assert {"Head_Mesh", "Teeth_Mesh", "Tongue_Mesh"} == set(result["strongest"])
    for strengths in result["strongest"].values():
        assert {name.removeprefix("viseme_") for name in morph_targets()["Teeth_Mesh"] if "viseme" in name} - {
            "sil"
        } == set(strengths)
        assert all(strength >= 0.3 for strength in strengths.values())
    assert 1.8 < result["height"] < 2.0
    _look(tmp_path / "talkinghead.png", "talkinghead")


def browse(folder: Path, page: str, *packages: str) -> Any:
    """Open a page in Chromium."""
    modules = node_modules("playwright-core", *packages)
    return node(HERE / "browse.mjs", folder, page, modules=modules, browser=chromium())


def _clip() -> dict[str, Any]:
    """Swing each joint of the rest pose by five degrees about its own X axis, and back."""
    angle = math.radians(5) / 2
    tracks = [{"name": "Hips.position", "type": "vector", "times": [0], "values": rest_pose()["Hips"].translation}]
    for name, joint in rest_pose().items():
        swung = product(joint.rotation, (math.sin(angle), 0.0, 0.0, math.cos(angle)))
        back = product(joint.rotation, (-math.sin(angle), 0.0, 0.0, math.cos(angle)))
        values = [value for key in (joint.rotation, swung, joint.rotation, back, joint.rotation) for value in key]
        tracks.append(
            {"name": f"{name}.quaternion", "type": "quaternion", "times": [0, 0.5, 1, 1.5, 2], "values": values}
        )
    return {"name": "swing", "duration": 2, "tracks": tracks}


def _look(picture: Path, name: str) -> None:
    """Check that a screenshot shows something; keep it if AVATURN_SCREENSHOTS names a folder."""
    with Image.open(picture) as image:
        colors = image.convert("RGB").getcolors(400 * 400)
    assert len(colors or ()) > 1000, "the screenshot shows no model"
    if folder := os.environ.get("AVATURN_SCREENSHOTS"):
        shutil.copy(picture, Path(folder) / f"{name}.png")

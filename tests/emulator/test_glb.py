"""The models of the emulator are valid, and are people."""

import io
import itertools
import json
import math
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pygltflib  # type: ignore[import-untyped, unused-ignore]
import pytest
from PIL import Image

from avaturn_async.emulator.glb import ARKIT_SHAPES, MAX_SIZE, OCULUS_VISEMES, build_glb

Body = Literal["T1", "T2"]
BODIES: tuple[Body, ...] = ("T1", "T2")
TOLERANCE = 64 * 1024

# fmt: off
ARKIT = [
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen",
    "jawRight", "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight",
    "mouthFunnel", "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight",
    "mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper",
    "mouthSmileLeft", "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft",
    "mouthUpperUpRight", "noseSneerLeft", "noseSneerRight", "tongueOut",
]
# fmt: on
SOUNDS = ("sil", "PP", "FF", "TH", "DD", "kk", "CH", "SS", "nn", "RR", "aa", "E", "I", "O", "U")
VISEMES = [f"viseme_{sound}" for sound in SOUNDS]

FORMATS = {5121: "B", 5123: "H", 5126: "f"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}

Row = tuple[float, ...]


@dataclass
class Model:
    """A GLB as pygltflib reads it, with what its accessors hold."""

    gltf: Any

    @classmethod
    def of(cls, data: bytes) -> "Model":
        """Parse a GLB."""
        return cls(pygltflib.GLTF2.load_from_bytes(data))

    def rows(self, index: int) -> list[Row]:
        """Read an accessor, sparse or not, scaled if it is normalized."""
        accessor = self.gltf.accessors[index]
        if accessor.sparse is None:
            rows = self._read(
                accessor.bufferView, accessor.byteOffset, accessor.componentType, accessor.type, accessor.count
            )
            return [tuple(value / 255 for value in row) for row in rows] if accessor.normalized else rows
        rows = [(0.0,) * WIDTHS[accessor.type]] * accessor.count
        for position, row in self.sparse(index).items():
            rows[position] = row
        return rows

    def sparse(self, index: int) -> dict[int, Row]:
        """Read the rows that a sparse accessor replaces."""
        accessor = self.gltf.accessors[index]
        at, to = accessor.sparse.indices, accessor.sparse.values
        where = self._read(at.bufferView, at.byteOffset, at.componentType, "SCALAR", accessor.sparse.count)
        what = self._read(to.bufferView, to.byteOffset, accessor.componentType, accessor.type, accessor.sparse.count)
        return {int(position): row for (position,), row in zip(where, what, strict=True)}

    def primitive(self, name: str) -> Any:
        """Return the primitive of the mesh of that name."""
        (mesh,) = (mesh for mesh in self.gltf.meshes if mesh.name == name)
        return mesh.primitives[0]

    def primitives(self) -> Iterator[Any]:
        """Go through the primitives of all meshes."""
        return (primitive for mesh in self.gltf.meshes for primitive in mesh.primitives)

    def target(self, name: str) -> dict[int, Row]:
        """Return what a morph target of the head moves."""
        (mesh,) = (mesh for mesh in self.gltf.meshes if mesh.name == "Head_Mesh")
        return self.sparse(mesh.primitives[0].targets[mesh.extras["targetNames"].index(name)]["POSITION"])

    def image(self) -> Image.Image:
        """Open the texture."""
        view = self.gltf.bufferViews[self.gltf.images[0].bufferView]
        return Image.open(io.BytesIO(self.gltf.binary_blob()[view.byteOffset : view.byteOffset + view.byteLength]))

    def _read(self, view: int, offset: int | None, component: int, kind: str, count: int) -> list[Row]:
        layout = struct.Struct(f"<{WIDTHS[kind]}{FORMATS[component]}")
        start = self.gltf.bufferViews[view].byteOffset + (offset or 0)
        return list(layout.iter_unpack(self.gltf.binary_blob()[start : start + count * layout.size]))


@pytest.fixture(scope="module", params=BODIES)
def model(request: pytest.FixtureRequest) -> Model:
    """Give a model of each body type."""
    return Model.of(build_glb(body=request.param))


@pytest.fixture(scope="module")
def talking() -> Model:
    """Give a model with a face that moves."""
    return Model.of(build_glb(body="T2"))


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("size", [None, 1_000_000])
def test_header_declares_the_length_of_the_file(body: Body, size: int | None) -> None:
    """The container is a GLB 2 of a JSON and a binary chunk, all lengths right and aligned."""
    data = build_glb(body=body, size=size)
    magic, version, length, json_length, json_kind = struct.unpack_from("<4sIII4s", data)
    binary_length, binary_kind = struct.unpack_from("<I4s", data, 20 + json_length)
    assert (b"glTF", 2, len(data)) == (magic, version, length)
    assert (b"JSON", b"BIN\0") == (json_kind, binary_kind)
    assert len(data) == 28 + json_length + binary_length
    assert 0 == json_length % 4 == binary_length % 4
    assert "avaturn-async emulator" == json.loads(data[20 : 20 + json_length])["asset"]["generator"]


def test_same_arguments_give_the_same_bytes() -> None:
    """A model is a function of its arguments, whatever was built before."""
    first = build_glb(seed=3, body="T2")
    build_glb(seed=4, body="T1", size=400_000)
    assert first == build_glb(seed=3, body="T2")


def test_seeds_and_bodies_give_different_models() -> None:
    """No two of a handful of avatars look the same."""
    models = {build_glb(seed=seed, body=body) for seed in range(8) for body in BODIES}
    assert 16 == len(models)


def test_natural_size_is_modest() -> None:
    """A model without a size is some hundred kilobytes, the one without expressions the smaller one."""
    assert 100_000 < len(build_glb(body="T1")) < len(build_glb(body="T2")) < 350_000


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("size", [400_000, 400_001, 500_003, 1_000_000, 5_000_000, 30_000_000])
def test_size_is_reached_and_hardly_exceeded(body: Body, size: int) -> None:
    """A size is a lower bound that the file exceeds by 64 KiB at most."""
    assert size <= len(build_glb(body=body, size=size)) <= size + TOLERANCE


def test_largest_size_is_allowed() -> None:
    """The limit itself is a size."""
    assert MAX_SIZE <= len(build_glb(size=MAX_SIZE)) <= MAX_SIZE + TOLERANCE


@pytest.mark.parametrize("body", BODIES)
def test_tiny_size_gives_the_smallest_model(body: Body) -> None:
    """A size that no model can have gives the smallest one."""
    assert build_glb(body=body, size=1) == build_glb(body=body, size=10_000)


@pytest.mark.parametrize("size", [0, -1, MAX_SIZE + 1])
def test_nonsensical_size_is_refused(size: int) -> None:
    """A size outside the limits is a ValueError that names it."""
    with pytest.raises(ValueError, match=f"size must be from 1 to {MAX_SIZE} bytes, not {size}"):
        build_glb(size=size)


def test_unknown_body_is_refused() -> None:
    """A body type that Avaturn does not have is a ValueError that names it."""
    with pytest.raises(ValueError, match="body must be 'T1' or 'T2', not 'T3'"):
        build_glb(body="T3")  # type: ignore[arg-type]


def test_meshes_have_the_names_of_avaturn() -> None:
    """The meshes of each body type are called as in Avaturn's own exports."""
    dressed = ["avaturn_hair_0", "avaturn_look_0", "avaturn_shoes_0"]
    names = {body: [mesh.name for mesh in Model.of(build_glb(body=body)).gltf.meshes] for body in BODIES}
    assert ["avaturn_body", *dressed] == names["T1"]
    assert ["Body_Mesh", "Head_Mesh", "Eye_Mesh", "Teeth_Mesh", *dressed] == names["T2"]


def test_skeleton_has_the_joints_of_mixamo(model: Model) -> None:
    """One skin has the spine, the limbs and the fingers."""
    (skin,) = model.gltf.skins
    names = {model.gltf.nodes[joint].name for joint in skin.joints}
    limbs = ("Shoulder", "Arm", "ForeArm", "Hand", "UpLeg", "Leg", "Foot", "ToeBase")
    fingers = [f"Hand{finger}{link}" for finger in ("Thumb", "Index", "Middle", "Ring", "Pinky") for link in (1, 2, 3)]
    sided = {side + name for side in ("Left", "Right") for name in (*limbs, *fingers)}
    assert {"Hips", "Spine", "Spine1", "Spine2", "Neck", "Head"} | sided == names
    assert 52 == len(skin.joints)


@pytest.mark.parametrize(
    ("parent", "child"),
    [("Hips", "Spine"), ("Spine2", "LeftShoulder"), ("RightForeArm", "RightHand"), ("LeftHand", "LeftHandThumb1")],
)
def test_joints_hang_together(model: Model, parent: str, child: str) -> None:
    """A joint is the child of the one that carries it."""
    nodes = model.gltf.nodes
    (carrier,) = (node for node in nodes if node.name == parent)
    assert child in [nodes[index].name for index in carrier.children]


def test_inverse_bind_matrices_undo_the_pose(model: Model) -> None:
    """In the pose of the file every joint leaves the mesh where it is."""
    places = dict(_places(model, model.gltf.skins[0].skeleton))
    matrices = model.rows(model.gltf.skins[0].inverseBindMatrices)
    for joint, matrix in zip(model.gltf.skins[0].joints, matrices, strict=True):
        assert places[joint] == pytest.approx([-value for value in matrix[12:15]], abs=1e-5)


def test_joints_are_mirrored(model: Model) -> None:
    """Left is towards +X, and right its mirror image."""
    nodes = model.gltf.nodes
    places = {nodes[joint].name: place for joint, place in _places(model, model.gltf.skins[0].skeleton)}
    x, y, z = places["LeftHandPinky3"]
    assert x > 0.5
    assert (-x, y, z) == pytest.approx(places["RightHandPinky3"])


def test_every_vertex_has_the_attributes_of_a_skinned_mesh(model: Model) -> None:
    """Each primitive is indexed, lit, textured and skinned."""
    for primitive in model.primitives():
        attributes = primitive.attributes
        used = (
            attributes.POSITION,
            attributes.NORMAL,
            attributes.TEXCOORD_0,
            attributes.JOINTS_0,
            attributes.WEIGHTS_0,
        )
        counts = {model.gltf.accessors[index].count for index in used}
        assert 1 == len(counts)
        assert set(range(counts.pop())) == {int(index) for (index,) in model.rows(primitive.indices)}


def test_weights_add_up_to_one(model: Model) -> None:
    """The four weights of a vertex add up to 1, and those that count name different joints of the skin."""
    joints = len(model.gltf.skins[0].joints)
    for primitive in model.primitives():
        bones = model.rows(primitive.attributes.JOINTS_0)
        weights = model.rows(primitive.attributes.WEIGHTS_0)
        for row, shares in zip(bones, weights, strict=True):
            used = [bone for bone, share in zip(row, shares, strict=True) if share]
            assert 1.0 == pytest.approx(sum(shares))
            assert len(used) == len(set(used))
            assert max(row) < joints


def test_weights_are_smooth_across_the_elbow(model: Model) -> None:
    """Around the elbow the forearm takes over from the arm little by little."""
    primitive = next(iter(model.primitives()))
    names = [model.gltf.nodes[joint].name for joint in model.gltf.skins[0].joints]
    elbow = names.index("LeftForeArm")
    columns = (primitive.attributes.POSITION, primitive.attributes.JOINTS_0, primitive.attributes.WEIGHTS_0)
    shares: dict[float, float] = {}
    for (x, _, _), bones, weights in zip(*map(model.rows, columns), strict=True):
        if 0.3 < x < 0.6:
            shares[x] = dict(zip(bones, weights, strict=True)).get(elbow, 0.0)
    along = [shares[x] for x in sorted(shares)]
    assert along == sorted(along)
    assert any(0.2 < share < 0.8 for share in along)


def test_normals_are_unit_vectors(model: Model) -> None:
    """Light falls evenly: every normal has the length 1."""
    for primitive in model.primitives():
        lengths = [math.hypot(*normal) for normal in model.rows(primitive.attributes.NORMAL)]
        assert [1.0] * len(lengths) == pytest.approx(lengths, abs=1e-5)


def test_surfaces_face_outwards(model: Model) -> None:
    """Each mesh encloses a positive volume: its triangles are counter-clockwise from outside."""
    for primitive in model.primitives():
        points = model.rows(primitive.attributes.POSITION)
        corners = [points[int(index)] for (index,) in model.rows(primitive.indices)]
        assert sum(_signed_volume(*triangle) for triangle in zip(*[iter(corners)] * 3, strict=True)) > 0


def test_bounds_are_those_of_the_points(model: Model) -> None:
    """The declared minimum and maximum are exact."""
    for primitive in model.primitives():
        for index in (primitive.attributes.POSITION, *(target["POSITION"] for target in primitive.targets or ())):
            accessor, columns = model.gltf.accessors[index], list(zip(*model.rows(index), strict=True))
            assert accessor.min == [min(column) for column in columns]
            assert accessor.max == [max(column) for column in columns]


def test_figure_has_the_measures_of_a_person(model: Model) -> None:
    """It stands on the ground, as high as its arms reach, and is not thick."""
    points = [point for primitive in model.primitives() for point in model.rows(primitive.attributes.POSITION)]
    (left, right), (bottom, top), (back, front) = [(min(axis), max(axis)) for axis in zip(*points, strict=True)]
    assert 0.0 == pytest.approx(bottom, abs=0.02)
    assert 1.6 < top < 1.9
    assert 1.6 < right - left < 1.9
    assert 0.2 < front - back < 0.4


def test_armature_is_scaled_to_the_height_of_the_seed() -> None:
    """Avatars are of different heights."""
    heights = {tuple(Model.of(build_glb(seed=seed)).gltf.nodes[0].scale) for seed in range(6)}
    assert 6 == len(heights)
    assert all(0.9 < height[0] < 1.1 for height in heights)


def test_moving_body_has_all_expressions(talking: Model) -> None:
    """The head of a T2 has the 52 ARKit shapes and the 15 visemes, and a weight of 0 for each."""
    (mesh,) = (mesh for mesh in talking.gltf.meshes if mesh.name == "Head_Mesh")
    assert sorted(ARKIT + VISEMES) == sorted(mesh.extras["targetNames"])
    assert [0.0] * 67 == mesh.weights
    assert 67 == len(mesh.primitives[0].targets)


def test_names_of_expressions_are_public() -> None:
    """The lists that the package gives are those of ARKit and Oculus."""
    assert sorted(ARKIT) == sorted(ARKIT_SHAPES)
    assert VISEMES == list(OCULUS_VISEMES)


def test_static_body_has_no_expressions() -> None:
    """No mesh of a T1 has morph targets."""
    model = Model.of(build_glb(body="T1"))
    assert all(not primitive.targets for primitive in model.primitives())
    assert all(not mesh.weights and not mesh.extras for mesh in model.gltf.meshes)


def test_eyeballs_move_only_to_look(talking: Model) -> None:
    """The eyes have the eight directions to look in, and none of the other shapes."""
    (mesh,) = (mesh for mesh in talking.gltf.meshes if mesh.name == "Eye_Mesh")
    assert sorted(name for name in ARKIT if name.startswith("eyeLook")) == sorted(mesh.extras["targetNames"])


@pytest.mark.parametrize(("side", "sign"), [("Left", 1), ("Right", -1)])
def test_blink_lowers_the_lid_of_its_side(talking: Model, side: str, sign: int) -> None:
    """A blink moves points of its own side, downwards by a centimetre."""
    points = talking.rows(talking.primitive("Head_Mesh").attributes.POSITION)
    moves = talking.target(f"eyeBlink{side}")
    assert all(points[index][0] * sign > 0 for index in moves)
    assert min(y for _, y, _ in moves.values()) < -0.008


def test_jaw_opens_below_the_mouth(talking: Model) -> None:
    """An open jaw takes the chin down and leaves the eyes where they are."""
    points = talking.rows(talking.primitive("Head_Mesh").attributes.POSITION)
    moves = talking.target("jawOpen")
    assert all(points[index][1] < 1.6 for index in moves)
    assert all(y <= 0 for _, y, _ in moves.values())


def test_expressions_differ() -> None:
    """No two targets of the head are the same."""
    model = Model.of(build_glb())
    shapes = {tuple(sorted(model.target(name).items())) for name in ARKIT + VISEMES}
    assert 67 == len(shapes)


@pytest.mark.parametrize("size", [None, 1, 2_000_000])
def test_texture_is_an_image(size: int | None) -> None:
    """The embedded PNG is whole, RGB, and what all materials show."""
    model = Model.of(build_glb(size=size))
    image = model.image()
    image.load()
    assert ("PNG", "RGB") == (image.format, image.mode)
    assert all(0 == material.pbrMetallicRoughness.baseColorTexture.index for material in model.gltf.materials)


def test_texture_coordinates_stay_inside_the_atlas(model: Model) -> None:
    """No surface leaves the texture."""
    for primitive in model.primitives():
        values = itertools.chain.from_iterable(model.rows(primitive.attributes.TEXCOORD_0))
        assert all(0.0 < value < 1.0 for value in values)


@pytest.mark.npm
def test_khronos_validator_has_nothing_to_say(tmp_path: Path) -> None:
    """The reference validator finds neither errors nor warnings, whatever body, seed and size."""
    modules = _modules_with_validator()
    cases = [(body, seed, size) for body in BODIES for seed, size in ((0, None), (1, None), (2, 1), (3, 2_000_000))]
    for body, seed, size in cases:
        (tmp_path / f"{body}-{seed}.glb").write_bytes(build_glb(seed=seed, body=body, size=size))
    script = Path(__file__).with_name("validate_glb.mjs")
    environment = {**os.environ, "AVATURN_NODE_MODULES": str(modules)}
    command = ["node", str(script), *map(str, sorted(tmp_path.iterdir()))]
    done = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=120)
    reports = json.loads(done.stdout)
    assert len(cases) == len(reports)
    for report in reports:
        found = [message for message in report["issues"]["messages"] if message["severity"] < 2]
        assert (0, 0, []) == (report["issues"]["numErrors"], report["issues"]["numWarnings"], found)


def _modules_with_validator() -> Path:
    """Find the folder that has gltf-validator, or skip the test: fail it if AVATURN_REQUIRE_NPM is 1."""
    stop = pytest.fail if os.environ.get("AVATURN_REQUIRE_NPM") == "1" else pytest.skip
    if shutil.which("node") is None:
        stop("node is not installed")
    folders = [
        os.environ.get("AVATURN_NODE_MODULES", ""),
        *os.environ.get("NODE_PATH", "").split(os.pathsep),
        "node_modules",
    ]
    for folder in folders:
        if folder and (Path(folder) / "gltf-validator").is_dir():
            return Path(folder).resolve()
    return stop("the npm package gltf-validator is in none of AVATURN_NODE_MODULES, NODE_PATH, node_modules")


def _places(model: Model, root: int) -> Iterator[tuple[int, Row]]:
    """Give each joint below `root` and where it is, in metres from the armature."""
    stack: list[tuple[int, Row]] = [(root, (0.0, 0.0, 0.0))]
    while stack:
        index, origin = stack.pop()
        node = model.gltf.nodes[index]
        place = tuple(a + b for a, b in zip(origin, node.translation, strict=True))
        yield index, place
        stack += [(child, place) for child in node.children or ()]


def _signed_volume(p: Row, q: Row, r: Row) -> float:
    return (
        p[0] * (q[1] * r[2] - q[2] * r[1]) + p[1] * (q[2] * r[0] - q[0] * r[2]) + p[2] * (q[0] * r[1] - q[1] * r[0])
    ) / 6

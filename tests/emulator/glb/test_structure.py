"""The emulator's models have the structure of Avaturn's exports, and are people."""

from __future__ import annotations

import itertools
import json
import statistics
import struct
import time
from collections import Counter

import pytest

from avaturn_async.emulator.glb.model import build_glb
from avaturn_async.emulator.glb.tables import MAX_SIZE

from .kit import BODIES, Body, Model, exports, length, model, morph_targets, product, rest_pose, rotated

WEIGHTS = ("full", "small")


@pytest.fixture(params=BODIES)
def body(request: pytest.FixtureRequest) -> Body:
    """Give each body type."""
    return request.param


@pytest.mark.parametrize("size", [None, 400_000])
def test_header_declares_the_length_of_the_file(body: Body, size: int | None) -> None:
    """The container is a GLB 2 of a JSON and a binary chunk, all lengths right and aligned."""
    data = build_glb(body=body, models="small", size=size)
    magic, version, total, json_length, json_kind = struct.unpack_from("<4sIII4s", data)
    binary_length, binary_kind = struct.unpack_from("<I4s", data, 20 + json_length)
    assert (b"glTF", 2, len(data)) == (magic, version, total)
    assert (b"JSON", b"BIN\0") == (json_kind, binary_kind)
    assert len(data) == 28 + json_length + binary_length
    assert 0 == json_length % 4 == binary_length % 4
    document = json.loads(data[20 : 20 + json_length])
    assert "avaturn-async emulator" == document["asset"]["generator"]
    assert [{"byteLength": binary_length}] == document["buffers"]


def test_same_arguments_give_the_same_bytes() -> None:
    """A model is a function of its arguments, whatever was built before."""
    first = build_glb(seed=3, body="T2", models="small")
    build_glb(seed=4, body="T1", models="small", size=400_000)
    assert first == build_glb(seed=3, body="T2", models="small")


@pytest.mark.slow
def test_later_models_cost_little(body: Body) -> None:
    """Shapes are built once: a model of another avatar takes less than 50 ms of processor time."""
    taken = []
    for seed in range(9):
        started = time.thread_time()
        build_glb(seed=seed, body=body)
        taken.append(time.thread_time() - started)
    assert statistics.median(taken) < 0.05


def test_seeds_and_bodies_give_different_models() -> None:
    """No two of a handful of avatars have the same model."""
    models = {build_glb(seed=seed, body=body, models="small") for seed in range(8) for body in BODIES}
    assert 16 == len(models)


@pytest.mark.parametrize("size", [400_000, 400_001, 5_000_003, MAX_SIZE])
def test_size_is_reached_and_hardly_exceeded(size: int) -> None:
    """A file is as large as asked for, give or take the digits of its lengths."""
    assert size <= len(build_glb(body="T1", models="small", size=size)) <= size + 16


def test_a_size_that_the_model_exceeds_changes_nothing(body: Body) -> None:
    """A size is the least one."""
    assert build_glb(body=body, models="small", size=1) == build_glb(body=body, models="small")


def test_full_models_have_the_weight_of_exports(body: Body) -> None:
    """The file's size, its images and its triangles are within what was measured, or just below."""
    full, measured = model(body, "full"), exports(body)
    low, high = measured["megabytes"]
    assert low * 1e6 < full.size < high * 1e6
    assert measured["images"][0] == len(full.document["images"])
    corners = sum(full.document["accessors"][primitive["indices"]]["count"] for primitive in full.primitives)
    assert 20_000 < corners / 3 < 30_000


def test_small_models_have_the_structure_of_full_ones(body: Body) -> None:
    """Only lengths, counts and bounds differ."""
    full, small = (_outline(model(body, weight).document) for weight in WEIGHTS)
    assert full == small
    assert model(body, "small").size < {"T1": 200_000, "T2": 1_500_000}[body]


@pytest.mark.parametrize("weight", WEIGHTS)
def test_one_root_holds_everything(body: Body, weight: str) -> None:
    """The scene's only root is an `Armature` of scale 1, whose children are the hips and a node for each mesh."""
    read = model(body, weight)
    nodes = read.document["nodes"]
    (scene,) = read.document["scenes"]
    (root,) = scene["nodes"]
    assert "Armature" == nodes[root]["name"]
    assert {"name", "children"} == set(nodes[root])
    below = [nodes[child]["name"] for child in nodes[root]["children"]]
    assert ["Hips", *exports(body)["meshes"]] == below
    assert all(0 == read.node(name)["skin"] for name in below[1:])


@pytest.mark.parametrize("weight", WEIGHTS)
def test_meshes_and_materials_are_named_as_in_exports(body: Body, weight: str) -> None:
    """Names come in the order of the exports."""
    read = model(body, weight)
    assert exports(body)["meshes"] == read.names("meshes")
    assert exports(body)["materials"] == read.names("materials")
    for mesh, name in zip(read.document["meshes"], exports(body)["meshes"], strict=True):
        (primitive,) = mesh["primitives"]
        material = read.names("materials")[primitive["material"]]
        assert material in {name.removesuffix("_Mesh"), f"{name}_material", "Eyes", "Teeth"}


def test_joints_are_those_of_exports(body: Body) -> None:
    """The skin's joints have the names, parents, translations and rotations that were measured."""
    read, measured = model(body), rest_pose()
    (skin,) = read.document["skins"]
    names = [read.document["nodes"][joint]["name"] for joint in skin["joints"]]
    assert [*measured, *(["LeftEye", "RightEye"] if body == "T2" else [])] == names
    assert exports(body)["joints"] == len(names)
    for name, joint in measured.items():
        assert joint.parent == read.parents[name]
        assert joint.translation == pytest.approx(read.node(name)["translation"], abs=1e-6)
        assert joint.rotation == pytest.approx(read.node(name)["rotation"], abs=1e-4)


def test_eyes_hang_below_the_head() -> None:
    """A T2 has a joint in the middle of each eyeball."""
    read = model("T2")
    points = read.attribute("Eye_Mesh", "POSITION")
    for name, sign in (("LeftEye", 1), ("RightEye", -1)):
        assert "Head" == read.parents[name]
        xs, ys, zs = zip(*(point for point in points if point[0] * sign > 0), strict=True)
        middle = [(min(axis) + max(axis)) / 2 for axis in (xs, ys, zs)]
        assert middle == pytest.approx(read.world(name)[0], abs=1e-4)


def test_inverse_bind_matrices_undo_the_rest_pose(body: Body) -> None:
    """In the pose of the file every joint leaves the mesh where it is."""
    read = model(body)
    (skin,) = read.document["skins"]
    matrices = read.rows(skin["inverseBindMatrices"])
    for index, matrix in zip(skin["joints"], matrices, strict=True):
        position, rotation = read.world(read.document["nodes"][index]["name"])
        for column, axis in ((0, (1, 0, 0)), (4, (0, 1, 0)), (8, (0, 0, 1))):
            assert axis == pytest.approx(rotated(rotation, matrix[column : column + 3]), abs=1e-5)
        back = rotated(rotation, matrix[12:15])
        assert position == pytest.approx([-value for value in back], abs=1e-5)


def test_assets_that_are_worn_have_meshes_with_their_names(body: Body) -> None:
    """A mesh for each slot that is not empty, and the name of its asset with it."""
    worn = {"clothing": "hoodie", "hair_and_headwear": "bob"}
    read = Model(build_glb(body=body, models="small", worn=worn))
    assets = {mesh["name"]: mesh.get("extras", {}).get("asset") for mesh in read.document["meshes"]}
    assert {"avaturn_hair_0": "bob", "avaturn_hair_1": "bob", "avaturn_look_0": "hoodie"} == {
        name: asset for name, asset in assets.items() if name.startswith("avaturn_") and name != "avaturn_body"
    }
    assert "extensionsUsed" not in read.document


def test_nothing_worn_leaves_a_whole_body(body: Body) -> None:
    """Legs and feet are skin where nothing covers them."""
    read = Model(build_glb(body=body, models="small", worn={}))
    points = read.attribute({"T1": "avaturn_body", "T2": "Body_Mesh"}[body], "POSITION")
    assert min(y for _, y, _ in points) < 0.02
    assert not any(name.startswith("avaturn_") and name != "avaturn_body" for name in read.names("meshes"))


def test_every_vertex_has_the_attributes_of_a_skinned_mesh(body: Body) -> None:
    """Each primitive is indexed, lit, textured and skinned, and uses each of its vertices."""
    read = model(body)
    names = {"POSITION", "NORMAL", "TANGENT", "TEXCOORD_0", "JOINTS_0", "WEIGHTS_0"}
    for primitive in read.primitives:
        assert names == set(primitive["attributes"])
        (count,) = {read.document["accessors"][index]["count"] for index in primitive["attributes"].values()}
        assert set(range(count)) == {index for (index,) in read.rows(primitive["indices"])}


def test_weights_add_up_to_one(body: Body) -> None:
    """The weights of a vertex add up to 1, and those that count name different joints of the skin."""
    read = model(body)
    joints = len(read.document["skins"][0]["joints"])
    for primitive in read.primitives:
        bones, weights = (read.rows(primitive["attributes"][name]) for name in ("JOINTS_0", "WEIGHTS_0"))
        for row, shares in zip(bones, weights, strict=True):
            used = [bone for bone, share in zip(row, shares, strict=True) if share]
            assert 1.0 == pytest.approx(sum(shares))
            assert len(used) == len(set(used))
            assert max(row) < joints


def test_weights_are_smooth_across_the_elbow() -> None:
    """Around the elbow the forearm takes over from the arm little by little."""
    read = model("T2", "full")
    joints = read.document["skins"][0]["joints"]
    elbow = [read.document["nodes"][joint]["name"] for joint in joints].index("LeftForeArm")
    columns = (read.attribute("Body_Mesh", name) for name in ("POSITION", "JOINTS_0", "WEIGHTS_0"))
    shares: dict[float, float] = {}
    for (x, _, _), bones, weights in zip(*columns, strict=True):
        if 0.3 < x < 0.6:
            shares[round(x, 3)] = dict(zip(bones, weights, strict=True)).get(elbow, 0.0)
    along = [shares[x] for x in sorted(shares)]
    assert all(before < after + 0.05 for before, after in itertools.pairwise(along))
    assert any(0.2 < share < 0.8 for share in along)


def test_normals_and_tangents_are_unit_vectors(body: Body) -> None:
    """Light falls evenly: normals and tangents have the length 1 and are perpendicular."""
    read = model(body)
    for primitive in read.primitives:
        normals, tangents = (read.rows(primitive["attributes"][name]) for name in ("NORMAL", "TANGENT"))
        for normal, (*tangent, handedness) in zip(normals, tangents, strict=True):
            assert (1.0, 1.0, 1.0) == pytest.approx((length(normal), length(tuple(tangent)), handedness), abs=1e-5)
            assert 0.0 == pytest.approx(sum(map(float.__mul__, normal, tangent)), abs=1e-5)


def test_surfaces_face_outwards(body: Body) -> None:
    """Each mesh encloses a positive volume: its triangles are counter-clockwise from outside."""
    read = model(body)
    for primitive in read.primitives:
        points = read.rows(primitive["attributes"]["POSITION"])
        corners = [points[int(index)] for (index,) in read.rows(primitive["indices"])]
        volume = 0.0
        for p, q, r in zip(*[iter(corners)] * 3, strict=True):
            volume += p[0] * (q[1] * r[2] - q[2] * r[1]) + p[1] * (q[2] * r[0] - q[0] * r[2])
            volume += p[2] * (q[0] * r[1] - q[1] * r[0])
        assert volume > 0


def test_bounds_are_those_of_the_points(body: Body) -> None:
    """The declared minimum and maximum are exact."""
    read = model(body)
    for primitive in read.primitives:
        indices = [
            primitive["attributes"]["POSITION"],
            *(target["POSITION"] for target in primitive.get("targets", ())),
        ]
        for index in indices:
            accessor, columns = read.document["accessors"][index], list(zip(*read.rows(index), strict=True))
            assert accessor["min"] == [min(column) for column in columns]
            assert accessor["max"] == [max(column) for column in columns]


@pytest.mark.parametrize("weight", WEIGHTS)
def test_figure_has_the_measures_of_a_person(body: Body, weight: str) -> None:
    """It stands on the ground, with the head on its joint, as high as its arms reach."""
    read = model(body, weight)
    points = [point for primitive in read.primitives for point in read.rows(primitive["attributes"]["POSITION"])]
    (left, right), (bottom, top), (back, front) = [(min(axis), max(axis)) for axis in zip(*points, strict=True)]
    assert 0.0 == pytest.approx(bottom, abs=0.02)
    assert 1.75 < top < 1.95
    assert 1.65 < right - left < 1.95
    assert 0.2 < front - back < 0.4


def test_body_is_around_its_bones(body: Body) -> None:
    """The elbow, the knee and the ankle are inside the surface that they move."""
    read = model(body, "full")
    for joint, axis in (("LeftForeArm", 0), ("RightForeArm", 0), ("LeftLeg", 1), ("RightFoot", 1)):
        place = read.world(joint)[0]
        near = [
            point
            for primitive in read.primitives
            for point in read.rows(primitive["attributes"]["POSITION"])
            if abs(point[axis] - place[axis]) < 0.03
            and length(tuple(a - b for a, b in zip(point, place, strict=True))) < 0.13
        ]
        for other in {0, 1, 2} - {axis}:
            assert min(point[other] for point in near) < place[other] < max(point[other] for point in near)


def test_clip_is_like_that_of_exports(body: Body) -> None:
    """It has the name, the length and the channels that were measured."""
    read, measured = model(body, "full"), exports(body)
    (clip,) = read.document["animations"]
    assert measured["clip"] == clip["name"]
    assert measured["channels"] == Counter(channel["target"]["path"] for channel in clip["channels"])
    targets = {(channel["target"]["node"], channel["target"]["path"]) for channel in clip["channels"]}
    assert len(clip["channels"]) == len(targets) == len(clip["samplers"])
    (keys,) = {sampler["input"] for sampler in clip["samplers"]}
    assert measured["seconds"] == pytest.approx(read.document["accessors"][keys]["max"][0], abs=0.01)


def test_clip_moves_hips_but_not_feet(body: Body) -> None:
    """The avatar sways by millimetres, its legs keep their rest rotation, and its arms hang."""
    read = model(body)
    (clip,) = read.document["animations"]
    moved = {
        read.document["nodes"][channel["target"]["node"]]["name"]: read.rows(
            clip["samplers"][channel["sampler"]]["output"]
        )
        for channel in clip["channels"]
        if channel["target"]["path"] == "rotation"
    }
    assert all(
        rotation == pytest.approx(read.node(name)["rotation"], abs=1e-6)
        for name in ("LeftUpLeg", "RightLeg", "LeftFoot")
        for rotation in moved[name]
    )
    _, shoulder = read.world("LeftShoulder")
    for rotation in moved["LeftArm"]:
        assert rotated(product(shoulder, rotation), (0.0, 1.0, 0.0))[1] < -0.8


def test_clip_blinks() -> None:
    """The eyes of a T2 close and open again, all meshes at once."""
    read = model("T2", "full")
    (clip,) = read.document["animations"]
    for mesh in ("Head_Mesh", "Eye_Mesh", "Eyelash_Mesh"):
        node = read.names("nodes").index(mesh)
        (channel,) = (one for one in clip["channels"] if one["target"] == {"node": node, "path": "weights"})
        names = read.mesh(mesh)["extras"]["targetNames"]
        weights = [value for (value,) in read.rows(clip["samplers"][channel["sampler"]]["output"])]
        shut = weights[names.index("eyesClosed") :: len(names)]
        assert (0.0, True, 0.0) == (shut[0], max(shut) > 0.9, shut[-1])


def test_clip_can_be_left_out(body: Body) -> None:
    """Some exports have none."""
    read = Model(build_glb(body=body, models="small", idle_clip=False))
    assert "animations" not in read.document


def test_static_body_has_no_morph_targets() -> None:
    """No mesh of a T1 has an expression."""
    assert all("targets" not in primitive for primitive in model("T1").primitives)
    assert all("weights" not in mesh and "extras" not in mesh for mesh in model("T1").document["meshes"])


@pytest.mark.parametrize("weight", WEIGHTS)
def test_morph_targets_are_those_of_exports(weight: str) -> None:
    """Each mesh of a T2 has the morph targets that were measured, in their order, with POSITION and NORMAL."""
    read = model("T2", weight)
    named = {mesh["name"]: mesh["extras"]["targetNames"] for mesh in read.document["meshes"] if "weights" in mesh}
    assert morph_targets() == named
    for name, targets in named.items():
        mesh = read.mesh(name)
        assert [0.0] * len(targets) == mesh["weights"]
        assert [{"POSITION", "NORMAL"}] * len(targets) == [set(target) for target in mesh["primitives"][0]["targets"]]


def test_texture_coordinates_stay_inside_their_textures(body: Body) -> None:
    """No surface leaves its texture."""
    read = model(body)
    for primitive in read.primitives:
        values = itertools.chain.from_iterable(read.rows(primitive["attributes"]["TEXCOORD_0"]))
        assert all(0.0 < value < 1.0 for value in values)


def _outline(document: dict[str, object]) -> object:
    """Drop from a document what depends on the number of vertices, pixels and keys."""
    counted = {"byteLength", "byteOffset", "count", "min", "max"}
    return json.loads(
        json.dumps(document), object_hook=lambda found: {name: found[name] for name in found if name not in counted}
    )

"""The glTF document of an avatar: its nodes, skin, meshes and materials."""

import random
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

from . import face, figure
from .container import Buffer, frame
from .figure import Part
from .morphs import EYEBALLS, FACE, TARGETS, displacements
from .skeleton import INFLUENCES, JOINTS, Weights, weigh
from .surface import Vec, normals
from .texture import atlas_uv

__all__ = ["Body", "assemble"]

Body = Literal["T1", "T2"]

GENERATOR = "avaturn-async emulator"


class Look(NamedTuple):
    """A mesh to be: its name, its material's name and roughness, its parts, and the regions of the face in it."""

    name: str
    material: str
    roughness: float
    parts: Sequence[Part]
    regions: frozenset[str] = frozenset()


class Shape(NamedTuple):
    """What all avatars of one body type and hair have in common."""

    document: dict[str, Any]
    data: bytes


def assemble(*, seed: int, body: Body, texture: bytes) -> bytes:
    """Put a body and its texture, a PNG, into a GLB. The seed chooses the height and the hair."""
    # Not the dice of the palette: whoever drew a dark shirt would be tall.
    dice = random.Random(f"figure {seed}")
    height = 0.92 + 0.14 * dice.random()
    shape = _shape(body, dice.random() < 0.5)
    document = dict(shape.document)
    armature, *others = document["nodes"]
    document["nodes"] = [{**armature, "scale": [height] * 3}, *others]
    document["bufferViews"] = [
        *document["bufferViews"],
        {"buffer": 0, "byteOffset": len(shape.data), "byteLength": len(texture)},
    ]
    document["buffers"] = [{"byteLength": len(shape.data) + len(texture)}]
    return frame(document, shape.data, texture)


@cache
def _shape(body: Body, long_hair: bool) -> Shape:
    buffer = Buffer()
    looks = list(_looks(body, long_hair=long_hair))
    meshes = [_mesh(buffer, index, look) for index, look in enumerate(looks)]
    binds = buffer.add_vectors([_bind_matrix(joint.head) for joint in JOINTS], "MAT4", target=None)
    bones = range(1, 1 + len(JOINTS))
    skinned = [{"name": look.name, "mesh": index, "skin": 0} for index, look in enumerate(looks)]
    buffer.data += bytes(-len(buffer.data) % 4)
    document = {
        "asset": {"version": "2.0", "generator": GENERATOR, "extras": {"bodyType": body}},
        "scene": 0,
        # Skinned meshes are roots, because the transforms of their parents would not count.
        "scenes": [{"name": "Scene", "nodes": [0, *range(bones.stop, bones.stop + len(looks))]}],
        "nodes": [{"name": "Armature", "children": [bones.start]}, *_bones(bones.start), *skinned],
        "skins": [{"name": "Armature", "joints": list(bones), "skeleton": bones.start, "inverseBindMatrices": binds}],
        "meshes": meshes,
        "materials": [_material(look) for look in looks],
        "textures": [{"sampler": 0, "source": 0}],
        "samplers": [{"magFilter": 9729, "minFilter": 9729, "wrapS": 33071, "wrapT": 33071}],
        "images": [{"name": "atlas", "mimeType": "image/png", "bufferView": len(buffer.views)}],
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
    }
    return Shape(document, bytes(buffer.data))


def _looks(body: Body, *, long_hair: bool) -> Iterable[Look]:
    """Divide the figure into meshes with the names that Avaturn's two body types have."""
    if body == "T1":
        parts = [*face.head(), *face.eyes(), *figure.bare_arms()]
        yield Look("avaturn_body", "avaturn_body_material", 0.6, parts)
    else:
        yield Look("Body_Mesh", "Body", 0.6, list(figure.bare_arms()))
        yield Look("Head_Mesh", "Head", 0.6, list(face.head()), regions=FACE)
        yield Look("Eye_Mesh", "Eyes", 0.15, list(face.eyes()), regions=EYEBALLS)
        yield Look("Teeth_Mesh", "Teeth", 0.3, list(face.teeth()))
    yield Look("avaturn_hair_0", "avaturn_hair_0_material", 0.75, list(face.hair(long=long_hair)))
    yield Look("avaturn_look_0", "avaturn_look_0_material", 0.9, list(figure.clothes()))
    yield Look("avaturn_shoes_0", "avaturn_shoes_0_material", 0.5, list(figure.shoes()))


def _mesh(buffer: Buffer, material: int, look: Look) -> dict[str, Any]:
    points = [point for part in look.parts for point in part.surface.points]
    triangles = list(_joined(look.parts))
    weights = [_padded(weigh(point, part.bones)) for part in look.parts for point in part.surface.points]
    primitive: dict[str, Any] = {
        "attributes": {
            "POSITION": buffer.add_positions(points),
            "NORMAL": buffer.add_vectors(normals(points, triangles), "VEC3"),
            "TEXCOORD_0": buffer.add_vectors(
                [atlas_uv(part.swatch, u, v) for part in look.parts for u, v in part.surface.uvs], "VEC2"
            ),
            "JOINTS_0": buffer.add_bytes([[bone for bone, _ in row] for row in weights]),
            "WEIGHTS_0": buffer.add_bytes([[weight for _, weight in row] for row in weights], normalized=True),
        },
        "indices": buffer.add_indices(triangles),
        "material": material,
    }
    mesh: dict[str, Any] = {"name": look.name, "primitives": [primitive]}
    return {**mesh, **_morph(buffer, primitive, points, look.regions)} if look.regions else mesh


def _morph(buffer: Buffer, primitive: dict[str, Any], points: Sequence[Vec], regions: frozenset[str]) -> dict[str, Any]:
    moves = displacements(points, regions)
    primitive["targets"] = [{"POSITION": index} for index in buffer.add_sparse(list(moves.values()), len(points))]
    return {"weights": [0.0] * len(moves), "extras": {"targetNames": [name for name in TARGETS if name in moves]}}


def _joined(parts: Iterable[Part]) -> Iterable[tuple[int, int, int]]:
    start = 0
    for part in parts:
        yield from ((start + i, start + j, start + k) for i, j, k in part.surface.triangles)
        start += len(part.surface.points)


def _padded(weights: Weights) -> Weights:
    return weights + [(0, 0)] * (INFLUENCES - len(weights))


def _bones(start: int) -> Iterable[dict[str, Any]]:
    index = {joint.name: number for number, joint in enumerate(JOINTS, start)}
    for joint in JOINTS:
        x, y, z = JOINTS[index[joint.parent] - start].head if joint.parent else (0.0, 0.0, 0.0)
        node: dict[str, Any] = {"name": joint.name}
        node["translation"] = [round(joint.head[0] - x, 6), round(joint.head[1] - y, 6), round(joint.head[2] - z, 6)]
        children = [index[child.name] for child in JOINTS if child.parent == joint.name]
        yield {**node, "children": children} if children else node


def _bind_matrix(head: Vec) -> Sequence[float]:
    x, y, z = head
    return (1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, -x, -y, -z, 1)


def _material(look: Look) -> dict[str, Any]:
    surface = {"baseColorTexture": {"index": 0}, "metallicFactor": 0.0, "roughnessFactor": look.roughness}
    return {"name": look.material, "pbrMetallicRoughness": surface}

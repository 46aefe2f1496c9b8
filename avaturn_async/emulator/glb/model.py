"""A model: meshes, materials, skin and clip of an avatar, as in Avaturn's exports."""

from __future__ import annotations

import random
from array import array
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from . import idle
from .container import INDICES, VERTICES, Block, Document
from .expressions import displacements
from .figure import parts
from .geometry import cross, normals, unit
from .palette import Palette, choose
from .skeleton import JOINTS, weigh
from .tables import Body, Models, load, morph_targets
from .textures import AREAS, picture

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from .figure import Part
    from .geometry import Vec

__all__ = ["assemble"]

GENERATOR = "avaturn-async emulator"
DETAIL = {"full": 3, "small": 1}
KEY_STEP = {"full": 1, "small": 30}
SMALL_TEXTURE = 32
CLIP_NAMES = {"T1": "IdleV4.2(maya_head)", "T2": "avaturn_animation"}


class Shape(NamedTuple):
    """A mesh as a block of the buffer, and the accessors of its primitive, counted from the first of the block."""

    block: Block
    attributes: Mapping[str, int]
    indices: int
    targets: Sequence[Mapping[str, int]]


def assemble(*, seed: int, body: Body, models: Models, worn: Mapping[str, str | None], idle_clip: bool) -> Document:
    """Put the meshes, textures, skin and clip of an avatar into a document."""
    tables = load("avatar")
    meshes = [*tables[body], *(mesh for mesh in tables["worn"] if mesh["slot"] in worn)]
    meshes[0] = {**meshes[0], "groups": [*meshes[0]["groups"], *_uncovered(worn)]}
    materials = list(dict.fromkeys(mesh["material"] for mesh in meshes))
    joints = tuple(name for name in JOINTS if body == "T2" or not name.endswith("Eye"))
    document = Document({"asset": {"version": "2.0", "generator": GENERATOR, "extras": {"seed": seed}}, "scene": 0})
    description = document.description
    description["scenes"] = [{"name": "Scene", "nodes": [0]}]
    description["nodes"] = _nodes(joints, [mesh["name"] for mesh in meshes])
    binds = document.add(_binds(joints))
    description["skins"] = [{"name": "Armature", "joints": [*range(1, 1 + len(joints))], "inverseBindMatrices": binds}]
    description["meshes"] = [
        _mesh(document, mesh, materials.index(mesh["material"]), joints, DETAIL[models]) for mesh in meshes
    ]
    palette = choose(random.Random(seed))
    description["materials"] = [_material(document, name, palette, models) for name in materials]
    description["samplers"] = [{"magFilter": 9729, "minFilter": 9987}]
    if "eyewear" in worn:
        description["extensionsUsed"] = ["KHR_materials_ior"]
    if idle_clip:
        description["animations"] = [_clip(document, body, KEY_STEP[models])]
    for mesh, described in zip(meshes, description["meshes"], strict=True):
        if asset := worn.get(mesh.get("slot")):
            described["extras"] = {"asset": asset}
    return document


def _uncovered(worn: Mapping[str, str | None]) -> Iterator[str]:
    """Name the groups of surfaces that are skin, as nothing covers it."""
    for mesh in load("avatar")["worn"]:
        if mesh["slot"] in ("clothing", "footwear") and mesh["slot"] not in worn:
            yield from mesh["groups"]


def _nodes(joints: Sequence[str], meshes: Sequence[str]) -> list[dict[str, Any]]:
    """Make one root, the joints below it, and a node for each mesh beside the hips."""
    first = 1 + len(joints)
    nodes: list[dict[str, Any]] = [{"name": "Armature", "children": [1, *range(first, first + len(meshes))]}]
    for name in joints:
        joint = JOINTS[name]
        node = {"name": name, "translation": joint.translation, "rotation": joint.rotation}
        children = [index for index, child in enumerate(joints, 1) if JOINTS[child].parent == name]
        nodes.append({**node, "children": children} if children else node)
    return [*nodes, *({"name": name, "mesh": index, "skin": 0} for index, name in enumerate(meshes))]


@cache
def _binds(joints: Sequence[str]) -> Block:
    block = Block()
    block.add(_floats(JOINTS[name].inverse_bind_matrix for name in joints), 16)
    return block


def _mesh(
    document: Document, mesh: Mapping[str, Any], material: int, joints: tuple[str, ...], detail: int
) -> dict[str, Any]:
    shape = _shape(mesh["name"], tuple(mesh["groups"]), mesh.get("moved_by"), joints, detail)
    start = document.add(shape.block)
    attributes, *targets = (
        {name: start + index for name, index in accessors.items()} for accessors in (shape.attributes, *shape.targets)
    )
    primitive = {"attributes": attributes, "indices": start + shape.indices, "material": material}
    if not targets:
        return {"name": mesh["name"], "primitives": [primitive]}
    return {
        "name": mesh["name"],
        "primitives": [{**primitive, "targets": targets}],
        "weights": [0.0] * len(targets),
        "extras": {"targetNames": morph_targets()[mesh["name"]]},
    }


@cache
def _shape(name: str, groups: tuple[str, ...], moved_by: str | None, joints: tuple[str, ...], detail: int) -> Shape:
    surfaces = [part for group in groups for part in parts(group, detail)]
    points = list(chain.from_iterable(part.surface.points for part in surfaces))
    triangles = list(_joined(surfaces))
    directions = normals(points, triangles)
    weights = [pair for part in surfaces for row in _weights(part, joints) for pair in row]
    block = Block()
    attributes = {
        "POSITION": block.add(_floats(points), 3, target=VERTICES, bounds=True),
        "NORMAL": block.add(_floats(directions), 3, target=VERTICES),
        "TANGENT": block.add(_floats(map(_tangent, directions)), 4, target=VERTICES),
        "TEXCOORD_0": block.add(_floats(_uvs(surfaces, bare="arms" in groups)), 2, target=VERTICES),
        "JOINTS_0": block.add(array("B", (joint for joint, _ in weights)), 4, target=VERTICES),
        "WEIGHTS_0": block.add(array("B", (weight for _, weight in weights)), 4, target=VERTICES, normalized=True),
    }
    indices = block.add(array("H", chain.from_iterable(triangles)), 1, target=INDICES)
    closed = list(chain.from_iterable(part.closed for part in surfaces))
    targets = list(_targets(block, morph_targets()[name], closed, directions, moved_by)) if moved_by else []
    return Shape(block, attributes, indices, targets)


def _targets(
    block: Block, names: Sequence[str], closed: Sequence[Vec], directions: Sequence[Vec], moved_by: str
) -> Iterator[dict[str, int]]:
    """Append the morph targets of a mesh."""
    for moves in displacements(names, closed, directions, moved_by):
        offsets, tilts = (array("f", bytes(12 * len(closed))) for _ in range(2))
        for index, (offset, tilt) in moves.items():
            offsets[3 * index : 3 * index + 3] = array("f", offset)
            tilts[3 * index : 3 * index + 3] = array("f", tilt)
        yield {
            "POSITION": block.add(offsets, 3, target=VERTICES, bounds=True),
            "NORMAL": block.add(tilts, 3, target=VERTICES),
        }


def _weights(part: Part, joints: Sequence[str]) -> Iterator[list[tuple[int, int]]]:
    bones = [bone if bone in joints else "Head" for bone in part.bones]
    return (weigh(point, bones) for point in part.surface.points)


def _joined(surfaces: Sequence[Part]) -> Iterator[tuple[int, int, int]]:
    start = 0
    for part in surfaces:
        yield from ((start + i, start + j, start + k) for i, j, k in part.surface.triangles)
        start += len(part.surface.points)


def _uvs(surfaces: Sequence[Part], *, bare: bool) -> Iterator[tuple[float, float]]:
    """Map texture coordinates into areas, off their edges, so that filtering mixes in no neighbour."""
    for part in surfaces:
        skin = bare and part.area in ("shirt", "trousers", "shoes")
        left, top, right, bottom = AREAS["skin" if skin else part.area]
        for u, v in part.surface.uvs:
            yield left + (0.02 + 0.96 * u) * (right - left), top + (0.02 + 0.96 * v) * (bottom - top)


def _tangent(normal: Vec) -> tuple[float, ...]:
    """Return a tangent that runs around the vertical; the noise of normal maps has no direction of its own."""
    around = cross((0.0, 1.0, 0.0), normal)
    return (*unit(around if max(map(abs, around)) > 1e-6 else (0.0, 0.0, 1.0)), 1.0)


def _floats(rows: Iterable[Sequence[float]]) -> array[float]:
    return array("f", chain.from_iterable(rows))


def _material(document: Document, name: str, palette: Palette, models: Models) -> dict[str, Any]:
    given = load("avatar")["materials"][name]
    tint = given.get("tint", (255, 255, 255))
    color = getattr(palette, tint) if isinstance(tint, str) else tint
    surface: dict[str, Any] = {
        "baseColorFactor": [*((level / 255) ** 2.2 for level in color), given.get("alpha", 1.0)],
        "metallicFactor": 0.0,
        "roughnessFactor": given.get("roughness", 0.6),
    }
    material = {"name": name, "doubleSided": True, "pbrMetallicRoughness": surface}
    textures = {}
    for kind in ("base", "normal", "orm"):
        if kind in given:
            size = given[kind] if models == "full" else SMALL_TEXTURE
            colors = [getattr(palette, color) for color in given.get("colors", ())] if kind == "base" else []
            data = picture(name, kind, size, given["painting"], *colors)
            textures[kind] = {"index": document.add_texture(*data)}
    if "base" in textures:
        surface["baseColorTexture"] = textures["base"]
    if "normal" in textures:
        material["normalTexture"] = textures["normal"]
    if "orm" in textures:
        surface |= {"metallicRoughnessTexture": textures["orm"], "metallicFactor": 1.0, "roughnessFactor": 1.0}
        material["occlusionTexture"] = textures["orm"]
    if "alphaMode" in given:
        material["alphaMode"] = given["alphaMode"]
    if "ior" in given:
        material["extensions"] = {"KHR_materials_ior": {"ior": given["ior"]}}
    return material


def _clip(document: Document, body: Body, step: int) -> dict[str, Any]:
    """Add rotations of joints, the translation of the hips, and the weights of meshes with morph targets."""
    meshes = [mesh["name"] for mesh in load("avatar")[body] if "moved_by" in mesh]
    start = document.add(_clip_block(body, tuple(meshes), step))
    nodes = {node["name"]: index for index, node in enumerate(document.description["nodes"])}
    paths = [*((name, "rotation") for name in idle.joints(body)), ("Hips", "translation")]
    paths += [(mesh, "weights") for mesh in meshes]
    samplers = [{"input": start, "output": start + 1 + index} for index in range(len(paths))]
    channels = [
        {"sampler": index, "target": {"node": nodes[name], "path": path}} for index, (name, path) in enumerate(paths)
    ]
    return {"name": CLIP_NAMES[body], "samplers": samplers, "channels": channels}


@cache
def _clip_block(body: Body, meshes: Sequence[str], step: int) -> Block:
    block, keys = Block(), idle.times(step)
    block.add(keys, 1, bounds=True)
    for joint in idle.joints(body):
        block.add(idle.rotations(joint, keys), 4)
    block.add(idle.hips(keys), 3)
    for mesh in meshes:
        block.add(idle.weights(morph_targets()[mesh], keys), 1)
    return block

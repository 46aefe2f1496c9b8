"""A model: meshes, materials, skin and clip of an avatar, as in Avaturn's exports, in a GLB (glTF 2.0, section 4.4)."""

import json
import random
import struct
from array import array
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any

from .figure import displacements, normals, shape
from .skeleton import JOINTS, Vec, channels, cross, joints_of, times, unit
from .tables import Body, Models, Palette, choose, load, morph_targets
from .textures import picture

__all__ = ["build_glb"]

COMPONENTS = {"B": 5121, "H": 5123, "f": 5126}
KINDS = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
VERTICES, INDICES = 34962, 34963
JSON, BIN = 0x4E4F534A, 0x004E4942
GENERATOR = "avaturn-async emulator"
DETAIL = {"full": 3, "small": 1}
KEY_STEP = {"full": 1, "small": 30}
SMALL_TEXTURE = 32
CLIP_NAMES = {"T1": "IdleV4.2(maya_head)", "T2": "avaturn_animation"}
#: The attributes of a mesh, in the order of their accessors; the indices follow, and then the morph targets.
ATTRIBUTES = ("POSITION", "NORMAL", "TANGENT", "TEXCOORD_0", "JOINTS_0", "WEIGHTS_0")


class Buffer:
    """The pieces of a binary buffer, with their views and accessors. Buffers can share pieces."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.length: int = 0
        self.views: list[dict[str, int]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(
        self, values: "array[Any]", width: int, *, target: int | None = None, bounds: bool = False, **more: Any
    ) -> None:
        """Append an accessor of rows of `width` values, with their minima and maxima if `bounds`."""
        if bounds:
            columns = [values[column::width] for column in range(width)]
            more |= {"min": [min(column) for column in columns], "max": [max(column) for column in columns]}
        view = self.add_view(values.tobytes(), **({} if target is None else {"target": target}))
        accessor = {"bufferView": view, "componentType": COMPONENTS[values.typecode]}
        self.accessors.append({**accessor, "count": len(values) // width, "type": KINDS[width], **more})

    def add_view(self, data: bytes, **more: int) -> int:
        """Append bytes, and return the index of their view."""
        padding = bytes(-len(data) % 4)
        self.views.append({"buffer": 0, "byteOffset": self.length, "byteLength": len(data), **more})
        self.pieces += [data, padding]
        self.length += len(data) + len(padding)
        return len(self.views) - 1

    def include(self, other: "Buffer") -> int:
        """Append another buffer, and return the index of its first accessor."""
        first, start = len(self.accessors), len(self.views)
        self.accessors += [{**accessor, "bufferView": accessor["bufferView"] + start} for accessor in other.accessors]
        self.views += [{**view, "byteOffset": view["byteOffset"] + self.length} for view in other.views]
        self.pieces += other.pieces
        self.length += other.length
        return first


def glb(document: dict[str, Any], pieces: list[bytes]) -> bytes:
    """Return the GLB file of a document and the pieces of its buffer."""
    length = sum(map(len, pieces))
    text = json.dumps({**document, "buffers": [{"byteLength": length}]}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4s4I", b"glTF", 2, 28 + len(text) + length, len(text), JSON)
    return b"".join((head, text, struct.pack("<2I", length, BIN), *pieces))


def build_glb(
    *,
    seed: int = 0,
    body: Body = "T2",
    models: Models = "full",
    worn: Mapping[str, str | None] | None = None,
    idle_clip: bool = True,
    size: int | None = None,
) -> bytes:
    """Build an avatar's model: the same bytes for the same arguments, after the first one in milliseconds.

    Args:
        seed: The seed of the colours.
        body: A T1 has one mesh for the body and no morph targets; a T2 has facial morph targets.
        models: `full` for models of real weight, about 3 MB (T1) and 12 MB (T2); `small` for fewer triangles and tiny
            textures, with the same names and structure.
        worn: The name of the asset, or None, for each slot that is not empty; by default no slot is empty.
        idle_clip: Whether the model has an idle animation.
        size: The minimum size of the file in bytes. A smaller one is padded with unused random bytes.
    """
    tables = load("avatar")
    worn = {mesh["slot"]: None for mesh in tables["worn"]} if worn is None else worn
    meshes = [*tables[body], *(mesh for mesh in tables["worn"] if mesh["slot"] in worn)]
    covering = [
        mesh for mesh in tables["worn"] if mesh["slot"] in ("clothing", "footwear") and mesh["slot"] not in worn
    ]
    skin = [group for mesh in covering for group in mesh["groups"]]  # the groups that nothing covers
    meshes[0] = {**meshes[0], "groups": [*meshes[0]["groups"], *skin]}
    names = list(dict.fromkeys(mesh["material"] for mesh in meshes))
    nodes = _nodes(joints_of(body), [mesh["name"] for mesh in meshes])
    buffer = Buffer()
    images: list[dict[str, Any]] = []
    buffer.add(_floats(JOINTS[name].inverse_bind_matrix for name in joints_of(body)), 16)
    described = [_mesh(buffer, mesh, names.index(mesh["material"]), body, DETAIL[models], worn) for mesh in meshes]
    palette = choose(random.Random(seed))
    materials = [_material(buffer, images, name, palette, models) for name in names]
    document = {
        "asset": {"version": "2.0", "generator": GENERATOR, "extras": {"seed": seed}},
        "scene": 0,
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "images": images,
        "textures": [{"sampler": 0, "source": index} for index in range(len(images))],
        "scenes": [{"name": "Scene", "nodes": [0]}],
        "nodes": nodes,
        "skins": [{"name": "Armature", "joints": [*range(1, 1 + len(joints_of(body)))], "inverseBindMatrices": 0}],
        "meshes": described,
        "materials": materials,
        "samplers": [{"magFilter": 9729, "minFilter": 9987}],
    }
    if "eyewear" in worn:
        document["extensionsUsed"] = ["KHR_materials_ior"]
    if idle_clip:
        indices = {node["name"]: index for index, node in enumerate(nodes)}
        document["animations"] = [_clip(buffer, body, KEY_STEP[models], indices)]
    model = glb(document, buffer.pieces)
    if size is not None and len(model) < size:
        buffer.add_view(random.Random(seed).randbytes(size - len(model)))
        buffer.views.pop()
        model = glb(document, buffer.pieces)
    return model


def _nodes(joints: Sequence[str], meshes: Sequence[str]) -> list[dict[str, Any]]:
    """Make the root, the joints below it, and a node for each mesh beside the hips."""
    first = 1 + len(joints)
    nodes: list[dict[str, Any]] = [{"name": "Armature", "children": [1, *range(first, first + len(meshes))]}]
    for name in joints:
        joint = JOINTS[name]
        node = {"name": name, "translation": joint.translation, "rotation": joint.rotation}
        children = [index for index, child in enumerate(joints, 1) if JOINTS[child].parent == name]
        nodes.append({**node, "children": children} if children else node)
    return [*nodes, *({"name": name, "mesh": index, "skin": 0} for index, name in enumerate(meshes))]


def _mesh(
    buffer: Buffer, mesh: Mapping[str, Any], material: int, body: Body, detail: int, worn: Mapping[str, str | None]
) -> dict[str, Any]:
    name, moved_by = mesh["name"], mesh.get("moved_by")
    start = buffer.include(_vertices(name, tuple(mesh["groups"]), moved_by, body, detail))
    indices = start + len(ATTRIBUTES)
    attributes = dict(zip(ATTRIBUTES, range(start, indices), strict=True))
    primitive: dict[str, Any] = {"attributes": attributes, "indices": indices, "material": material}
    described = {"name": name, "primitives": [primitive]}
    if moved_by:
        targets = morph_targets()[name]
        positions = range(indices + 1, indices + 1 + 2 * len(targets), 2)
        primitive["targets"] = [{"POSITION": index, "NORMAL": index + 1} for index in positions]
        described |= {"weights": [0.0] * len(targets), "extras": {"targetNames": targets}}
    if asset := worn.get(mesh.get("slot", "")):
        described["extras"] = {"asset": asset}
    return described


@cache
def _vertices(name: str, groups: tuple[str, ...], moved_by: str | None, body: Body, detail: int) -> Buffer:
    """Make the attributes, indices and morph targets of a mesh."""
    joined = shape(groups, joints_of(body), detail)
    directions = normals(joined.points, joined.triangles)
    buffer = Buffer()
    buffer.add(_floats(joined.points), 3, target=VERTICES, bounds=True)
    buffer.add(_floats(directions), 3, target=VERTICES)
    buffer.add(_floats(map(_tangent, directions)), 4, target=VERTICES)
    buffer.add(_floats(joined.uvs), 2, target=VERTICES)
    buffer.add(array("B", (joint for joint, _ in joined.weights)), 4, target=VERTICES)
    buffer.add(array("B", (weight for _, weight in joined.weights)), 4, target=VERTICES, normalized=True)
    buffer.add(array("H", chain.from_iterable(joined.triangles)), 1, target=INDICES)
    for moves in displacements(morph_targets()[name], joined.closed, directions, moved_by) if moved_by else ():
        offsets, tilts = (array("f", bytes(12 * len(joined.points))) for _ in range(2))
        for index, (offset, tilt) in moves.items():
            offsets[3 * index : 3 * index + 3] = array("f", offset)
            tilts[3 * index : 3 * index + 3] = array("f", tilt)
        buffer.add(offsets, 3, target=VERTICES, bounds=True)
        buffer.add(tilts, 3, target=VERTICES)
    return buffer


def _tangent(normal: Vec) -> tuple[float, ...]:
    """Return a horizontal tangent; any direction will do, as the noise in the normal maps has none."""
    around = cross((0.0, 1.0, 0.0), normal)
    return (*unit(around if max(map(abs, around)) > 1e-6 else (0.0, 0.0, 1.0)), 1.0)


def _floats(rows: Iterable[Sequence[float]]) -> "array[float]":
    return array("f", chain.from_iterable(rows))


def _material(
    buffer: Buffer, images: list[dict[str, Any]], name: str, palette: Palette, models: Models
) -> dict[str, Any]:
    given = load("avatar")["materials"][name]
    tint = given.get("tint", (255, 255, 255))
    color = getattr(palette, tint) if isinstance(tint, str) else tint
    surface: dict[str, Any] = {
        "baseColorFactor": [*((level / 255) ** 2.2 for level in color), given.get("alpha", 1.0)],
        "metallicFactor": 0.0,
        "roughnessFactor": given.get("roughness", 0.6),
    }
    material = {"name": name, "doubleSided": True, "pbrMetallicRoughness": surface}
    for kind in ("base", "normal", "orm"):
        if kind in given:
            size = given[kind] if models == "full" else SMALL_TEXTURE
            colors = [getattr(palette, color) for color in given.get("colors", ())] if kind == "base" else []
            media_type, data = picture(name, kind, size, given["painting"], *colors)
            texture = {"index": len(images)}
            images.append({"mimeType": media_type, "bufferView": buffer.add_view(data)})
            if kind == "base":
                surface["baseColorTexture"] = texture
            elif kind == "normal":
                material["normalTexture"] = texture
            else:
                surface |= {"metallicRoughnessTexture": texture, "metallicFactor": 1.0, "roughnessFactor": 1.0}
                material["occlusionTexture"] = texture
    if "alphaMode" in given:
        material["alphaMode"] = given["alphaMode"]
    if "ior" in given:
        material["extensions"] = {"KHR_materials_ior": {"ior": given["ior"]}}
    return material


def _clip(buffer: Buffer, body: Body, step: int, nodes: Mapping[str, int]) -> dict[str, Any]:
    keys, targets = _keys(body, step)
    start = buffer.include(keys)
    samplers = [{"input": start, "output": start + 1 + index} for index in range(len(targets))]
    moved = [
        {"sampler": index, "target": {"node": nodes[name], "path": path}} for index, (name, path) in enumerate(targets)
    ]
    return {"name": CLIP_NAMES[body], "samplers": samplers, "channels": moved}


@cache
def _keys(body: Body, step: int) -> tuple[Buffer, list[tuple[str, str]]]:
    """Make the times and values of the idle clip, and return them with the node and path of each channel."""
    morphs = {mesh["name"]: morph_targets()[mesh["name"]] for mesh in load("avatar")[body] if "moved_by" in mesh}
    buffer, targets = Buffer(), []
    buffer.add(times(step), 1, bounds=True)
    for node, path, rows in channels(body, morphs, step):
        buffer.add(_floats(rows), {"rotation": 4, "translation": 3, "weights": 1}[path])
        targets.append((node, path))
    return buffer, targets

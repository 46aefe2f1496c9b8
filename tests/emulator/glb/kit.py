"""A reader of models that shares no code with what makes them, and the tables measured on Avaturn's exports."""

from __future__ import annotations

import csv
import io
import json
import math
import struct
import tomllib
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from PIL import Image

from avaturn_async.emulator.glb.model import build_glb

Body = Literal["T1", "T2"]
BODIES: tuple[Body, ...] = ("T1", "T2")
DATA = Path(__file__).with_name("data")

FORMATS = {5121: "B", 5123: "H", 5126: "f"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}

Row = tuple[float, ...]


class Joint(NamedTuple):
    """A joint as measured."""

    parent: str
    translation: Row
    rotation: Row


def rest_pose() -> dict[str, Joint]:
    """Return the rest pose of a T1 export, by joint."""
    return {
        row["joint"]: Joint(
            row["parent"],
            tuple(float(row[name]) for name in ("tx", "ty", "tz")),
            tuple(float(row[name]) for name in ("qx", "qy", "qz", "qw")),
        )
        for row in _table("rest_pose.tsv")
    }


def morph_targets() -> dict[str, list[str]]:
    """Return the names of the morph targets of a T2 export, by mesh."""
    return {row["mesh"]: row["names in order"].split() for row in _table("morph_targets.tsv")}


def exports(body: Body) -> dict[str, Any]:
    """Return what else was measured on exports of a body type."""
    return tomllib.loads((DATA / "exports.toml").read_text())[body]


def _table(name: str) -> list[dict[str, str]]:
    lines = [line for line in (DATA / name).read_text().splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines, delimiter="\t"))


class Model:
    """A GLB: its document, and what its accessors hold."""

    def __init__(self, data: bytes) -> None:
        length = struct.unpack_from("<I", data, 12)[0]
        self.size = len(data)
        self.document: dict[str, Any] = json.loads(data[20 : 20 + length])
        self.buffer = data[28 + length :]

    def names(self, kind: str) -> list[str]:
        """Return the names of all nodes, meshes, materials or animations."""
        return [item["name"] for item in self.document[kind]]

    def node(self, name: str) -> dict[str, Any]:
        """Return the node of that name."""
        (node,) = (node for node in self.document["nodes"] if node["name"] == name)
        return node

    def mesh(self, name: str) -> dict[str, Any]:
        """Return the mesh of that name."""
        (mesh,) = (mesh for mesh in self.document["meshes"] if mesh["name"] == name)
        return mesh

    def material(self, name: str) -> dict[str, Any]:
        """Return the material of that name."""
        (material,) = (material for material in self.document["materials"] if material["name"] == name)
        return material

    @property
    def primitives(self) -> list[dict[str, Any]]:
        """The primitives of all meshes."""
        return [primitive for mesh in self.document["meshes"] for primitive in mesh["primitives"]]

    def rows(self, index: int) -> list[Row]:
        """Read an accessor, scaled if it is normalized."""
        accessor = self.document["accessors"][index]
        layout = struct.Struct(f"<{WIDTHS[accessor['type']]}{FORMATS[accessor['componentType']]}")
        start = self.document["bufferViews"][accessor["bufferView"]]["byteOffset"] + accessor.get("byteOffset", 0)
        rows = list(layout.iter_unpack(self.buffer[start : start + accessor["count"] * layout.size]))
        return [tuple(value / 255 for value in row) for row in rows] if accessor.get("normalized") else rows

    def attribute(self, mesh: str, name: str) -> list[Row]:
        """Read an attribute of a mesh's only primitive."""
        (primitive,) = self.mesh(mesh)["primitives"]
        return self.rows(primitive["attributes"][name])

    def target(self, mesh: str, name: str, attribute: str = "POSITION") -> list[Row]:
        """Read what a morph target adds to an attribute of a mesh."""
        described = self.mesh(mesh)
        number = described["extras"]["targetNames"].index(name)
        return self.rows(described["primitives"][0]["targets"][number][attribute])

    def image(self, index: int) -> Image.Image:
        """Open an image."""
        view = self.document["bufferViews"][self.document["images"][index]["bufferView"]]
        return Image.open(io.BytesIO(self.buffer[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]))

    @cached_property
    def parents(self) -> dict[str, str]:
        """The name of each node's parent."""
        nodes = self.document["nodes"]
        return {nodes[child]["name"]: node["name"] for node in nodes for child in node.get("children", ())}

    def world(self, name: str) -> tuple[Row, Row]:
        """Return the position and the rotation of a node in the world; no node is scaled."""
        node = self.node(name)
        assert "scale" not in node
        assert "matrix" not in node
        position, rotation = node.get("translation", (0, 0, 0)), node.get("rotation", (0, 0, 0, 1))
        if name not in self.parents:
            return tuple(position), tuple(rotation)
        origin, frame = self.world(self.parents[name])
        return tuple(a + b for a, b in zip(origin, rotated(frame, position), strict=True)), product(frame, rotation)


@cache
def model(body: Body, models: Literal["full", "small"] = "small", seed: int = 0) -> Model:
    """Build a model and read it."""
    return Model(build_glb(body=body, models=models, seed=seed))


def product(p: Row, q: Row) -> Row:
    """Multiply quaternions."""
    (a, b, c, d), (e, f, g, h) = p, q
    return (
        d * e + a * h + b * g - c * f,
        d * f - a * g + b * h + c * e,
        d * g + a * f - b * e + c * h,
        d * h - a * e - b * f - c * g,
    )


def rotated(rotation: Row, vector: Row) -> Row:
    """Rotate a vector by a quaternion."""
    x, y, z, w = rotation
    return product(product(rotation, (*vector, 0.0)), (-x, -y, -z, w))[:3]


def length(vector: Row) -> float:
    """Return a vector's length."""
    return math.hypot(*vector)

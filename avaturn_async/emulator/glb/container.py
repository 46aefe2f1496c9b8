"""The file format: blocks of the binary buffer with their accessors, and the GLB around them."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from array import array

__all__ = ["INDICES", "VERTICES", "Block", "Document"]

COMPONENTS = {"B": 5121, "H": 5123, "f": 5126}
KINDS = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
VERTICES, INDICES = 34962, 34963
JSON, BIN = 0x4E4F534A, 0x004E4942


class Block:
    """A piece of the binary buffer with its own views and accessors, shared by any number of documents."""

    def __init__(self) -> None:
        self.data: bytearray = bytearray()
        self.views: list[dict[str, int]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(
        self, values: array[Any], width: int, *, target: int | None = None, bounds: bool = False, **more: Any
    ) -> int:
        """Append rows of `width` values, with their `bounds` if asked for, and return the index of the accessor."""
        if bounds:
            columns = [values[column::width] for column in range(width)]
            more |= {"min": [min(column) for column in columns], "max": [max(column) for column in columns]}
        self.data += bytes(-len(self.data) % 4)
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(values) * values.itemsize}
        self.views.append(view if target is None else {**view, "target": target})
        self.data += values.tobytes()
        accessor = {"bufferView": len(self.views) - 1, "componentType": COMPONENTS[values.typecode]}
        self.accessors.append({**accessor, "count": len(values) // width, "type": KINDS[width], **more})
        return len(self.accessors) - 1


class Document:
    """A glTF document in the making: its description, and the parts of its buffer."""

    def __init__(self, description: dict[str, Any]) -> None:
        self.description = description
        self._parts: list[bytes | bytearray] = []
        self._length = 0
        for name in ("accessors", "bufferViews", "images", "textures"):
            description[name] = []

    def add(self, block: Block) -> int:
        """Append a block and return the index of its first accessor."""
        views, accessors = self.description["bufferViews"], self.description["accessors"]
        first, start = len(accessors), len(views)
        accessors += [{**accessor, "bufferView": accessor["bufferView"] + start} for accessor in block.accessors]
        views += [{**view, "byteOffset": view["byteOffset"] + self._length} for view in block.views]
        self._append(block.data)
        return first

    def add_texture(self, media_type: str, data: bytes) -> int:
        """Append an image and return the index of its texture."""
        views, images = self.description["bufferViews"], self.description["images"]
        images.append({"mimeType": media_type, "bufferView": len(views)})
        views.append({"buffer": 0, "byteOffset": self._length, "byteLength": len(data)})
        self._append(data)
        self.description["textures"].append({"sampler": 0, "source": len(images) - 1})
        return len(images) - 1

    def glb(self, padding: bytes = b"") -> bytes:
        """Return the file; its buffer ends with `padding`, which nothing refers to."""
        parts = [*self._parts, padding, bytes(-len(padding) % 4)]
        length = sum(map(len, parts))
        text = json.dumps({**self.description, "buffers": [{"byteLength": length}]}, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        head = struct.pack("<4s4I", b"glTF", 2, 28 + len(text) + length, len(text), JSON)
        return b"".join((head, text, struct.pack("<2I", length, BIN), *parts))

    def _append(self, data: bytes | bytearray) -> None:
        padding = bytes(-len(data) % 4)
        self._parts += [data, padding]
        self._length += len(data) + len(padding)

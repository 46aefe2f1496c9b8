"""The binary buffer of a model, and the GLB around it (glTF 2.0, sections 3.6 and 4.4)."""

import json
import struct
from array import array
from typing import Any

__all__ = ["INDICES", "VERTICES", "Buffer", "glb"]

COMPONENTS = {"B": 5121, "H": 5123, "f": 5126}
KINDS = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
VERTICES, INDICES = 34962, 34963
JSON, BIN = 0x4E4F534A, 0x004E4942


class Buffer:
    """Pieces of a binary buffer, with their views and accessors. A piece can be part of many buffers."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.length: int = 0
        self.views: list[dict[str, int]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(
        self, values: "array[Any]", width: int, *, target: int | None = None, bounds: bool = False, **more: Any
    ) -> None:
        """Append an accessor of rows of `width` values, with their `bounds` if asked for."""
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
    """Return the file of a document, given the pieces of its buffer."""
    length = sum(map(len, pieces))
    text = json.dumps({**document, "buffers": [{"byteLength": length}]}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4s4I", b"glTF", 2, 28 + len(text) + length, len(text), JSON)
    return b"".join((head, text, struct.pack("<2I", length, BIN), *pieces))

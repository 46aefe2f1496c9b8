"""The file format: accessors and buffer views of one binary buffer, and the GLB around them."""

import json
import struct
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .surface import Vec

__all__ = ["Buffer", "frame"]

BYTE, SHORT, FLOAT = 5121, 5123, 5126
VERTICES, INDICES = 34962, 34963


class Buffer:
    """One growing binary buffer, and the views and accessors that say what is in it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def add_view(self, data: bytes, *, target: int | None = None) -> int:
        """Append `data`, aligned to four bytes, and return the index of its view."""
        self.data += bytes(-len(self.data) % 4)
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data)}
        self.views.append(view if target is None else {**view, "target": target})
        self.data += data
        return len(self.views) - 1

    def add_positions(self, points: Sequence[Vec]) -> int:
        """Append points, with their bounds, and return the index of the accessor."""
        index = self.add_vectors(points, "VEC3")
        self.accessors[index] |= _bounds(points)
        return index

    def add_vectors(self, rows: Sequence[Sequence[float]], kind: str, *, target: int | None = VERTICES) -> int:
        """Append rows of floats and return the index of the accessor."""
        return self._add(_pack("f", rows), FLOAT, kind, len(rows), target)

    def add_bytes(self, rows: Sequence[Sequence[int]], *, normalized: bool = False) -> int:
        """Append four bytes for each vertex, as they are or as 255ths, and return the index of the accessor."""
        return self._add(_pack("B", rows), BYTE, "VEC4", len(rows), VERTICES, normalized=normalized)

    def add_indices(self, triangles: Sequence[Sequence[int]]) -> int:
        """Append the corners of triangles and return the index of the accessor."""
        return self._add(_pack("H", triangles), SHORT, "SCALAR", 3 * len(triangles), INDICES)

    def add_sparse(self, moves: Sequence[Mapping[int, Vec]], count: int) -> list[int]:
        """Append one sparse accessor of `count` vectors for each set of moved ones, and return their indices."""
        rows = [sorted(moved.items()) for moved in moves]
        indices = self.add_view(_pack("H", ([index] for row in rows for index, _ in row)))
        values = self.add_view(_pack("f", (vector for row in rows for _, vector in row)))
        first, start = len(self.accessors), 0
        for row in rows:
            bounds = _bounds([(0.0, 0.0, 0.0), *(vector for _, vector in row)])
            sparse = {
                "count": len(row),
                "indices": {"bufferView": indices, "byteOffset": 2 * start, "componentType": SHORT},
                "values": {"bufferView": values, "byteOffset": 12 * start},
            }
            self.accessors.append({"componentType": FLOAT, "count": count, "type": "VEC3", **bounds, "sparse": sparse})
            start += len(row)
        return list(range(first, len(self.accessors)))

    def _add(
        self, data: bytes, component: int, kind: str, count: int, target: int | None, *, normalized: bool = False
    ) -> int:
        view = self.add_view(data, target=target)
        accessor = {"bufferView": view, "componentType": component, "count": count, "type": kind}
        self.accessors.append({**accessor, "normalized": True} if normalized else accessor)
        return len(self.accessors) - 1


def frame(document: Mapping[str, Any], *parts: bytes) -> bytes:
    """Put a glTF document and its buffer, given in parts, into a GLB."""
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    length = sum(map(len, parts))
    padding = bytes(-length % 4)
    length += len(padding)
    head = struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + length)
    return b"".join(
        (head, struct.pack("<I4s", len(text), b"JSON"), text, struct.pack("<I4s", length, b"BIN\0"), *parts, padding)
    )


def _pack(code: str, rows: Iterable[Sequence[float]]) -> bytes:
    values = [value for row in rows for value in row]
    return struct.pack(f"<{len(values)}{code}", *values)


def _bounds(points: Sequence[Vec]) -> dict[str, list[float]]:
    # As the file has them, in single precision: readers compare exactly.
    axes = [array("f", axis) for axis in zip(*points, strict=True)]
    return {"min": [min(axis) for axis in axes], "max": [max(axis) for axis in axes]}

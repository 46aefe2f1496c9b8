"""The container of a GLB 2.0 model: its header, its JSON, and its binary buffer (glTF 2.0, section 4.4)."""

from __future__ import annotations

import io
import json
import os
import struct
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeGuard

from ..errors import NotAModelError
from ..http.signatures import describe

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BIN", "JSON", "Container", "MalformedError", "count", "location", "mapping", "objects", "opened"]
__all__ += ["string", "text", "values"]

HEADER = struct.Struct("<4sIIII")  # magic, version, length of the file; length and type of the first chunk
JSON, BIN = 0x4E4F534A, 0x004E4942

# Any model within these bounds is read in less than a second and 200 MB (measured on hostile files).
MAX_JSON = 16 * 2**20
MAX_VALUES = 500_000


class MalformedError(Exception):
    """A model violates glTF or a bound; the message continues the sentence "the model ..."."""


class Container:
    """An open model.

    Attributes:
        size: the length of the file in bytes.
        document: the glTF document, a JSON object.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lists: dict[str, list[dict[str, Any]]] = {}
        self.size: int = file.seek(0, os.SEEK_END)
        json_length = self._read_header()
        self.document: dict[str, Any] = _parse(self._read(HEADER.size, json_length))
        self._start, self._length = self._find_buffer(HEADER.size + json_length)

    def items(self, key: str) -> list[dict[str, Any]]:
        """Return a list of objects of the document; it is checked once."""
        if key not in self._lists:
            self._lists[key] = objects(self.document, key)
        return self._lists[key]

    def item(self, key: str, index: object) -> dict[str, Any]:
        """Return one object of such a list."""
        found = self.items(key)
        if not _is_count(index) or index >= len(found):
            raise MalformedError(f"refers to {key} that it does not have")
        return found[index]

    def place(self, view: dict[str, Any]) -> tuple[int, int] | None:
        """Return the offset and length of a buffer view in the binary buffer; None if it is in another file."""
        where = location(view)
        index, offset, length = count(where, "buffer"), count(where, "byteOffset", 0), count(where, "byteLength")
        if index or "uri" in self.item("buffers", index):
            return None
        if offset + length > self._length:
            raise MalformedError("has a buffer view that exceeds its buffer")
        return offset, length

    def _read(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(length)

    def buffer(self, offset: int = 0, length: int | None = None) -> bytes:
        """Read bytes of the binary buffer, by default all of them."""
        return self._read(self._start + offset, self._length - offset if length is None else length)

    def _read_header(self) -> int:
        head = self._read(0, HEADER.size)
        if head[:4] != b"glTF":
            raise MalformedError(f"came as {describe(head)}" if head else "is empty")
        if len(head) < HEADER.size:
            raise MalformedError(f"ends after {len(head)} bytes")
        _, version, declared, json_length, kind = HEADER.unpack(head)
        if version != 2:
            raise MalformedError(f"is of version {version}, not 2")
        if declared != self.size:
            raise MalformedError(f"declares {declared} bytes and has {self.size}")
        if kind != JSON or not 0 < json_length <= self.size - HEADER.size:
            raise MalformedError("does not begin with a JSON chunk that fits into it")
        if json_length > MAX_JSON:
            raise MalformedError(f"has {json_length} bytes of JSON, more than the {MAX_JSON} that are read")
        return int(json_length)

    def _find_buffer(self, offset: int) -> tuple[int, int]:
        if self.size - offset < 8:
            return offset, 0
        length, kind = struct.unpack("<II", self._read(offset, 8))
        if length > self.size - offset - 8:
            raise MalformedError("has a second chunk that exceeds the file")
        return offset + 8, length if kind == BIN else 0


@contextmanager
def opened(source: str | os.PathLike[str] | bytes) -> Iterator[Container]:
    """Open a model. MalformedError within the block becomes a NotAModelError that names the file."""
    name = "model" if isinstance(source, bytes) else os.fspath(source)
    with io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as file:
        try:
            yield Container(file)
        except MalformedError as error:
            raise NotAModelError(f"{name} is not a usable GLB model: it {error}") from None


def location(view: dict[str, Any]) -> dict[str, Any]:
    """Return the object with the offset and length of a buffer view: itself, or its compression extension."""
    extensions = mapping(view, "extensions")
    found = (mapping(extensions, name) for name in ("EXT_meshopt_compression", "KHR_meshopt_compression"))
    return next(filter(None, found), view)


def objects(holder: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """Return a list of objects, empty if it is missing."""
    return values(holder, key, dict)


def values(holder: dict[str, Any], key: str, kind: type[Any] | tuple[type[Any], ...]) -> list[Any]:
    """Return a list of values of some type, empty if it is missing."""
    found = holder.get(key, [])
    if not isinstance(found, list) or not all(isinstance(each, kind) for each in found):
        raise MalformedError(f"has {key} that are not a list of the right type")
    return found


def mapping(holder: dict[str, Any], key: str) -> dict[str, Any]:
    """Return an object, empty if it is missing."""
    found = holder.get(key, {})
    if not isinstance(found, dict):
        raise MalformedError(f"has {key} that are not an object")
    return found


def count(holder: dict[str, Any], key: str, default: int | None = None) -> int:
    """Return a non-negative integer; it is required unless there is a default."""
    found = holder.get(key, default)
    if not _is_count(found):
        raise MalformedError(f"has a {key} that is not a whole number, or none")
    return found


def text(holder: dict[str, Any], key: str) -> str:
    """Return a string as `string` does, empty if it is missing."""
    return string(holder.get(key, ""), key)


def string(value: object, key: str) -> str:
    """Return the first 200 characters of a string, without lone surrogates, which outputs can't encode."""
    if not isinstance(value, str):
        raise MalformedError(f"has a {key} that is not a string")
    return value[:200].encode("utf-8", "replace").decode()


def _parse(data: bytes) -> dict[str, Any]:
    if sum(data.count(mark) for mark in (b",", b"[", b"{")) > MAX_VALUES:
        raise MalformedError(f"has more than {MAX_VALUES} values in its JSON")
    try:
        document = json.loads(data.rstrip(b"\0 ").decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise MalformedError("has a first chunk that is not a JSON object")
    return document


def _refuse(constant: str) -> None:
    raise ValueError(constant)  # NaN or an infinity


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53

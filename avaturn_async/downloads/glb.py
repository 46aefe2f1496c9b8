"""Tell GLB 2.0 models from other files by their beginning (glTF 2.0, section 4.4)."""

import json
import struct

from ..errors import NotAModelError
from ..http.signatures import describe

__all__ = ["CHECKED", "GlbCheck"]

_HEADER = struct.Struct("<8x I I4s")  # magic and version, length of the file; length and type of the first chunk
_MAX_JSON = 512 * 1024  # parsing more would hold up the event loop for several milliseconds
#: Bytes at the beginning of a file; what follows is not checked.
CHECKED = _HEADER.size + _MAX_JSON


class GlbCheck:
    """Checks a file that arrives in pieces, as early as possible.

    The header must be that of GLB 2.0 and the first chunk must be a JSON object that fits into the file. JSON of over
    512 KiB is not parsed, and nothing after it is checked: exports in use deviate from the format in details.

    Attributes:
        declared: the length of the file in bytes by its header, once that has arrived.
    """

    def __init__(self, name: str) -> None:
        self.declared: int | None = None
        self._name = name
        self._head: bytearray | None = bytearray()
        self._json_end = 0

    def feed(self, chunk: bytes) -> None:
        """Check the next bytes.

        Raises:
            NotAModelError: they are not those of a GLB 2.0 model.
        """
        if self._head is None:
            return
        self._head += chunk
        if not b"glTF".startswith(self._head[:4]):
            raise self._error(f"came as {describe(bytes(self._head[:40]))}")
        if len(self._head) >= 8 and (version := int.from_bytes(self._head[4:8], "little")) != 2:
            raise self._error(f"is of version {version}, not 2")
        if self.declared is None and len(self._head) >= _HEADER.size:
            self._read_header(*_HEADER.unpack_from(self._head))
        if self.declared is not None and len(self._head) >= self._json_end:
            valid = self._json_end == _HEADER.size or _is_json_object(self._head[_HEADER.size : self._json_end])
            self._head = None
            if not valid:
                raise self._error("has a first chunk that is not a JSON object")

    def finish(self, size: int) -> None:
        """Compare the length of the whole file, in bytes, with the declared one.

        Raises:
            NotAModelError: they differ, or the file ended before its header did.
        """
        if self.declared is None:
            raise self._error(f"ended after {size} bytes" if size else "came empty")
        if self.declared != size:
            raise self._error(f"declares {self.declared} bytes and has {size}")

    def _read_header(self, declared: int, json_length: int, chunk_type: bytes) -> None:
        if chunk_type != b"JSON":
            raise self._error(f"has a first chunk of type {chunk_type!r}, not JSON")
        if not 0 < json_length <= declared - _HEADER.size:
            raise self._error(f"declares {declared} bytes and {json_length} bytes of JSON in them")
        self.declared = declared
        self._json_end = _HEADER.size + (json_length if json_length <= _MAX_JSON else 0)

    def _error(self, finding: str) -> NotAModelError:
        return NotAModelError(f"{self._name} is not a GLB model: it {finding}")


def _is_json_object(text: bytearray) -> bool:
    try:
        # Not the parser of the API's answers: models in use hold NaN, lone surrogates and deep extras.
        return isinstance(json.loads(text.rstrip(b"\0 ")), dict)
    except (ValueError, RecursionError):
        return False

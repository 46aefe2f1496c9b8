"""Tell a GLB 2.0 file from anything else by its first twelve bytes (glTF 2.0, 4.4.2)."""

import hashlib
import struct
from pathlib import Path

from ..errors import NotAModelError

__all__ = ["HEADER", "GlbCheck", "whole_model"]

HEADER = 12

_KINDS = (
    (b"<", "a page of HTML or XML"),
    (b"{", "JSON"),
    (b"[", "JSON"),
    (b"\x1f\x8b", "gzip data"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"RIFF", "a RIFF file, perhaps a WebP image"),
)


class GlbCheck:
    """Checks a file that comes in pieces, as early as it can."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._head = b""
        self.declared: int | None = None

    def restart(self) -> None:
        """Begin again with the first byte."""
        self._head = b""
        self.declared = None

    def feed(self, chunk: bytes) -> bool:
        """Look at the next bytes, and say whether the header ends in them.

        Raises:
            NotAModelError: they are not those of a GLB 2.0 model.
        """
        if self.declared is not None:
            return False
        self._head += chunk[: HEADER - len(self._head)]
        if not b"glTF".startswith(self._head[:4]):
            raise self._error(f"came as {_kind(self._head)}")
        if len(self._head) < HEADER:
            return False
        self._read_header()
        return True

    def finish(self, size: int) -> None:
        """Compare the length of the whole file, in bytes, with the one that it declares."""
        if self.declared is None:
            raise self._error(f"ended after {size} bytes" if size else "came empty")
        if self.declared != size:
            raise self._error(f"declares {self.declared} bytes and has {size}")

    def _read_header(self) -> None:
        _, version, length = struct.unpack("<4sII", self._head)
        if version != 2:
            raise self._error(f"is of version {version}, not 2")
        self.declared = length

    def _error(self, finding: str) -> NotAModelError:
        return NotAModelError(f"{self._name} is not a GLB model: it {finding}")


def whole_model(path: Path) -> tuple[int, str] | None:
    """Return the size in bytes and the SHA-256 of the file at `path` if it is a whole GLB 2.0 model; it blocks."""
    check = GlbCheck(path.name)
    try:
        with path.open("rb") as file:
            check.feed(file.read(HEADER))
            size = file.seek(0, 2)
            check.finish(size)
            file.seek(0)
            return size, hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, NotAModelError):
        return None


def _kind(head: bytes) -> str:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for start, kind in _KINDS:
        if text.startswith(start):
            return kind
    return f"something that begins with {head[:4]!r}"

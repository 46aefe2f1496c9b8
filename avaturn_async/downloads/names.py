"""The names that files may have, in folders and in object stores."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["check_name", "check_path", "check_target"]

_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\\\ud800-\udfff]")
_DRIVE = re.compile(r"[A-Za-z]:")
_DEVICE = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\xb9\xb2\xb3]) *(?:\..*)?", re.IGNORECASE)
_NOT_ON_WINDOWS = re.compile(r'[<>:"|?*]|[. ]$')
_PARTIAL = re.compile(r"\..*\.part(\.json)?", re.DOTALL)  # partfile.PartFile
_MAX_PART = 255  # bytes; file systems
_MAX_NAME = 1024  # bytes; S3 and GCS


def check_name(name: str) -> str:
    """Return `name` if it is a relative path that stays below its folder or prefix, with ``/`` between its parts.

    Raises:
        TypeError: it is not a str.
        ValueError: it is empty, absolute or too long, or has an empty part, a part ``.`` or ``..``, a backslash, a
            control character or a lone surrogate in it.
    """
    if not isinstance(name, str):
        raise TypeError(f"a name must be a str, not {type(name).__name__}")
    if not name:
        raise ValueError("a name must not be empty")
    shown = repr(name[:200])
    if _FORBIDDEN.search(name):
        raise ValueError(f"the name {shown} has a backslash, a control character or a lone surrogate in it")
    parts = name.split("/")
    if {"", ".", ".."} & set(parts) or _DRIVE.match(name):
        raise ValueError(f"the name {shown} is not a plain relative path: no part may be empty, '.' or '..'")
    if len(name.encode()) > _MAX_NAME or any(len(part.encode()) > _MAX_PART for part in parts):
        raise ValueError(f"the name {shown} is longer than {_MAX_NAME} bytes, or has a part of over {_MAX_PART} bytes")
    return name


def check_path(name: str) -> str:
    """Return `name` if `check_name` allows it and it can name a file below a folder, on Windows too.

    Raises:
        TypeError: it is not a str.
        ValueError: as `check_name` and `check_target`, or a part is a device name of Windows, such as ``NUL`` or
            ``com1.glb``. On Windows, also a part that ends with a dot or a space, or has one of ``<>:"|?*`` in it.
    """
    for part in check_name(name).split("/"):
        if _DEVICE.fullmatch(part) or (os.name == "nt" and _NOT_ON_WINDOWS.search(part)):
            raise ValueError(f"the name {name[:200]!r} has a part that Windows reserves: {part[:200]!r}")
    check_target(Path(name))
    return name


def check_target(path: Path) -> None:
    """Raise ValueError if no file can have this path, or if it is named like a partial file of another download."""
    try:
        possible = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        possible = False
    if not possible:
        raise ValueError(f"the path {str(path)!r} has a NUL character or a lone surrogate in it")
    if _PARTIAL.fullmatch(path.name):
        raise ValueError(f"the path {str(path)!r} is named like a partial file: .NAME.part")

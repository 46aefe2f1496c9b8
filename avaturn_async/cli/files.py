"""Where downloads go."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["fresh_folder", "make_folder", "refuse_existing"]


def make_folder(folder: Path) -> Path:
    """Make a folder, unless it is there; raise OSError where it can't be."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def fresh_folder(stem: Path) -> Path:
    """Make the first of the folders ``stem-1``, ``stem-2`` and so on that is not there."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        folder = stem.with_name(f"{stem.name}-{number}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            number += 1


def refuse_existing(files: Iterable[Path]) -> None:
    """Raise FileExistsError for the first of the files that is there."""
    for file in files:
        if file.exists():
            raise FileExistsError(errno.EEXIST, "it is there already; --overwrite replaces it", str(file))

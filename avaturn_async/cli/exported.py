"""How an exported and downloaded model is shown, by ``avaturn export`` and ``avaturn demo``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .output import Column, size_of

if TYPE_CHECKING:
    from ..pending.results import Download, Export

__all__ = ["COLUMNS", "Model"]

COLUMNS = (
    Column("avatar", 36),
    Column("by"),
    Column("took", numbers=True),
    Column("polls", numbers=True),
    Column("size", numbers=True),
    Column("file"),
)


class Model(NamedTuple):
    """A model on the disk, and the export that it came from."""

    export: Export
    download: Download

    def record(self) -> dict[str, Any]:
        """Return what machines are told."""
        export, download = self
        return {
            "avatar_id": str(export.avatar_id),
            "resolved_by": export.resolved_by,
            "seconds": round(export.waited, 3),
            "polls": export.polls,
            "size": download.size,
            "sha256": download.sha256,
            "file": str(download.path),
        }

    def row(self) -> tuple[str, ...]:
        """Return a row of the table that people see, with the file's name only: the folder is named elsewhere."""
        export, download = self
        seconds, size = f"{export.waited:.2f} s", size_of(download.size)
        return str(export.avatar_id), export.resolved_by, seconds, str(export.polls), size, download.path.name

"""Many exports at once, with bounded concurrency and a journal.

The names here are loaded when they are first used: most clients need neither batches nor SQLite.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .export_batch import ExportBatch
    from .items import AvatarIds, BatchProgress

__all__ = ["AvatarIds", "BatchProgress", "ExportBatch"]

_HOMES = {"AvatarIds": "items", "BatchProgress": "items", "ExportBatch": "export_batch"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)

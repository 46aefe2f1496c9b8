"""The content of models and images, created on demand."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import attrs

from .glb import build_glb
from .links import File
from .settings import Settings

__all__ = ["Blob", "Files", "can_draw"]

MAX_KEPT = 64 * 1024 * 1024

TYPES = {"glb": "model/gltf-binary", "jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}


@attrs.frozen
class Blob:
    """A file's content, its strong ETag (with quotes) and its media type."""

    data: bytes = attrs.field(repr=False)
    etag: str
    type: str


def can_draw() -> bool:
    """Whether Pillow is installed, without importing it."""
    return find_spec("PIL") is not None


class Files:
    """Create files from the seed, the avatar and its version, so that each is the same on every request.

    The latest 64 MiB are kept.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._kept: OrderedDict[tuple[Any, ...], Blob] = OrderedDict()
        self._total = 0
        self._lock = asyncio.Lock()  # concurrent requests for one file create it once

    async def open(self, file: File, worn: Mapping[str, str] | None) -> Blob:
        """Return a file's content. A model has a mesh for each slot in `worn`, or for all slots without it."""
        settings = self._settings
        seed = int(_digest(settings.seed, file.avatar_id, file.version)[:8], 16)
        if settings.model_variety:
            seed %= settings.model_variety
        kind = file.name.rpartition(".")[2]
        key = (seed, kind, file.scene, None if worn is None else tuple(worn.items()))
        async with self._lock:
            if key not in self._kept:
                data = await asyncio.to_thread(self._create, seed, kind, file.scene, worn)
                look = (settings.seed, settings.body, settings.models, settings.idle_clip, settings.model_size)
                etag = f'"{_digest(*key, *look)[:32]}"'
                self._keep(key, Blob(data, etag, TYPES[kind]))
            self._kept.move_to_end(key)
            return self._kept[key]

    def _create(self, seed: int, kind: Any, scene: str, worn: Mapping[str, str] | None) -> bytes:
        settings = self._settings
        if kind == "glb":
            return build_glb(
                seed=seed,
                body=settings.body,
                models=settings.models,
                worn=worn,
                idle_clip=settings.idle_clip,
                size=settings.model_size,
            )
        from .images import render_image

        return render_image(seed=seed, scene=scene, format=kind)

    def _keep(self, key: tuple[Any, ...], blob: Blob) -> None:
        self._kept[key] = blob
        self._total += len(blob.data)
        while self._total > MAX_KEPT and len(self._kept) > 1:
            self._total -= len(self._kept.popitem(last=False)[1].data)


def _digest(*parts: object) -> str:
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()

"""The bytes behind the downloads, made on demand."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from functools import cache, partial
from importlib.util import find_spec
from typing import Any, Literal, get_args

import attrs
from attrs import validators as v

from .glb import MAX_SIZE, build_glb
from .links import File

__all__ = ["Blob", "Body", "Library", "Looks", "can_draw"]

Body = Literal["T1", "T2"]

MAX_KEPT = 64 * 1024 * 1024

TYPES = {"glb": "model/gltf-binary", "jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}


@attrs.frozen(kw_only=True)
class Looks:
    """What all models have in common. Raise `TypeError` or `ValueError`, naming the field, for what can't be."""

    seed: int = attrs.field(validator=v.instance_of(int))
    body: Body = attrs.field(validator=v.in_(get_args(Body)))
    model_size: int | None = attrs.field(validator=v.optional([v.instance_of(int), v.ge(1), v.le(MAX_SIZE)]))
    model_variety: int | None = attrs.field(validator=v.optional([v.instance_of(int), v.ge(1)]))


@attrs.frozen
class Blob:
    """A file's content, its strong ETag (with the quotes) and its media type."""

    data: bytes = attrs.field(repr=False)
    etag: str
    type: str


@cache
def can_draw() -> bool:
    """Say whether Pillow is there, without loading it."""
    return find_spec("PIL") is not None


class Library:
    """Make a file from the seed, its avatar and its version alone, so that it is the same whenever it is asked for.

    At most 64 MiB that were made last are kept.
    """

    def __init__(self, looks: Looks) -> None:
        self._looks = looks
        self._kept: OrderedDict[tuple[int, str, str], Blob] = OrderedDict()
        self._total = 0
        # Nobody makes what another is making already.
        self._making = asyncio.Lock()

    async def open(self, file: File) -> Blob:
        """Return a file's content."""
        seed, kind = self._seed(file), file.name.rpartition(".")[2]
        key = (seed, kind, file.scene)
        async with self._making:
            blob = self._kept.get(key)
            if blob is None:
                data = await asyncio.to_thread(self._recipe(seed, kind, file.scene))
                blob = Blob(data, f'"{_digest(*key, self._looks)[:32]}"', TYPES[kind])
                self._keep(key, blob)
            self._kept.move_to_end(key)
            return blob

    def _seed(self, file: File) -> int:
        seed = int(_digest(self._looks.seed, file.avatar_id, file.version)[:8], 16)
        return seed % self._looks.model_variety if self._looks.model_variety else seed

    def _recipe(self, seed: int, kind: str, scene: str) -> Callable[[], bytes]:
        if kind == "glb":
            return partial(build_glb, seed=seed, body=self._looks.body, size=self._looks.model_size)
        return partial(_draw, seed, scene, kind)

    def _keep(self, key: tuple[int, str, str], blob: Blob) -> None:
        self._kept[key] = blob
        self._total += len(blob.data)
        while self._total > MAX_KEPT and len(self._kept) > 1:
            self._total -= len(self._kept.popitem(last=False)[1].data)


def _draw(seed: int, scene: str, format: Any) -> bytes:
    from .images import render_image

    return render_image(seed=seed, scene=scene, format=format)


def _digest(*parts: object) -> str:
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()

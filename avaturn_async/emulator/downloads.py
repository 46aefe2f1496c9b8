"""Models and images, created on demand and served at temporary urls as object stores do."""

import asyncio
import hashlib
import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import attrs
from aiohttp import hdrs, web

from .settings import Settings
from .state import File, Links, State
from .validation import ApiError

__all__ = ["Downloads", "UnsatisfiableError", "parse_range"]

MAX_KEPT = 64 * 1024 * 1024

TYPES = {"glb": "model/gltf-binary", "jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
CHUNK = 256 * 1024

# int() refuses more than 4,300 digits.
RANGE = re.compile(r"bytes=(\d{0,4000})-(\d{0,4000})", re.ASCII | re.IGNORECASE)

REFUSAL = '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{}</Code><Message>{}</Message></Error>'


@attrs.frozen
class Blob:
    """A file's content, its strong ETag (with quotes) and its media type."""

    data: bytes = attrs.field(repr=False)
    etag: str
    type: str


class Downloads:
    """Serves files, whole or in part.

    Files are created from the seed, the avatar and its version, the same on every request; 64 MiB of them are cached.
    """

    def __init__(self, state: State, settings: Settings, links: Links) -> None:
        self._state = state
        self._settings = settings
        self._links = links
        self._kept: OrderedDict[tuple[Any, ...], Blob] = OrderedDict()
        self._total = 0
        self._lock = asyncio.Lock()  # concurrent requests for one file create it once

    def routes(self) -> list[web.RouteDef]:
        """Return the route of download urls, for GET and HEAD."""
        return [web.get("/files/{avatar_id}/{version}/{name}", self.download_file, name="download_file")]

    async def download_file(self, request: web.Request) -> web.StreamResponse:
        """Serve a file: 200, 206 or 416; 403 for a forged or expired url, 404 once the avatar is deleted."""
        if hdrs.AUTHORIZATION in request.headers:
            return _refusal(400, "InvalidArgument", "Only one auth mechanism allowed")
        if not self._links.allows(request.path, request.query):
            return _refusal(403, "AccessDenied", "Request has expired, or its signature does not match")
        match = request.match_info  # genuine, as the signature covers the path
        file = File(UUID(match["avatar_id"]), int(match["version"]), match["name"], request.query.get("scene", ""))
        try:
            avatar = self._state.avatar(file.avatar_id)
        except ApiError:
            return _refusal(404, "NoSuchKey", "The specified key does not exist.")
        return await self._serve(request, await self._open(file, avatar.outfits.get(file.version)))

    async def _serve(self, request: web.Request, blob: Blob) -> web.StreamResponse:
        headers = {hdrs.ETAG: blob.etag, hdrs.CONTENT_TYPE: blob.type, hdrs.ACCEPT_RANGES: "bytes"}
        size = len(blob.data)
        if request.method == hdrs.METH_HEAD:
            return web.Response(headers={**headers, hdrs.CONTENT_LENGTH: str(size)})
        try:
            part = parse_range(request.headers, size=size, etag=blob.etag)
        except UnsatisfiableError:
            refusal = _refusal(416, "InvalidRange", "The requested range is not satisfiable")
            refusal.headers[hdrs.CONTENT_RANGE] = f"bytes */{size}"
            return refusal
        if part is None:
            return await self._stream(request, web.StreamResponse(headers=headers), memoryview(blob.data))
        headers[hdrs.CONTENT_RANGE] = f"bytes {part.start}-{part.stop - 1}/{size}"
        body = memoryview(blob.data)[part.start : part.stop]
        return await self._stream(request, web.StreamResponse(status=206, headers=headers), body)

    async def _stream(self, request: web.Request, response: web.StreamResponse, body: memoryview) -> web.StreamResponse:
        response.content_length = len(body)
        broken = self._settings.happens("broken_downloads")
        end = int(self._settings.up_to("broken_downloads", len(body)))
        if broken:
            body = body[:end]
        try:
            await response.prepare(request)
            for start in range(0, len(body), CHUNK):
                await response.write(body[start : start + CHUNK])
        except ConnectionError:
            return response  # the client has left
        if broken and request.transport is not None:
            request.transport.close()  # after the bytes written so far
        return response

    async def _open(self, file: File, worn: Mapping[str, str] | None) -> Blob:
        """Return a file's content. A model has a mesh for each slot in `worn`; None means all slots."""
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
                self._kept[key] = Blob(data, etag, TYPES[kind])
                self._total += len(data)
                while self._total > MAX_KEPT and len(self._kept) > 1:
                    self._total -= len(self._kept.popitem(last=False)[1].data)
            self._kept.move_to_end(key)
            return self._kept[key]

    def _create(self, seed: int, kind: Any, scene: str, worn: Mapping[str, str] | None) -> bytes:
        # Both load Pillow, which the rest of the emulator does not need.
        from .glb.model import build_glb
        from .images import render_image

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
        return render_image(seed=seed, scene=scene, format=kind)


class UnsatisfiableError(Exception):
    """A range contains no byte of the file."""


def parse_range(headers: Mapping[str, str], *, size: int, etag: str) -> range | None:
    """Return the positions that a GET asks for (RFC 9110, section 14), or None for the whole file.

    A range is ignored if it is malformed, one of several, or bound by If-Range to another ETag. Raises
    `UnsatisfiableError` if the answer is a 416.
    """
    match = RANGE.fullmatch(headers.get("Range", "").replace(" ", ""))
    if match is None or headers.get("If-Range", etag) != etag:
        return None
    first, last = (int(digits) if digits else None for digits in match.groups())
    if first is None:
        if last is None:
            return None
        first, last = max(0, size - last), None  # the final `last` bytes
    elif last is not None and last < first:
        return None
    if first >= size:
        raise UnsatisfiableError
    return range(first, size if last is None else min(last + 1, size))


def _refusal(status: int, code: str, message: str) -> web.Response:
    return web.Response(status=status, text=REFUSAL.format(code, message), content_type="application/xml")


def _digest(*parts: object) -> str:
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()

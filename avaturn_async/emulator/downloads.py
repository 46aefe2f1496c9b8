"""The temporary urls of models and images, served as object stores do."""

from uuid import UUID

from aiohttp import hdrs, web

from .controls import Controls
from .faults import Dice
from .library import Blob, Library
from .links import File, Links
from .problems import ProblemError
from .ranges import UnsatisfiableError, span
from .world import World

__all__ = ["Downloads"]

CHUNK = 256 * 1024

REFUSAL = '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{}</Code><Message>{}</Message></Error>'


class Downloads:
    """Stream files, whole or a range of them, to who has a url that is alive."""

    def __init__(self, world: World, links: Links, library: Library, controls: Controls, dice: Dice) -> None:
        self._world = world
        self._links = links
        self._library = library
        self._controls = controls
        self._dice = dice

    def routes(self) -> list[web.RouteDef]:
        """Return the route of download urls, for GET and HEAD."""
        return [web.get("/files/{avatar_id}/{version}/{name}", self.download_file, name="download_file")]

    async def download_file(self, request: web.Request) -> web.StreamResponse:
        """Serve a file: 200, 206 or 416; 403 for a url that is forged or dead, 404 once its avatar is deleted."""
        if hdrs.AUTHORIZATION in request.headers:
            return _refusal(400, "InvalidArgument", "Only one auth mechanism allowed")
        if not self._links.allows(request.path, request.query):
            return _refusal(403, "AccessDenied", "Request has expired, or its signature does not match")
        file = _file(request)
        try:
            self._world.avatar(file.avatar_id)
        except ProblemError:
            return _refusal(404, "NoSuchKey", "The specified key does not exist.")
        return await self._serve(request, await self._library.open(file))

    async def _serve(self, request: web.Request, blob: Blob) -> web.StreamResponse:
        headers = {hdrs.ETAG: blob.etag, hdrs.CONTENT_TYPE: blob.type, hdrs.ACCEPT_RANGES: "bytes"}
        length = len(blob.data)
        if request.method == hdrs.METH_HEAD:
            return web.Response(headers={**headers, hdrs.CONTENT_LENGTH: str(length)})
        try:
            part = span(request.headers, length=length, etag=blob.etag)
        except UnsatisfiableError:
            refusal = _refusal(416, "InvalidRange", "The requested range is not satisfiable")
            refusal.headers[hdrs.CONTENT_RANGE] = f"bytes */{length}"
            return refusal
        if part is None:
            return await self._stream(request, web.StreamResponse(headers=headers), blob.data)
        headers[hdrs.CONTENT_RANGE] = f"bytes {part.start}-{part.stop - 1}/{length}"
        body = memoryview(blob.data)[part.start : part.stop]
        return await self._stream(request, web.StreamResponse(status=206, headers=headers), body)

    async def _stream(
        self, request: web.Request, response: web.StreamResponse, body: bytes | memoryview
    ) -> web.StreamResponse:
        response.content_length = len(body)
        end = self._break(len(body))
        view = memoryview(body)[:end]
        try:
            await response.prepare(request)
            for start in range(0, len(view), CHUNK):
                await response.write(view[start : start + CHUNK])
        except ConnectionError:
            return response  # whoever asked has left
        if end is not None and request.transport is not None:
            # What was written still arrives; nothing is missing but the end.
            request.transport.close()
        return response

    def _break(self, length: int) -> int | None:
        faults = self._controls.faults
        broken = self._dice.happens("broken_downloads", faults.broken_downloads)
        where = int(self._dice.upto("broken_downloads", length))
        return where if broken else None


def _file(request: web.Request) -> File:
    # The signature has vouched for the path.
    match = request.match_info
    return File(UUID(match["avatar_id"]), int(match["version"]), match["name"], request.query.get("scene", ""))


def _refusal(status: int, code: str, message: str) -> web.Response:
    return web.Response(status=status, text=REFUSAL.format(code, message), content_type="application/xml")

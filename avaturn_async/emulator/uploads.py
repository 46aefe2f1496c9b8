"""The urls that photos are posted to."""

import asyncio

import attrs
from aiohttp import BadContentDispositionHeader, BadContentDispositionParam, BodyPartReader, hdrs, web
from aiohttp.http import HttpProcessingError

from .jobs import Jobs
from .links import Links
from .settings import Settings
from .state import Avatar, State, scan_of
from .validation import ApiError, Issue, invalid, require, schema

__all__ = ["Uploads"]

FORM = schema("PhotoUpload")
MAX_PART = 32 * 1024 * 1024
MAX_FORM = 3 * MAX_PART + 64 * 1024
CHUNK = 64 * 1024
HEAD = 64


@attrs.frozen
class Uploads:
    """Take three photos of an avatar, once. They are read in pieces and not kept."""

    state: State
    settings: Settings
    links: Links
    jobs: Jobs

    def routes(self) -> list[web.RouteDef]:
        """Return the route of upload urls."""
        return [web.post("/uploads/{owner}/{secret}", self.upload_photos, name="upload_photos")]

    async def upload_photos(self, request: web.Request) -> web.Response:
        """Take the contract's PhotoUpload and start the scan. A second upload is answered 409."""
        avatar = self.state.avatar(self.links.owner_of(request.match_info))
        if hdrs.AUTHORIZATION in request.headers:
            raise ApiError(400, "The API token must not be sent to upload_url")
        _check_pending(avatar)
        require(await _read_form(request), FORM, ("body",))
        await asyncio.sleep(self.settings.timing.upload)
        _check_pending(avatar)  # another upload may have been faster
        await self.jobs.start(scan_of(avatar))
        return web.json_response({"status": "processing"})


def _check_pending(avatar: Avatar) -> None:
    if avatar.deleted:
        raise ApiError(404, f"Avatar {avatar.id} not found")
    if avatar.status != "pending":
        raise ApiError(409, f"The photos of avatar {avatar.id} have been uploaded")


async def _read_form(request: web.Request) -> dict[str, bytes | str]:
    """Read a form to its end, and return the first bytes of each photo, and the words."""
    if request.content_type != "multipart/form-data":
        raise invalid([Issue(("body",), "Input should be multipart/form-data", "multipart_type")])
    malformed = ApiError(400, "There was an error parsing the body")
    too_large = ApiError(413, f"The form has more than {MAX_FORM} bytes")
    if (request.content_length or 0) > MAX_FORM:
        raise too_large
    heads: dict[str, bytes | str] = {}
    try:
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader):
                raise malformed
            head, size = b"", 0
            while chunk := await part.read_chunk(CHUNK):
                size += len(chunk)
                if size > MAX_PART:
                    raise ApiError(413, f"{part.name} has more than {MAX_PART} bytes")
                if request.content.total_bytes > MAX_FORM:  # a chunked body has no Content-Length
                    raise too_large
                head += chunk[: HEAD - len(head)]
            if part.name and (field := FORM["properties"].get(part.name)):
                heads[part.name] = head if "contentMediaType" in field else head.decode(errors="replace")
    except (ValueError, AssertionError, HttpProcessingError, BadContentDispositionHeader, BadContentDispositionParam):
        raise malformed from None
    return heads

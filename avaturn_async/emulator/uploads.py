"""The urls that photos are posted to."""

import asyncio
from collections.abc import Iterator
from uuid import UUID

from aiohttp import BodyPartReader, hdrs, web
from aiohttp.http import HttpProcessingError

from .controls import Controls
from .jobs import Jobs
from .links import Links
from .problems import Complaint, ProblemError, invalid
from .records import Avatar, Scan
from .world import World

__all__ = ["Uploads"]

PHOTOS = ("image-frontal", "image-side-1", "image-side-2")
WORDS = {"body-type": (b"male", b"female"), "telephoto": (b"true", b"false")}
OPTIONAL = "telephoto"
JPEG = b"\xff\xd8\xff"
MAX_PART = 32 * 1024 * 1024
HEAD = 64


class Uploads:
    """Take three photos for an avatar, once; they are looked at and forgotten."""

    def __init__(self, world: World, jobs: Jobs, links: Links, controls: Controls) -> None:
        self._world = world
        self._jobs = jobs
        self._links = links
        self._controls = controls

    def routes(self) -> list[web.RouteDef]:
        """Return the route of upload urls."""
        return [web.post("/uploads/{avatar_id}/{secret}", self.upload_photos, name="upload_photos")]

    async def upload_photos(self, request: web.Request) -> web.Response:
        """Take the contract's PhotoUpload and start the scan. A second one is answered 409."""
        avatar = self._addressee(request)
        if hdrs.AUTHORIZATION in request.headers:
            raise ProblemError(400, "The API token is not to be sent to upload_url")
        _check_waiting(avatar)
        complaints = [*_complaints(await _form(request))]
        if complaints:
            raise invalid(complaints)
        await asyncio.sleep(self._controls.timing.upload)
        _check_waiting(avatar)
        await self._jobs.start(Scan(avatar))
        return web.json_response({"status": "processing"})

    def _addressee(self, request: web.Request) -> Avatar:
        unknown = ProblemError(404, "Upload url not found")
        try:
            avatar_id = UUID(request.match_info["avatar_id"])
        except ValueError:
            raise unknown from None
        if not self._links.knows(avatar_id, request.match_info["secret"]):
            raise unknown
        return self._world.avatar(avatar_id)


def _check_waiting(avatar: Avatar) -> None:
    if avatar.deleted:
        raise ProblemError(404, f"Avatar {avatar.id} not found")
    if avatar.status != "pending":
        raise ProblemError(409, f"The photos of avatar {avatar.id} have been uploaded")


async def _form(request: web.Request) -> dict[str, bytes]:
    """Read a form to its end and return how each part begins."""
    if request.content_type != "multipart/form-data":
        raise invalid([Complaint(("body",), "Input should be multipart/form-data", "multipart_type")])
    heads = {}
    try:
        async for part in await request.multipart():
            if isinstance(part, BodyPartReader) and part.name:
                heads[part.name] = await _head(part)
    except (ValueError, AssertionError, HttpProcessingError):
        raise ProblemError(400, "There was an error parsing the body") from None
    return heads


async def _head(part: BodyPartReader) -> bytes:
    head, size = b"", 0
    while chunk := await part.read_chunk(65_536):
        size += len(chunk)
        if size > MAX_PART:
            raise ProblemError(413, f"{part.name} has more than {MAX_PART} bytes")
        head += chunk[: HEAD - len(head)]
    return head


def _complaints(heads: dict[str, bytes]) -> Iterator[Complaint]:
    for name in (*PHOTOS, *WORDS):
        if name not in heads and name != OPTIONAL:
            yield Complaint(("body", name), "Field required", "missing")
        elif name in PHOTOS and not heads[name].startswith(JPEG):
            yield Complaint(("body", name), "Input should be a JPEG image", "image_type")
        elif name in WORDS and name in heads and heads[name] not in WORDS[name]:
            wanted = " or ".join(repr(word.decode()) for word in WORDS[name])
            yield Complaint(("body", name), f"Input should be {wanted}", "enum")

"""The handlers of requests: the operations of the contract, the photo upload, and pages for browsers."""

import asyncio
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any
from uuid import UUID

import attrs
from aiohttp import BadContentDispositionHeader, BadContentDispositionParam, BodyPartReader, hdrs, web
from aiohttp.http import HttpProcessingError

from .jobs import Jobs
from .settings import Settings
from .state import Avatar, Links, State, scan_of
from .validation import UUID_SCHEMA, ApiError, Issue, contract, invalid, parse, require, schema

__all__ = ["Api", "served"]

#: Method, path and description of each operation, by its operationId.
OPERATIONS = {
    operation["operationId"]: (method, path, operation)
    for path, item in contract()["paths"].items()
    for method, operation in item.items()
    if method != "parameters"
}
PATTERNS = {"/api/v1/users/{user_id}": "/api/v1/users/{user_id:(?!new$)[^{}/]+}"}  # no user is called "new"
#: Method, path and handler of the requests that the contract does not describe.
OTHERS = (
    ("POST", "/uploads/{owner}/{secret}", "upload_photos"),
    ("GET", "/sessions/{owner}/{secret}", "open_session"),
    ("POST", "/sessions/{owner}/{secret}", "finish_session"),
    ("GET", "/openapi.json", "document"),
)

FORM = schema("PhotoUpload")
MAX_PART = 32 * 1024 * 1024
MAX_FORM = 3 * MAX_PART + 64 * 1024
CHUNK = 64 * 1024
HEAD = 64

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Avaturn emulator</title>
<body style="font: 1.1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 4rem auto; padding: 0 1rem">
<h1>Avaturn emulator</h1>
{}
</html>
"""
OPENED = """<p>This page stands in for the Avaturn editor. Finishing the session {} the first outfit of the catalogue.
<form method="post"><button style="font: inherit; padding: 0.4rem 1rem">Finish the session</button></form>
"""
FINISHED = "<p>The session is finished. Its avatar is <code>{}</code>."


@attrs.frozen
class Api:
    """The handlers; those of the contract's operations are named after their operationIds."""

    state: State
    settings: Settings
    links: Links
    jobs: Jobs

    def routes(self) -> list[web.RouteDef]:
        """Return a route for each handler, by its name."""
        found = [(method, PATTERNS.get(path, path), name) for name, (method, path, _) in OPERATIONS.items()]
        return [web.route(method, path, getattr(self, name), name=name) for method, path, name in (*found, *OTHERS)]

    async def create_user(self, request: web.Request) -> web.Response:
        """Create a user."""
        return web.json_response({"id": self.state.create_user()})

    async def delete_user(self, request: web.Request) -> web.Response:
        """Delete a user."""
        self.state.delete_user(request.match_info["user_id"])
        return web.json_response(None)

    async def list_user_avatars(self, request: web.Request) -> web.Response:
        """List a user's avatars."""
        everything = _query(request).get("include_not_ready") == "true"
        avatars = self.state.avatars_of(request.match_info["user_id"])
        return web.json_response(
            [
                {"id": str(avatar.id), "status": avatar.status}
                for avatar in avatars
                if everything or avatar.status == "ready"
            ]
        )

    async def delete_user_avatar(self, request: web.Request) -> web.Response:
        """Delete an avatar."""
        self.state.delete_avatar(request.match_info["user_id"], _path_id(request, "avatar_id"))
        return web.json_response(None)

    async def create_session(self, request: web.Request) -> web.Response:
        """Create a session."""
        body = await _json(request)
        config = body.get("config", {"type": "create_or_edit_existing"})
        session = self.state.create_session(body["user_id"], config)
        url = self.links.secret_url("sessions", session.id)
        return web.json_response({"id": str(session.id), "url": url, "custom_upload_url": None})

    async def create_avatar(self, request: web.Request) -> web.Response:
        """Create an avatar whose photos have not been uploaded."""
        body = await _json(request)
        avatar = self.state.create_avatar(body["user_id"])
        url = self.links.secret_url("uploads", avatar.id)
        return web.json_response({"avatar_id": str(avatar.id), "upload_url": url})

    async def get_customization(self, request: web.Request) -> web.Response:
        """Read a customization."""
        avatar = self.state.avatar(_path_id(request, "id"))
        if avatar.customization is None:
            raise ApiError(404, f"Avatar {avatar.id} has no customization yet")
        return web.json_response(avatar.customization)

    async def set_customization(self, request: web.Request) -> web.Response:
        """Set a customization."""
        avatar_id = _path_id(request, "id")
        body = await _json(request)
        self.state.customize(self.state.scanned(avatar_id), body)
        return web.json_response(None, status=202)

    async def render_user_avatar(self, request: web.Request) -> web.Response:
        """Start a render."""
        query = _query(request)
        await _need_pillow()
        render = self.state.create_render(UUID(query["avatar_id"]), query["scene"], query.get("format", "jpg"))
        await self.jobs.start(render)
        return web.json_response({"id": str(render.id), "status": "pending", "render_url": None})

    async def create_export(self, request: web.Request) -> web.Response:
        """Start an export, or read its state."""
        avatar_id = UUID(_query(request)["avatar_id"])
        await _need_pillow()
        export, new = self.state.export(avatar_id, restart=self.settings.faults.restart_failed)
        response = web.json_response({"status": export.status, "url": export.url(self.links)})
        if new:
            await self.jobs.start(export)
        return response

    async def upload_photos(self, request: web.Request) -> web.Response:
        """Accept the contract's PhotoUpload and start the scan; answer 409 to a second upload."""
        avatar = self.state.avatar(self.links.owner_of(request.match_info))
        if hdrs.AUTHORIZATION in request.headers:
            raise ApiError(400, "The API token must not be sent to upload_url")
        _check_pending(avatar)
        require(await _read_form(request), FORM, ("body",))
        await asyncio.sleep(self.settings.timing.upload)
        _check_pending(avatar)  # another upload may have been faster
        await self.jobs.start(scan_of(avatar))
        return web.json_response({"status": "processing"})

    async def open_session(self, request: web.Request) -> web.Response:
        """Serve the page that stands in for the editor."""
        session = self.state.session(self.links.owner_of(request.match_info))
        edits = session.config["type"] == "edit_existing"
        text = OPENED.format("dresses its avatar in" if edits else "creates an avatar that wears")
        return web.Response(text=PAGE.format(text), content_type="text/html")

    async def finish_session(self, request: web.Request) -> web.Response:
        """End the session as its user would, and show the avatar's id."""
        avatar_id = await self.jobs.complete_session(self.links.owner_of(request.match_info), None)
        return web.Response(text=PAGE.format(FINISHED.format(avatar_id)), content_type="text/html")

    async def document(self, request: web.Request) -> web.Response:
        """Serve the contract."""
        document = await asyncio.to_thread(served, self.links.base, self.state.catalogue.bodies)
        return web.json_response(document)


async def _need_pillow() -> None:
    if not await asyncio.to_thread(find_spec, "PIL"):
        raise ApiError(501, 'The emulator draws with Pillow: pip install "avaturn-async[emulator]"')


def _path_id(request: web.Request, name: str) -> UUID:
    return UUID(require(request.match_info[name], UUID_SCHEMA, ("path", name)))


def _query(request: web.Request) -> dict[str, Any]:
    *_, operation = OPERATIONS[str(request.match_info.route.name)]
    fields = {each["name"]: each for each in operation["parameters"] if each.get("in") == "query"}
    wanted = {
        "type": "object",
        "required": [name for name, field in fields.items() if field["required"]],
        "properties": {name: field["schema"] for name, field in fields.items()},
    }
    # A repeated parameter becomes a list, which no schema accepts.
    query = {name: values[0] if len(values := request.query.getall(name)) == 1 else values for name in request.query}
    return require(query, wanted, ("query",))  # type: ignore[no-any-return]


async def _json(request: web.Request) -> Any:
    *_, operation = OPERATIONS[str(request.match_info.route.name)]
    wanted = operation["requestBody"]["content"]["application/json"]["schema"]
    return require(parse(await request.read(), request.content_type), wanted, ("body",))


def _check_pending(avatar: Avatar) -> None:
    if avatar.deleted:
        raise ApiError(404, f"Avatar {avatar.id} not found")
    if avatar.status != "pending":
        raise ApiError(409, f"The photos of avatar {avatar.id} have been uploaded")


async def _read_form(request: web.Request) -> dict[str, bytes | str]:
    """Read a form in pieces, and return its text fields and the first bytes of each photo."""
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


def served(url: str, bodies: Sequence[str]) -> dict[str, Any]:
    """Return the contract of a server at `url` that accepts only these bodies."""
    document = contract()
    components = document["components"]
    schemas = components["schemas"]
    narrowed = {**schemas, "AvatarBody": {**schemas["AvatarBody"], "enum": [*bodies]}}
    return {**document, "servers": [{"url": url}], "components": {**components, "schemas": narrowed}}

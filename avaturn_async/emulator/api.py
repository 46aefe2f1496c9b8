"""The ten operations of the contract."""

import asyncio
from typing import Any
from uuid import UUID

import attrs
from aiohttp import web

from .downloads import can_draw
from .jobs import Jobs
from .links import Links
from .settings import Settings
from .state import State
from .validation import UUID_SCHEMA, ApiError, contract, parse, require

__all__ = ["Api"]

#: Method, path and description of each operation, by its operationId.
OPERATIONS = {
    operation["operationId"]: (method, path, operation)
    for path, item in contract()["paths"].items()
    for method, operation in item.items()
    if method != "parameters"
}
PATTERNS = {"/api/v1/users/{user_id}": "/api/v1/users/{user_id:(?!new$)[^{}/]+}"}  # no user is called "new"


@attrs.frozen
class Api:
    """Handlers of the operations, named after the contract's operationIds."""

    state: State
    settings: Settings
    links: Links
    jobs: Jobs

    def routes(self) -> list[web.RouteDef]:
        """Return a route for each operation, named by its operationId."""
        return [
            web.route(method, PATTERNS.get(path, path), getattr(self, name), name=name)
            for name, (method, path, _) in OPERATIONS.items()
        ]

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
        """Create an avatar that awaits its photos."""
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


async def _need_pillow() -> None:
    if not await asyncio.to_thread(can_draw):
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

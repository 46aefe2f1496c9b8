"""The ten operations of the contract."""

import asyncio
from typing import Any
from uuid import UUID

import attrs
from aiohttp import web

from .files import can_draw
from .jobs import Jobs
from .links import Links
from .settings import Settings
from .state import State
from .validation import CUSTOMIZATION, EXPORT, LISTING, RENDER, SESSION, USER, ApiError, Check, parse, require, uuid

__all__ = ["Api"]


@attrs.frozen
class Api:
    """Handlers of the operations, named after the contract's operationIds."""

    state: State
    settings: Settings
    links: Links
    jobs: Jobs

    def routes(self) -> list[web.RouteDef]:
        """Return a route for each operation, named by its operationId."""
        table = [
            ("POST", "users/new", self.create_user),
            ("DELETE", "users/{user_id:(?!new$)[^{}/]+}", self.delete_user),
            ("GET", "users/{user_id}/avatars", self.list_user_avatars),
            ("DELETE", "users/{user_id}/avatars/{avatar_id}", self.delete_user_avatar),
            ("POST", "sessions/new", self.create_session),
            ("POST", "avatars/new", self.create_avatar),
            ("GET", "avatars/{id}/customization", self.get_customization),
            ("PUT", "avatars/{id}/customization", self.set_customization),
            ("POST", "renders/new", self.render_user_avatar),
            ("POST", "exports/new", self.create_export),
        ]
        return [web.route(method, f"/api/v1/{path}", call, name=call.__name__) for method, path, call in table]

    async def create_user(self, request: web.Request) -> web.Response:
        """Create a user."""
        return web.json_response({"id": self.state.create_user()})

    async def delete_user(self, request: web.Request) -> web.Response:
        """Delete a user."""
        self.state.delete_user(request.match_info["user_id"])
        return web.json_response(None)

    async def list_user_avatars(self, request: web.Request) -> web.Response:
        """List a user's avatars."""
        everything = _query(request, LISTING).get("include_not_ready") == "true"
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
        body = await _json(request, SESSION)
        config = body.get("config", {"type": "create_or_edit_existing"})
        session = self.state.create_session(body["user_id"], config)
        url = self.links.secret_url("sessions", session.id)
        return web.json_response({"id": str(session.id), "url": url, "custom_upload_url": None})

    async def create_avatar(self, request: web.Request) -> web.Response:
        """Create an avatar that awaits its photos."""
        body = await _json(request, USER)
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
        body = await _json(request, CUSTOMIZATION)
        self.state.customize(self.state.scanned(avatar_id), body)
        return web.json_response(None, status=202)

    async def render_user_avatar(self, request: web.Request) -> web.Response:
        """Start a render."""
        query = _query(request, RENDER)
        await _need_pillow()
        render = self.state.create_render(UUID(query["avatar_id"]), query["scene"], query.get("format", "jpg"))
        await self.jobs.start(render)
        return web.json_response({"id": str(render.id), "status": "pending", "render_url": None})

    async def create_export(self, request: web.Request) -> web.Response:
        """Start an export, or read its state."""
        avatar_id = UUID(_query(request, EXPORT)["avatar_id"])
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
    return UUID(require(request.match_info[name], uuid, ("path", name)))


def _query(request: web.Request, check: Check) -> dict[str, Any]:
    # A repeated parameter becomes a list, which no check accepts.
    query = {name: values[0] if len(values := request.query.getall(name)) == 1 else values for name in request.query}
    return require(query, check, ("query",))  # type: ignore[no-any-return]


async def _json(request: web.Request, check: Check) -> Any:
    return require(parse(await request.read(), request.content_type), check, ("body",))

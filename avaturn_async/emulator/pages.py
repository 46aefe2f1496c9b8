"""What a browser may open: a session's page and the OpenAPI document."""

import asyncio
from uuid import UUID

from aiohttp import web

from .catalogue import Catalogue
from .contract import served
from .links import Links
from .problems import ProblemError
from .world import World

__all__ = ["DOCUMENT", "Pages"]

DOCUMENT = "/openapi.json"

PAGE = """<!doctype html>
<title>Avaturn emulator</title>
<p>This is the emulator of avaturn-async, which has no editor.
<p><code>await avaturn.complete_session("{}")</code> ends this session as a user would.
"""


class Pages:
    """Handlers of the two."""

    def __init__(self, world: World, links: Links, catalogue: Catalogue) -> None:
        self._world = world
        self._links = links
        self._catalogue = catalogue

    def routes(self) -> list[web.RouteDef]:
        """Return their routes."""
        return [
            web.get("/sessions/{session_id}/{secret}", self.open_session, name="open_session"),
            web.get(DOCUMENT, self.document, name="document"),
        ]

    async def open_session(self, request: web.Request) -> web.Response:
        """Say that there is no editor."""
        try:
            session_id = UUID(request.match_info["session_id"])
        except ValueError:
            raise ProblemError(404, "Session not found") from None
        if not self._links.knows(session_id, request.match_info["secret"]):
            raise ProblemError(404, "Session not found")
        session = self._world.session(session_id)
        return web.Response(text=PAGE.format(session.id), content_type="text/html")

    async def document(self, request: web.Request) -> web.Response:
        """Serve the contract."""
        document = await asyncio.to_thread(served, self._links.base, self._catalogue.bodies)
        return web.json_response(document)

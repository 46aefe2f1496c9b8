"""What a browser can open: the page of a session, and the contract as an OpenAPI document."""

import asyncio
from collections.abc import Sequence
from typing import Any

import attrs
from aiohttp import web

from .jobs import Jobs
from .links import Links
from .state import State
from .validation import contract

__all__ = ["Pages", "served"]

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


def served(url: str, bodies: Sequence[str]) -> dict[str, Any]:
    """Return the contract of a server at `url` that knows these bodies alone."""
    document = contract()
    components = document["components"]
    schemas = components["schemas"]
    narrowed = {**schemas, "AvatarBody": {**schemas["AvatarBody"], "enum": [*bodies]}}
    return {**document, "servers": [{"url": url}], "components": {**components, "schemas": narrowed}}


@attrs.frozen
class Pages:
    """Serve the pages."""

    state: State
    links: Links
    jobs: Jobs

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of the pages."""
        return [
            web.get("/sessions/{owner}/{secret}", self.open_session, name="open_session"),
            web.post("/sessions/{owner}/{secret}", self.finish_session, name="finish_session"),
            web.get("/openapi.json", self.document, name="document"),
        ]

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

"""A route for all paths below a prefix.

aiohttp would match each path against a pattern, and decode what the pattern found, which nobody asks for: a twentieth
of the time that a webhook takes.
"""

from __future__ import annotations

from aiohttp import hdrs, web

__all__ = ["TailRoute"]


class _Tail(web.DynamicResource):
    """What has only to begin with the prefix; one that is a pattern itself is left to aiohttp."""

    _below: str | None = None
    _route: web.AbstractRoute

    def freeze(self) -> None:
        """Be used from now on."""
        super().freeze()
        self._look_at_prefix()

    def add_prefix(self, prefix: str) -> None:
        """Take in where a parent application mounts this one, which may be frozen by then."""
        super().add_prefix(prefix)
        self._look_at_prefix()

    def _look_at_prefix(self) -> None:
        below, _, rest = self.canonical.partition("{")
        routes = list(self)
        is_usual = rest == "tail}" and [hdrs.METH_ANY] == [route.method for route in routes]
        self._below = below if is_usual else None
        self._route = routes[0]

    async def resolve(self, request: web.Request) -> tuple[web.UrlMappingMatchInfo | None, set[str]]:
        """Return the route, if the path is below the prefix; the match tells nobody what comes after it."""
        if self._below is not None and request.rel_url.path_safe.startswith(self._below):
            return web.UrlMappingMatchInfo({}, self._route), set()
        match, methods = await super().resolve(request)
        if match is not None:
            match.pop("tail", None)
        return match, methods


class TailRoute(web.RouteDef):
    """A route whose path ends in ``/{tail:.*}``."""

    def register(self, router: web.UrlDispatcher) -> list[web.AbstractRoute]:
        """Add it to an application's router."""
        options = dict(self.kwargs)
        resource = _Tail(self.path, name=options.pop("name", None))
        router.register_resource(resource)
        return [resource.add_route(self.method, self.handler, **options)]

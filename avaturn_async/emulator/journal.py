"""What was asked of the emulator."""

import time
from collections import Counter, deque

import attrs
from aiohttp import web
from aiohttp.typedefs import Handler

from .resets import broken

__all__ = ["Journal", "RequestRecord"]

LOG = 10_000


@attrs.frozen
class RequestRecord:
    """One request; `status` is None where the connection broke first."""

    method: str
    path: str
    query: str
    operation: str | None
    """The contract's operationId, or upload_photos, download_file, open_session, document, or None."""
    status: int | None
    at: float = attrs.field(factory=time.time)
    """Seconds since the epoch, when it ended."""


class Journal:
    """Keep the last ten thousand requests, and count all of them by operation."""

    def __init__(self) -> None:
        self.requests: deque[RequestRecord] = deque(maxlen=LOG)
        self.counts: Counter[str] = Counter()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count a request when it arrives, and note it when it ends."""
        operation = request.match_info.route.name
        if operation is not None:
            self.counts[operation] += 1
        status = None
        try:
            response = await handler(request)
            status = None if broken(request) else response.status
            return response
        finally:
            url = request.rel_url
            self.requests.append(RequestRecord(request.method, url.path, url.query_string, operation, status))

"""A log of the requests that an emulator received."""

import time
from collections import Counter, deque

import attrs
from aiohttp import web
from aiohttp.typedefs import Handler

__all__ = ["RequestLog", "RequestRecord"]

LOG = 100_000


@attrs.frozen
class RequestRecord:
    """One request; `status` is None if the connection broke before the response."""

    method: str
    path: str
    query: str
    operation: str | None
    """The contract's operationId, or upload_photos, download_file, open_session, finish_session, document, or None."""
    status: int | None
    received: int
    """Bytes of the body that arrived."""
    at: float = attrs.field(factory=time.time)
    """When it ended, in seconds since the epoch."""


class RequestLog:
    """Record the latest hundred thousand requests, and count all of them by operation."""

    def __init__(self) -> None:
        self.requests: deque[RequestRecord] = deque(maxlen=LOG)
        self.counts: Counter[str] = Counter()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count a request when it arrives, and record it when it ends."""
        operation = request.match_info.route.name
        if operation is not None:
            self.counts[operation] += 1
        status = None
        try:
            response = await handler(request)
            if request.transport is not None and not request.transport.is_closing():
                status = response.status
            return response
        finally:
            url, received = request.rel_url, request.content.total_bytes
            record = RequestRecord(request.method, url.path, url.query_string, operation, status, received)
            self.requests.append(record)

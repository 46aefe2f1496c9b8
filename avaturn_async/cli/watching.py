"""A receiver that shows the webhooks that it is sent."""

from __future__ import annotations

import asyncio
import secrets
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..http import codec
from ..redact import without_query
from ..webhooks import Reply, UnknownEvent, WebhookReceiver, parse_event
from .output import note, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .listen import Place
    from .output import Output

__all__ = ["Watcher", "refusal", "watch"]

REASONS = {
    400: "it is no event",
    404: "its url does not end in the secret",
    413: "it is too large",
}


async def watch(place: Place, secret: str | None, output: Output, *, whole_urls: bool) -> int:
    """Listen until Ctrl-C."""
    watcher = Watcher(secret or secrets.token_urlsafe(24), output, whole_urls=whole_urls)
    async with watcher.serve(place.host, place.port, public_url=place.public_url) as server:
        output.emit({"url": server.url})
        output.line(f"Enter this url in the developer portal: {server.url}")
        return await asyncio.Event().wait()


class Watcher(WebhookReceiver):
    """A receiver that prints what it accepts, and says on stderr what it refuses."""

    def __init__(self, secret: str, output: Output, *, whole_urls: bool) -> None:
        super().__init__(secret)
        self._output = output
        self._whole_urls = whole_urls

    async def handle(self, body: bytes, **request: Any) -> Reply:
        """Take in a webhook and show it."""
        reply = await super().handle(body, **request)
        if reply.status < 300:
            self._show(parse_event(body))
        else:
            note(refusal(reply.status))
        return reply

    def _show(self, event: Any) -> None:
        fields = event.body if isinstance(event, UnknownEvent) else codec.unstructure(event)
        shown = fields if self._whole_urls else _without_queries(fields)
        self._output.result(shown, one_line(f"{datetime.now():%H:%M:%S} {_told(shown)}"))  # noqa: DTZ005 - local time


def refusal(status: int) -> str:
    """Say why a webhook was refused."""
    return f"refused a webhook: {REASONS.get(status, f'status {status}')}"


def _without_queries(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_queries(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_queries(item) for item in value]
    return without_query(value) if isinstance(value, str) and "://" in value else value


def _told(fields: Mapping[str, Any]) -> str:
    others = (f"{name}={value}" for name, value in fields.items() if name != "event")
    return " ".join([str(fields.get("event")), *others])

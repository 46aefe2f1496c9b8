"""Replies to webhooks, and the view of a receiver that its shells share.

The receiver imports its shells (aiohttp, ASGI, WSGI ...) when they are first asked for. They import this module and
never the receiver's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Protocol

import attrs

__all__ = [
    "ACCEPTED",
    "COMPRESSED",
    "NOT_ALLOWED",
    "NOT_FOUND",
    "NO_HEADERS",
    "TOO_LARGE",
    "TOO_SLOW",
    "UNAUTHORIZED",
    "UNAVAILABLE",
    "UNKNOWN",
    "UNREADABLE",
    "Receiver",
    "Reply",
    "refusal",
    "refused_unread",
]

NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


@attrs.frozen
class Reply:
    """The response to send for a webhook.

    Attributes:
        status: the HTTP status code.
        body: a line of text, or nothing.
        headers: the response's headers, except Content-Length.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = attrs.field(default=NO_HEADERS, hash=False)


def refusal(status: int, text: str, **headers: str) -> Reply:
    """Return a reply with a line of text."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = {"Content-Type": "text/plain; charset=utf-8"} if text else {}
    return Reply(status, text.encode("utf-8", "replace"), MappingProxyType(content | named))


ACCEPTED = Reply(200)
UNKNOWN = refusal(202, "unknown event")
UNREADABLE = refusal(400, "the body can't be read")
UNAUTHORIZED = Reply(401)
NOT_FOUND = Reply(404)
NOT_ALLOWED = refusal(405, "", Allow="POST")
TOO_SLOW = refusal(408, "the body did not arrive in time")
TOO_LARGE = refusal(413, "the body is too large")
COMPRESSED = refusal(415, "the body must not be compressed", Accept_Encoding="identity")  # RFC 9110, 15.5.16
UNAVAILABLE = refusal(503, "the event was not processed", Retry_After="5")


def refused_unread(method: str, encoding: str | None, length: str | None, max_body: int) -> Reply | None:
    """Return the reply to a request by its method, Content-Encoding and Content-Length alone, or None."""
    if method != "POST":
        return NOT_ALLOWED
    if encoding and encoding.strip().lower() not in ("", "identity"):
        return COMPRESSED
    return TOO_LARGE if length and length.isdecimal() and int(length[:18]) > max_body else None


class Receiver(Protocol):
    """A `WebhookReceiver`, as its shells see it."""

    path: str
    max_body: int
    body_timeout: float

    def bind(self, *, reopen: bool = True) -> None:
        """Run callbacks on the current event loop."""

    async def handle(self, body: bytes, *, path: str = "", headers: Mapping[str, str] = NO_HEADERS) -> Reply:
        """Process one webhook."""

    def refuse(self, reply: Reply) -> Reply:
        """Tell observers of the reply to a request that is not processed, and return it."""

    async def aclose(self, drain: float = 10) -> None:
        """Refuse further webhooks and wait for those in flight."""

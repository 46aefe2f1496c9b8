"""The receiver as a WSGI application (PEP 3333), for Flask, Django and others."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from ..redact import Secret
from .replies import COMPRESSED, NOT_ALLOWED, TOO_LARGE, UNREADABLE, Reply, is_encoded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .replies import Receiver

__all__ = ["WsgiApp"]


class WsgiApp:
    """Answers webhooks under any mount; with a path secret, the last segment of the path counts."""

    __slots__ = ("_receiver",)

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def __call__(self, environ: Mapping[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        """Serve one request, on an event loop of its own."""
        reply = self._answer(environ)
        headers = [*reply.headers.items(), ("Content-Length", str(len(reply.body)))]
        start_response(f"{reply.status} {HTTPStatus(reply.status).phrase}", headers)
        return [reply.body]

    def _answer(self, environ: Mapping[str, Any]) -> Reply:
        body = self._read(environ)
        if isinstance(body, Reply):
            return self._receiver.refuse(body)
        names = {
            name: name.removeprefix("HTTP_").replace("_", "-").lower() for name in environ if name.startswith("HTTP_")
        }
        names |= {"CONTENT_TYPE": "content-type", "CONTENT_LENGTH": "content-length"}
        headers = {header: environ[name] for name, header in names.items() if name in environ}
        return asyncio.run(self._receiver.handle(body, path=Secret(environ.get("PATH_INFO", "")), headers=headers))

    def _read(self, environ: Mapping[str, Any]) -> bytes | Reply:
        """Return the body, or the reply that refuses the request."""
        if environ["REQUEST_METHOD"] != "POST":
            return NOT_ALLOWED
        if is_encoded(environ.get("HTTP_CONTENT_ENCODING")):
            return COMPRESSED
        announced, limit = environ.get("CONTENT_LENGTH") or "", self._receiver.max_body
        try:
            length = max(0, int(announced or 0))
            if length > limit:
                return TOO_LARGE
            if not announced and environ.get("wsgi.input_terminated"):  # a chunked body, which the server ends
                length = limit + 1
            body: bytes = environ["wsgi.input"].read(length)
        except Exception:  # noqa: BLE001 - cut off or badly framed, the sender's fault
            return UNREADABLE
        return body

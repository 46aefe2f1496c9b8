"""The receiver where no event loop runs: as a WSGI application (PEP 3333) and as an AWS Lambda function."""

from __future__ import annotations

import asyncio
import base64
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from ..redact import Secret
from .replies import UNREADABLE, Reply, refused_unread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .replies import Receiver

__all__ = ["WsgiApp", "respond_to_lambda"]


class WsgiApp:
    """Answers webhooks under any mount; with a path secret, the last segment of the path counts."""

    __slots__ = ("_receiver",)

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def __call__(self, environ: Mapping[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        """Serve one request, on an event loop of its own."""
        names = {name: name[5:].replace("_", "-").lower() for name in environ if name.startswith("HTTP_")}
        names |= {"CONTENT_TYPE": "content-type", "CONTENT_LENGTH": "content-length"}
        headers = {header: environ[name] for name, header in names.items() if name in environ}
        encoding, length = headers.get("content-encoding"), headers.get("content-length")
        refused = refused_unread(environ["REQUEST_METHOD"], encoding, length, self._receiver.max_body)
        body = refused or self._read(environ)
        reply = _process(self._receiver, body, Secret(environ.get("PATH_INFO", "")), headers)
        fields = [*reply.headers.items(), ("Content-Length", str(len(reply.body)))]
        start_response(f"{reply.status} {HTTPStatus(reply.status).phrase}", fields)
        return [reply.body]

    def _read(self, environ: Mapping[str, Any]) -> bytes | Reply:
        """Return the body, or the reply that refuses it."""
        announced, limit = environ.get("CONTENT_LENGTH") or "", self._receiver.max_body + 1
        try:
            length = max(0, int(announced or 0))
            if not announced and environ.get("wsgi.input_terminated"):  # a chunked body, which the server ends
                length = limit
            body: bytes = environ["wsgi.input"].read(min(length, limit))  # int() also reads "99_999", for example
        except Exception:  # noqa: BLE001 - cut off or badly framed, the sender's fault
            return UNREADABLE
        return body


def respond_to_lambda(receiver: Receiver, event: Mapping[str, Any]) -> dict[str, Any]:
    """Process the webhook in an event of payload format 1.0 or 2.0, and return the response."""
    http = (event.get("requestContext") or {}).get("http", {})  # format 2.0 and function urls
    headers = {str(name).lower(): value for name, value in (event.get("headers") or {}).items()}
    for name, values in (event.get("multiValueHeaders") or {}).items():  # the only ones of some load balancers
        headers.setdefault(str(name).lower(), values[-1])
    text, is_base64 = event.get("body") or "", event.get("isBase64Encoded")
    method, encoding = event.get("httpMethod", http.get("method")), headers.get("content-encoding")
    refused = refused_unread(method, encoding, None, receiver.max_body)  # the body is here, whatever its header says
    try:
        body = refused or (base64.b64decode(text, validate=True) if is_base64 else text.encode())
    except ValueError:
        body = UNREADABLE
    reply = _process(receiver, body, Secret(event.get("rawPath") or event.get("path") or ""), headers)
    return {
        "statusCode": reply.status,
        "headers": dict(reply.headers),
        "body": reply.body.decode(),
        "isBase64Encoded": False,
    }


def _process(receiver: Receiver, body: bytes | Reply, path: Secret, headers: Mapping[str, str]) -> Reply:
    if isinstance(body, Reply):
        return receiver.refuse(body)
    return asyncio.run(receiver.handle(body, path=path, headers=headers))

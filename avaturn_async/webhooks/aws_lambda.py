"""The receiver as an AWS Lambda function, behind API Gateway, a function url or a load balancer."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

from ..redact import Secret
from .replies import COMPRESSED, NOT_ALLOWED, UNREADABLE, Reply, is_encoded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .replies import Receiver

__all__ = ["respond"]


def respond(receiver: Receiver, event: Mapping[str, Any]) -> dict[str, Any]:
    """Process the webhook in an event of payload format 1.0 or 2.0, and return the response."""
    reply = _answer(receiver, event)
    return {
        "statusCode": reply.status,
        "headers": dict(reply.headers),
        "body": reply.body.decode(),
        "isBase64Encoded": False,
    }


def _answer(receiver: Receiver, event: Mapping[str, Any]) -> Reply:
    http = (event.get("requestContext") or {}).get("http", {})  # format 2.0 and function urls
    if event.get("httpMethod", http.get("method")) != "POST":
        return receiver.refuse(NOT_ALLOWED)
    headers = {str(name).lower(): value for name, value in (event.get("headers") or {}).items()}
    for name, values in (event.get("multiValueHeaders") or {}).items():  # the only ones of some load balancers
        headers.setdefault(str(name).lower(), values[-1])
    if is_encoded(headers.get("content-encoding")):
        return receiver.refuse(COMPRESSED)
    body = event.get("body") or ""
    try:
        content = base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body.encode()
    except ValueError:
        return receiver.refuse(UNREADABLE)
    path = Secret(event.get("rawPath") or event.get("path") or "")
    return asyncio.run(receiver.handle(content, path=path, headers=headers))

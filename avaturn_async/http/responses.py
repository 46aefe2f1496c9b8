"""Read the API's responses, and turn error statuses into exceptions."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Mapping
from http import HTTPStatus
from io import BytesIO
from typing import Any

import aiohttp
import attrs

from ..errors import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    GoneError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    UnprocessableError,
)
from ..models import ValidationError
from ..redact import MaskedBytes, Secret, mask_links, without_queries, without_query
from . import codec
from .dates import retry_after

__all__ = ["MAX_BODY", "Response", "receive", "status_error"]

#: Bytes of a 2xx that are read; the contract's responses are far smaller.
MAX_BODY = 16 * 2**20
_MAX_ERROR_BODY = 64 * 2**10
_MAX_MESSAGE = 300
_CLASSES: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: PaymentRequiredError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
}
_MARKUP = r"(?is)<(script|style)\b.*?</\1\s*>|<[^>]*>"


@attrs.define
class Response:
    """A complete response of the API.

    Attributes:
        status: HTTP status.
        body: its bytes.
        headers: its headers, with case-insensitive names.
    """

    status: int
    body: bytes = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether the status is a 2xx."""
        return 200 <= self.status < 300


async def receive(sending: Awaitable[aiohttp.ClientResponse]) -> Response:
    """Await a response and read its body: of a 2xx up to a little over `MAX_BODY`, of other responses 64 KiB.

    An error's status matters more than its body, so a body of one that breaks off is returned as far as it came.
    """
    response = await sending
    ok = 200 <= response.status < 300
    limit = MAX_BODY if ok else _MAX_ERROR_BODY
    buffer = BytesIO()  # unlike a bytearray, it shows no content in tracebacks that print locals
    try:
        while buffer.tell() <= limit and buffer.write(await response.content.readany()):
            pass
    except (aiohttp.ClientError, OSError):
        if ok:
            raise
    finally:
        if not response.closed:
            response.close()
    body = MaskedBytes(buffer.getvalue() if ok else buffer.getvalue()[:limit])
    return Response(response.status, body, response.headers)


def status_error(response: Response, method: str, path: str, token: Secret) -> APIStatusError:
    """Return the exception for a response other than a 2xx, without `token`: some servers quote what they refuse."""
    body = response.body
    if len(token) >= 8:  # a shorter one, of a test, is found in any text
        body = MaskedBytes(body.replace(token.encode(), b"***"))
    detail, findings = _explain(body)
    status = response.status
    facts: dict[str, Any] = {
        "status_code": status,
        "method": method,
        "path": path,
        "body": body,
        "detail": detail,
        "request_id": response.headers.get("X-Request-Id"),
    }
    message = f"{method} {path} answered {status}: {_printable(detail or _text_of(body) or _phrase(status))}"
    if 300 <= status < 400:
        target = _printable(without_query(response.headers.get("Location", "nowhere")))
        message += f" (to {target}; redirects are not followed)"
    if status == 422:
        return UnprocessableError(message, errors=findings, **facts)
    if status == 429:
        return RateLimitError(message, retry_after=retry_after(response.headers), **facts)
    return (ServerError if 500 <= status < 600 else _CLASSES.get(status, APIStatusError))(message, **facts)


def _explain(body: bytes) -> tuple[str | None, list[ValidationError]]:
    """Return FastAPI's `detail` as a sentence, without queries of urls, and those of its findings that can be read."""
    try:
        parsed = codec.parse_json(body)
    except ValueError:
        return None, []
    detail = mask_links(parsed.get("detail")) if isinstance(parsed, dict) else None
    if detail is None:
        return None, []
    if isinstance(detail, str):
        return without_queries(detail), []
    try:
        findings = codec.structure(detail, list[ValidationError])
    except codec.MismatchError:
        findings = []
    sentence = "; ".join(map(_sentence, findings)) or json.dumps(detail, ensure_ascii=False)
    return without_queries(sentence), findings


def _sentence(finding: ValidationError) -> str:
    place = ".".join(map(str, finding.loc))
    return f"{place}: {finding.msg}" if place else finding.msg


def _text_of(body: bytes) -> str:
    """Return the text of a body without tags of HTML or XML; of a binary one, such as an echoed photo, nothing."""
    text = body[:8192].decode(errors="replace")
    return "" if "\ufffd" in text[:-1] else " ".join(re.sub(_MARKUP, " ", text).split())


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no reason given"


def _printable(text: str) -> str:
    """Take out the queries of urls, cut the text, and escape control characters."""
    text = without_queries(text)
    cut = text if len(text) <= _MAX_MESSAGE else text[:_MAX_MESSAGE] + "..."
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in cut)

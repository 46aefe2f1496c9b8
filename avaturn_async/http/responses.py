"""Read the API's answers: which error a status is, what it says, and when to come back."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from io import BytesIO
from typing import TYPE_CHECKING, Any

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
from ..redact import MaskedBytes, Secret, without_query
from . import codec
from .dates import retry_after

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MOST_BODY", "Response", "read_body", "status_error"]

_KINDS: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: PaymentRequiredError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
}
MOST_BODY = 16 * 1024 * 1024
_MOST_ERROR_BODY = 64 * 1024
_MOST_SAID = 300
_LEAST_TOKEN = 8
_MARKUP = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.DOTALL | re.IGNORECASE)


@attrs.define
class Response:
    """A whole answer of the API.

    Attributes:
        status: the HTTP status.
        body: its bytes.
        headers: its headers; their names match in any case.
    """

    status: int
    body: bytes = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(repr=False)

    @property
    def ok(self) -> bool:
        """Say whether the status is a 2xx."""
        return 200 <= self.status < 300

    def without(self, bearer: str) -> Response:
        """Return the answer with the token of `bearer` taken out of its body: some servers quote what they refuse."""
        token = Secret(bearer.removeprefix("Bearer "))
        if len(token) < _LEAST_TOKEN:  # it would be found in any text
            return self
        return attrs.evolve(self, body=self.body.replace(token.encode(), b"***"))


async def read_body(response: aiohttp.ClientResponse) -> MaskedBytes:
    """Read a body: of a 2xx up to a little over `MOST_BODY`, of other responses 64 KiB.

    An error's status matters more than its body, so a body of one that breaks off is returned as far as it came.
    """
    ok = 200 <= response.status < 300
    most = MOST_BODY if ok else _MOST_ERROR_BODY
    buffer = BytesIO()  # unlike a bytearray, it shows no content in tracebacks that print locals
    try:
        while buffer.tell() <= most and buffer.write(await response.content.readany()):
            pass
    except (aiohttp.ClientError, OSError):
        if ok:
            raise
    finally:
        if not response.closed:
            response.close()
    return MaskedBytes(buffer.getvalue() if ok else buffer.getvalue()[:most])


def status_error(answer: Response, method: str, path: str) -> APIStatusError:
    """Make the error that an answer other than a 2xx stands for."""
    detail, findings = _explain(answer.body)
    message = f"{method} {path} answered {answer.status}: {_said(answer, detail)}"
    facts: dict[str, Any] = {
        "status_code": answer.status,
        "method": method,
        "path": path,
        "body": answer.body,
        "detail": detail,
        "request_id": answer.headers.get("X-Request-Id"),
    }
    if answer.status == 422:
        return UnprocessableError(message, errors=findings, **facts)
    if answer.status == 429:
        return RateLimitError(message, retry_after=retry_after(answer.headers), **facts)
    kind = ServerError if 500 <= answer.status < 600 else _KINDS.get(answer.status, APIStatusError)
    return kind(message, **facts)


def _explain(body: bytes) -> tuple[str | None, list[ValidationError]]:
    """Return FastAPI's `detail` as a sentence and, where it is a list of findings, those that can be read."""
    try:
        parsed = codec.parse_json(body)
    except ValueError:
        return None, []
    detail = parsed.get("detail") if isinstance(parsed, dict) else None
    if detail is None or isinstance(detail, str):
        return detail, []
    try:
        findings = codec.structure(detail, list[ValidationError])
    except codec.MismatchError:
        findings = []
    return "; ".join(map(_sentence, findings)) or json.dumps(detail, ensure_ascii=False), findings


def _sentence(finding: ValidationError) -> str:
    place = ".".join(map(str, finding.loc))
    return f"{place}: {finding.msg}" if place else finding.msg


def _said(answer: Response, detail: str | None) -> str:
    said = _printable(detail or _plain(answer.body) or _phrase(answer.status))
    if 300 <= answer.status < 400:
        target = without_query(answer.headers.get("Location", "nowhere"))
        said += f" (to {_printable(target)}; redirects are not followed, for the token would go with them)"
    return said


def _plain(body: bytes) -> str:
    """Return the text of a body that is no JSON of ours, without the tags of HTML or XML."""
    text = body[:8192].decode(errors="replace")
    return " ".join(_MARKUP.sub(" ", text).split())


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no reason given"


def _printable(text: str) -> str:
    cut = text if len(text) <= _MOST_SAID else text[:_MOST_SAID] + "..."
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in cut)
